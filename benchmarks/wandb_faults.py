"""What W&B costs a training, by how its server fails: the share of time in its calls, and seconds at start and end.

Each round trains the same network once without W&B, once offline, once with a server on this machine that works, and
once for each way in which one fails; rounds are interleaved, so that a busy machine is busy for all of them. The share
is that of the training loop spent inside loggers, taken within the process; seconds at the start and the end are those
of the whole command outside of the training loop, the shortest of the rounds, less those without W&B.

    python benchmarks/wandb_faults.py --runs runs/wandb_faults
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from runs import ONE_THREAD, ROOT, finish, table

sys.path.insert(0, str(ROOT / "tests" / "run"))

from wandb_server import FAULTS, serving

START_S, FINISH_S, REST_S = 8, 8, 15
STEADY = 0.05
NONE, OFFLINE, WORKS = "no W&B", "offline", "works"
SITUATIONS = (NONE, OFFLINE, WORKS, *FAULTS)
TRAINING = [
    *ONE_THREAD, "data.root=phantom", "callbacks.progress=null", "model.base_channels=8", "trainer.precision=32-true",
    "data.batch_size=4", "data.patch_size=[128,128]", "callbacks.early_stopping=null",
]  # fmt: skip


@contextlib.contextmanager
def environment(situation: str) -> Iterator[dict[str, str]]:
    """Variables of a situation, and its server while the block runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "RUN_ID"))}
    clean |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore"}
    clean |= {"PYTHONPATH": str(ROOT / "benchmarks"), "SEGLAB_PACKAGES": "logging_clock"}
    if situation in (NONE, OFFLINE):
        yield clean
        return
    with serving(situation, after=30) as server:
        yield clean | server.environment


def train(run_dir: Path, situation: str, epochs: int) -> tuple[int, dict[str, float]]:
    """Exit code, and seconds: around the training loop, in it, in loggers, and of the longest of their calls."""
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    limits = [f"logger.wandb.start_timeout_s={START_S}", f"logger.wandb.finish_timeout_s={FINISH_S}"]
    logger = ["logger=[]"] if situation == NONE else limits
    clock = f"+callbacks.clock={{_target_: logging_clock.LoggingClock, file: '{run_dir}/logging.json'}}"
    command = [sys.executable, str(ROOT / "src/train.py"), *TRAINING, f"trainer.max_epochs={epochs}", clock, *logger]
    with environment(situation) as variables:
        start = time.monotonic()
        done = subprocess.run(
            [*command, f"hydra.run.dir={run_dir}"], env=variables, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - start
    if not (run_dir / "logging.json").is_file():
        raise RuntimeError(done.stdout + done.stderr)
    taken = json.loads((run_dir / "logging.json").read_text())
    return done.returncode, taken | {"around": seconds - taken["training"]}


def measure(runs: Path, epochs: int, rounds: int) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """What `train` gives, for each situation and round."""
    found: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in SITUATIONS}
    for number in range(rounds):
        for situation in SITUATIONS if number % 2 == 0 else reversed(SITUATIONS):
            run_dir = runs / f"{SITUATIONS.index(situation)}-{number}"
            found[situation].append(train(run_dir, situation, epochs))
            print(situation, found[situation][-1], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure, print a table, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/wandb_faults"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    found = measure(asked.runs.resolve(), asked.epochs, asked.rounds)
    plain = min(taken["around"] for _, taken in found[NONE])
    rows, figures = [], {}
    for situation, each in found.items():
        codes = sorted({code for code, _ in each})
        share = median(taken["logging"] / taken["training"] for _, taken in each)
        longest = max(taken["longest"] for _, taken in each)
        delay = min(taken["around"] for _, taken in each) - plain
        shown = [f"{100 * share:.2f} %", f"{1000 * longest:.0f}", f"{delay:+.1f}"]
        rows.append([situation, ", ".join(map(str, codes)), *shown])
        figures[f"{situation}: share"] = (round(share, 4), f"<= {STEADY}", share <= STEADY)
        limit = START_S + FINISH_S + REST_S
        figures[f"{situation}: start and end"] = (round(delay, 1), f"<= {limit} s", delay <= limit)
        figures[f"{situation}: exit code"] = (float(max(codes)), "0", codes == [0])
    header = ["server", "exit code", "share of the training in loggers", "longest call, ms", "s more at start and end"]
    print(table(header, rows))
    finish(figures)


if __name__ == "__main__":
    main()
