"""Kills in the middle of a save.

python benchmarks/kills.py --kills 200

A process saves states one after the other and is killed with SIGKILL at a random moment, half of the times with TMPDIR
on another disk (--other). Then every file under a final name must be as it was written and must open, last.ckpt may be
one save behind what was reported as saved at most, and the next save must leave no temporary file. The same is done to
Lightning's own way of writing a few times, to see that the harness finds broken files where there are some.

Goals: 0 broken files, at most 1 save lost, 0 temporary files left.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from seglab.errors import CheckpointError  # noqa: E402
from seglab.run.checkpoints.checkpoint_io import CheckpointFiles  # noqa: E402
from seglab.run.checkpoints.durable import PART  # noqa: E402
from seglab.run.checkpoints.plain import UNREADABLE, read_checkpoint  # noqa: E402

MB = 1_000_000


@dataclass(frozen=True)
class Found:
    """What a kill left behind.

    Args:
        n_broken: files under a final name that are not whole.
        n_lost: saves that were reported and are gone.
        n_parts: temporary files that the kill left, which tells that it came during a save.
        n_stale: temporary files after the next save.
    """

    n_broken: int
    n_lost: int
    n_parts: int
    n_stale: int


def main() -> None:
    """Kill as often as asked for, print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=50, help="size of a state")
    parser.add_argument("--other", type=Path, default=Path("/dev/shm"), help="another disk, for TMPDIR")  # noqa: S108
    parser.add_argument("--control", type=int, default=10, help="kills of Lightning's own saves")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where checkpoints are written")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(given.seed)
    ways = {
        "seglab": (CheckpointFiles, None, given.kills - given.kills // 2),
        "seglab, TMPDIR elsewhere": (CheckpointFiles, given.other, given.kills // 2),
        "Lightning, TMPDIR elsewhere": (TorchCheckpointIO, given.other, given.control),
    }
    found = {name: repeat(*way, given.folder, given.megabytes, rng) for name, way in ways.items()}
    print(f"| {'saved by':27} | kills | in a save | broken | lost | stale |\n|{'---|' * 6}")
    for name, results in found.items():
        in_save = sum(result.n_parts > 0 for result in results)
        sums = [sum(getattr(result, key) for result in results) for key in ("n_broken", "n_stale")]
        lost = max((result.n_lost for result in results), default=0)
        print(f"| {name:27} | {len(results):5} | {in_save:9} | {sums[0]:6} | {lost:4} | {sums[1]:5} |")
    ours = [result for name, results in found.items() if name.startswith("seglab") for result in results]
    finish(ours)


def finish(ours: list[Found]) -> None:
    """Print {name: {value, goal, ok}} as the last line and end with 1 if one falls short."""
    figures = {
        "kills": (len(ours), "> 0", len(ours) > 0),
        "broken_files": (sum(result.n_broken for result in ours), "0", None),
        "saves_lost_at_most": (max(result.n_lost for result in ours), "<= 1", None),
        "temporary_files_left": (sum(result.n_stale for result in ours), "0", None),
    }
    limits = {"broken_files": 0, "saves_lost_at_most": 1, "temporary_files_left": 0}
    checked = {
        name: {"value": value, "goal": goal, "ok": value <= limits[name] if ok is None else ok}
        for name, (value, goal, ok) in figures.items()
    }
    print(json.dumps(checked))
    sys.exit(0 if all(figure["ok"] for figure in checked.values()) else 1)


def repeat(
    writer: type[CheckpointIO],
    other: Path | None,
    n_kills: int,
    place: Path,
    megabytes: int,
    rng: np.random.Generator,
) -> list[Found]:
    """Kill savers that take turns in one folder, as the starts of a run do."""
    results: list[Found] = []
    with tempfile.TemporaryDirectory(dir=place) as name, tempfile.TemporaryDirectory(dir=other) as temporary:
        folder, step = Path(name) / "checkpoints", 0
        folder.mkdir()
        save(writer(), folder, step, megabytes)
        for _ in range(n_kills):
            reported = kill_a_saver(writer, folder, temporary if other else None, step, megabytes, rng)
            result, step = look(folder, writer, reported, megabytes)
            results.append(result)
    return results


def kill_a_saver(
    writer: type[CheckpointIO],
    folder: Path,
    temporary: str | None,
    step: int,
    megabytes: int,
    rng: np.random.Generator,
) -> int:
    """Start a process that saves without end, kill it; the last step that it reported as saved."""
    reader, sender = os.pipe()
    child = os.fork()
    if child == 0:
        tempfile.tempdir = temporary
        files = writer()
        while True:
            step += 1
            save(files, folder, step, megabytes)
            os.write(sender, step.to_bytes(8, "big"))
    os.close(sender)
    reported = int.from_bytes(os.read(reader, 8), "big")
    time.sleep(float(rng.uniform(0, 0.6)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while rest := os.read(reader, 8):
        reported = int.from_bytes(rest, "big")
    os.close(reader)
    return reported


def look(folder: Path, writer: type[CheckpointIO], reported: int, megabytes: int) -> tuple[Found, int]:
    """Check what is there after a kill, and after one save more; the step of that save."""
    steps = {file.name: step_of(file) for file in folder.glob("*.ckpt")}
    n_broken = sum(step is None for step in steps.values())
    n_lost = reported - max((step for step in steps.values() if step is not None), default=0)
    n_parts = len(list(folder.glob(f"{PART}*")))
    save(writer(), folder, reported + 1, megabytes)
    n_broken += sum(step_of(file) is None for file in folder.glob("*.ckpt"))
    return Found(n_broken, max(n_lost, 0), n_parts, len(list(folder.glob(f"{PART}*")))), reported + 1


def step_of(file: Path) -> int | None:
    """The step of a whole checkpoint, None for a broken one."""
    try:
        content = read_checkpoint(file)
        is_whole = bool((content["state_dict"]["w"] == content["global_step"]).all())
    except (CheckpointError, *UNREADABLE):
        return None
    return int(content["global_step"]) if is_whole else None


def save(files: CheckpointIO, folder: Path, step: int, megabytes: int) -> None:
    """Save a state whose weights tell its step."""
    weights = {"w": torch.full((megabytes * MB // 4,), float(step))}
    content = {"seglab": {}, "epoch": step, "global_step": step, "state_dict": weights}
    files.save_checkpoint(content, folder / "last.ckpt")


if __name__ == "__main__":
    main()
