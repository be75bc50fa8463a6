"""What the processes of a sweep really had and saw: Hydra and Lightning as they are, and seglab, side by side.

python benchmarks/sweep_truth.py --runs runs/sweep-truth

Four sweeps, typed in the same words into both: plain_app.py with Hydra's own launcher, and src/train.py on synthetic
cracks. A callback (plain_witness.py) writes down on each process its learning rate, the samples it was given, its
folder and its weights; 20 samples are what a job has to see. The plain Optuna sweep takes hydra-optuna-sweeper with the
Optuna that it needs, installed into the folder of the runs, or plain_sweeper/ where that fails, which is said.

The last line says {name: {value, goal, ok}}.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import ROOT, finish, table

from seglab.data.phantoms import cracks
from seglab.run.ids import fresh_environment

HERE = ROOT / "benchmarks"
N_SAMPLES = 20
PLAIN_OPTUNA = ("hydra-optuna-sweeper==1.3.0", "optuna==2.10.1")
TINY = (
    "data.batch_size=5 data.num_workers=0 model.base_channels=2 scheduler=constant callbacks=checkpoint_only "
    "logger=csv test=false trainer.accelerator=cpu trainer.threads=1 trainer.precision=32-true trainer.max_epochs=1 "
    "trainer.limit_val_batches=1"
)
LEAVE_S = 20.0
"""Time for processes to end after the sweep itself."""


@dataclass(frozen=True)
class Situation:
    """One sweep.

    Args:
        title: for the table.
        typed: after -m, the same for both ways.
        devices: processes of each job.
        failing: number of the job that is to fail, None for none.
    """

    title: str
    typed: tuple[str, ...]
    devices: tuple[int, ...]
    failing: int | None = None


SEARCHED = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "optimizer.lr=tag(log,interval(1e-4,1e-1))")
SITUATIONS = {
    "optuna": Situation("Optuna without a seed, 2 processes", (*SEARCHED, "trainer.devices=2"), (2, 2)),
    "devices": Situation("`trainer.devices=1,2`", ("trainer.devices=1,2",), (1, 2)),
    "failing": Situation(
        "job 0 fails on one of 2 processes", ("trainer.devices=2", "callbacks.witness.fails=true,false"), (2, 2), 0
    ),
    "grid": Situation("a grid, 2 processes", ("trainer.devices=2", "optimizer.lr=0.01,0.001"), (2, 2)),
}
WAYS = ("plain", "seglab")


@dataclass(frozen=True)
class Job:
    """What the processes of a job wrote down.

    Args:
        rates: learning rate of each process.
        samples: that all processes together were given.
        weights: hashes of the weights in the end, of each process that came there.
    """

    rates: list[float]
    samples: list[str]
    weights: list[str]

    def faults(self, n_processes: int) -> list[str]:
        """What is wrong with a job that is said to be done."""
        checks = {
            "not done": not self.weights,
            f"{len(self.rates)} of {n_processes} processes": len(self.rates) != n_processes,
            "learning rates differ": not self.has_equal_rates,
            f"{len(set(self.samples))} of {N_SAMPLES} samples": not self.saw_all_once,
            "weights differ in the end": len(set(self.weights)) > 1,
        }
        found = [text for text, is_so in checks.items() if is_so]
        return found[:1] if not self.weights else found

    @property
    def has_equal_rates(self) -> bool:
        """Whether all processes trained with the same."""
        return len(set(self.rates)) == 1

    @property
    def saw_all_once(self) -> bool:
        """Whether each sample was seen by one process, once."""
        return len(self.samples) == len(set(self.samples)) == N_SAMPLES


@dataclass(frozen=True)
class Outcome:
    """How a sweep went.

    Args:
        code: exit code, None if it had to be killed.
        seconds: that it took.
        jobs: what was typed, in that order; empty where no process came to train.
        n_folders: that its processes worked in.
        n_left: processes that outlived it.
    """

    code: int | None
    seconds: float
    jobs: list[Job]
    n_folders: int
    n_left: int

    def judge(self, situation: Situation) -> tuple[str, list[str]]:
        """The verdict, and what speaks for it."""
        faults: dict[str, list[str]] = {}
        for number, (job, n_processes) in enumerate(zip(self.jobs, situation.devices, strict=True)):
            for fault in job.faults(n_processes) if number != situation.failing else []:
                faults.setdefault(fault, []).append(str(number))
        found = [f"job {' and '.join(numbers)}: {fault}" for fault, numbers in faults.items()]
        told = self.code != 0
        if told != (situation.failing is not None):
            found.append(f"exit code {self.code}, and no job was to fail" if told else "the failed job is not told")
        notes = [f"{self.n_folders} folders"] * (self.n_folders > len(self.jobs))
        notes += [f"{self.n_left} processes are left"] * (self.n_left > 0)
        if self.code is None:
            return "hangs", [f"killed after {self.seconds:.0f} s", *found, *notes]
        return ("right" if not found else "fails" if told else "wrong in silence"), found + notes


def run(way: str, situation: Situation, folder: Path, places: Sequence[str], path: str, timeout: float) -> Outcome:
    """Run one sweep.

    Args:
        way: plain or seglab.
        situation: what is typed.
        folder: new, for all that it writes.
        places: overrides for seglab: its data.
        path: folder in which the plain way finds its Optuna sweeper.
        timeout: seconds after which it is killed.
    """
    folder.mkdir(parents=True)
    file = folder / "seen.jsonl"
    if way == "plain":
        command = [str(HERE / "plain_app.py"), "-m", f"callbacks.witness.file={file}"]
    else:
        witness = f"+callbacks.witness={{_target_: plain_witness.Witness, file: {file}, fails: false}}"
        command = [str(ROOT / "src/train.py"), "-m", *TINY.split(), *places, witness, f"hydra.sweep.dir={folder}/sweep"]
    own = {"OMP_NUM_THREADS": "1", "SEGLAB_PACKAGES": "plain_witness", "CUDA_VISIBLE_DEVICES": ""}
    own["PYTHONPATH"] = os.pathsep.join([str(HERE), path] if way == "plain" else [str(HERE)])
    environment, start = fresh_environment(dict(os.environ)) | own, time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, *situation.typed],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = ended(process, timeout)
    seconds = time.monotonic() - start
    n_left = clear(folder, LEAVE_S)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    folders = {line["folder"] for line in lines}
    jobs = [job_of(lines, number) for number in range(len(situation.devices))]
    return Outcome(code, seconds, jobs, len(folders), n_left if code is not None else 0)


def ended(process: "subprocess.Popen[bytes]", timeout: float) -> int | None:
    """The exit code; None when it takes too long: then the whole process group is killed."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def clear(folder: Path, wait_s: float) -> int:
    """Wait for processes whose command names a folder, kill those that do not end; the number of the killed."""
    end = time.monotonic() + wait_s
    while (left := naming(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def naming(folder: Path) -> list[int]:
    """Processes whose command names a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [int(file.parent.name)] * (str(folder) in file.read_text())
        except OSError:  # it has ended since
            continue
    return found


def job_of(lines: Sequence[dict[str, Any]], number: int) -> Job:
    """What the processes of a job wrote down."""
    starts, ends = ([line for line in lines if line["job"] == number and line["at"] == at] for at in ("start", "end"))
    samples = [sample for line in ends for sample in line["samples"]]
    return Job([line["rate"] for line in starts], samples, [line["weights"] for line in ends])


def plain_sweeper(work: Path) -> tuple[str, str]:
    """Folder of an Optuna sweeper for the plain way, and what it is."""
    folder = work / "hydra-optuna-sweeper"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=0"]
    command += ["--no-deps", "--upgrade", f"--target={folder}", *PLAIN_OPTUNA]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return str(folder), " with ".join(PLAIN_OPTUNA)
    return str(HERE / "plain_sweeper"), f"plain_sweeper/, because {PLAIN_OPTUNA[0]} cannot be installed"


def row(situation: Situation, way: str, outcome: Outcome) -> list[str]:
    """A line of the table; what belongs to different jobs stands on both sides of a stroke."""
    rates = " / ".join(", ".join(f"{rate:.3g}" for rate in job.rates) or "-" for job in outcome.jobs)
    samples = " / ".join(str(len(set(job.samples))) if job.weights else "-" for job in outcome.jobs)
    code = "-" if outcome.code is None else str(outcome.code)
    verdict, reasons = outcome.judge(situation)
    folders = f"{outcome.n_folders} for {len(outcome.jobs)}"
    return [situation.title, way, rates, samples, code, folders, verdict, "; ".join(reasons)]


def figures(names: Sequence[str], outcomes: dict[tuple[str, str], Outcome]) -> dict[str, tuple[Any, str, bool]]:
    """What seglab did, against its goals; and that the plain way was seen to go wrong, or nothing has been shown."""
    ours = [(SITUATIONS[name], outcomes[name, "seglab"]) for name in names]
    jobs = [pair for situation, outcome in ours for pair in zip(outcome.jobs, situation.devices, strict=True)]
    done = [job for situation, outcome in ours for n, job in enumerate(outcome.jobs) if n != situation.failing]
    shares = {
        "jobs_with_equal_learning_rates": [job.has_equal_rates for job, _ in jobs],
        "jobs_on_as_many_processes_as_asked": [len(job.rates) == n for job, n in jobs],
        "jobs_that_saw_each_sample_once": [job.saw_all_once for job in done],
        "jobs_with_equal_weights": [len(set(job.weights)) == 1 for job in done],
        "sweeps_with_the_right_exit_code": [
            outcome.code is not None and bool(outcome.code) == (situation.failing is not None)
            for situation, outcome in ours
        ],
        "sweeps_with_a_folder_for_each_job": [outcome.n_folders == len(s.devices) for s, outcome in ours],
    }
    found: dict[str, tuple[Any, str, bool]] = {
        name: (sum(held) / len(held), "1.0", all(held)) for name, held in shares.items()
    }
    n_left = sum(outcome.n_left for _, outcome in ours)
    found["processes_left"] = (n_left, "0", n_left == 0)
    seen = [name for name in names if outcomes[name, "plain"].judge(SITUATIONS[name])[0] != "right"]
    is_seen = bool(seen) or names == ["grid"]
    return found | {"plain_ways_not_right": (len(seen), ">= 1, or the witness sees nothing", is_seen)}


def main() -> None:
    """Run the sweeps both ways, print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep-truth"), help="a new folder")
    parser.add_argument("--only", nargs="+", choices=SITUATIONS, default=list(SITUATIONS))
    parser.add_argument("--timeout", type=float, default=300, help="seconds to a hang; more on a busy machine")
    given = parser.parse_args()
    work = given.runs.resolve()
    if work.exists():
        parser.error(f"{work} exists; remove it, or choose another with --runs")
    cracks.write(work / "photos", n_photos=8)
    places = [f"data.root={work}/photos", f"paths.cache_dir={work}/cache"]
    path, sweeper = plain_sweeper(work) if "optuna" in given.only else ("", "not needed")
    outcomes = {}
    for name in given.only:
        for way in WAYS:
            outcomes[name, way] = run(way, SITUATIONS[name], work / f"{name}-{way}", places, path, given.timeout)
            print(f"{name}, {way}: {outcomes[name, way].seconds:.0f} s", file=sys.stderr)
    header = ["sweep", "way", "learning rates", f"samples of {N_SAMPLES}", "exit code", "folders", "verdict", "because"]
    print(table(header, [row(SITUATIONS[name], way, outcome) for (name, way), outcome in outcomes.items()]))
    print(f"\nOptuna in the plain way: {sweeper}")
    finish(figures(given.only, outcomes))


if __name__ == "__main__":
    main()
