"""Real sweeps: jobs on one and on two processes, failing jobs, and a sweep that is stopped and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
CPU = ["trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "data.num_workers=0"]
TINY = [*CPU, "model.base_channels=4", "data.batch_size=2", "data.patch_size=[64,64]", "callbacks.progress=null"]

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(500)]


@pytest.fixture
def paths(crack_root: Path, cache_dir: Path, tmp_path: Path) -> list[str]:
    return [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"paths.runs_dir={tmp_path}/runs"]


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No process that was started in this test is left in the end."""
    yield
    assert not processes(tmp_path)


def sweep(*overrides: str, python: str = sys.executable) -> "subprocess.Popen[str]":
    """Start `python src/train.py -m ...` as a user would, in the middle of a run of somebody else."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore"}
    env |= {"WORLD_SIZE": "3", "MASTER_PORT": "1", "CUDA_VISIBLE_DEVICES": ""}
    env |= {"SEGLAB_PACKAGES": "fault_callbacks", "PYTHONPATH": str(ROOT / "tests" / "run")}
    command = [python, "src/train.py", "-m", *TINY, *overrides]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes(place: Path) -> list[str]:
    """Commands of running processes that name a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_text().replace("\0", " "))
        except OSError:
            continue
    return [command for command in found if str(place) in command]


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("nothing_left")
def test_a_sweep_over_one_and_two_processes_that_is_killed_goes_on_without_doing_anything_twice(
    paths: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "runs/grid"
    asked = [*paths, "trainer.devices=1,2", "trainer.limit_train_batches=2", "trainer.max_epochs=2"]
    hold = f"+callbacks.hold={{_target_: fault_callbacks.Hold, step: 3, mark: {tmp_path}/held, n_ranks: 2}}"
    asked += [f"hydra.sweep.dir={folder}", hold]
    first = sweep(*asked)
    while not (tmp_path / "held").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    first.kill()
    first.communicate(timeout=60)
    end = time.monotonic() + 60
    while processes(tmp_path):
        assert time.monotonic() < end, processes(tmp_path)
        time.sleep(0.2)
    assert [read(folder / f"{n}/result.json")["status"] for n in (0, 1)] == ["finished", "stopped"]
    before = {file: file.stat().st_mtime_ns for file in (folder / "0").rglob("*")}

    again = sweep(*asked)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert {file: file.stat().st_mtime_ns for file in (folder / "0").rglob("*")} == before
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1"]
    runs = [read(folder / f"{n}/run.json") for n in (0, 1)]
    assert [run["world_size"] for run in runs] == [1, 2]
    assert [run["run_id"] for run in runs] == ["grid-0", "grid-1"]
    assert "resumed" not in runs[0] and len(runs[1]["resumed"]) == 1
    jobs = read(folder / "sweep.json")
    assert [jobs[n]["status"] for n in "01"] == ["finished", "finished"]
    assert [jobs[n]["value"] for n in "01"] == [read(folder / f"{n}/result.json")["value"] for n in "01"]


@pytest.mark.usefixtures("nothing_left")
def test_ctrl_c_ends_all_processes_of_a_job_and_says_how_to_go_on(paths: list[str], tmp_path: Path) -> None:
    stopped = sweep(*paths, "trainer.devices=2", "seed=1,2", f"hydra.sweep.dir={tmp_path}/grid")
    while not (tmp_path / "grid/0/run.json").exists():
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.1)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == 130 and not processes(tmp_path)
    assert "  stopped   #0\n  waiting   #1\n  go on with: python src/train.py -m" in said


@pytest.mark.usefixtures("nothing_left")
def test_a_job_that_cannot_work_stops_no_other_and_is_named(python: str, paths: list[str], tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=csv"]
    done = sweep(*paths, *short, "trainer.devices=9,1", "hydra.launcher.parallel=2", python=python)
    _, said = done.communicate(timeout=300)
    assert done.returncode == 1 and "Traceback" not in said
    (folder,) = (tmp_path / "runs").iterdir()
    jobs = read(folder / "sweep.json")
    assert [jobs[n]["status"] for n in "01"] == ["failed", "finished"]
    assert (
        "Error: 1 of 2 jobs failed\n  #0 trainer.devices=9: the val split has fewer cases than processes\n"
        f"    log: {folder}/0/job.log\n" in said
    )
    assert read(folder / "1/result.json")["status"] == "finished"


def test_twelve_jobs_killed_in_the_middle_leave_ten_results_and_two_named_failures_and_nothing_is_done_twice(
    tmp_path: Path,
) -> None:
    app = str(ROOT / "tests/run/sweep_app.py")  # its jobs take no time; a=2 fails
    command = [sys.executable, app, str(tmp_path), "a=0,1,2,3,4,5", "b=x,y", "how=fails", "held=3"]
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    folder, starts = tmp_path / "sweep", tmp_path / "sweep/starts.txt"
    first = subprocess.Popen(command, **options, start_new_session=True)
    while not starts.exists() or len(starts.read_text().split()) < 7:
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    end = time.monotonic() + 60
    while processes(folder):
        assert time.monotonic() < end, processes(folder)
        time.sleep(0.1)
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/result.json")}
    assert sorted(file.parent.name for file in before) == ["0", "1", "2", "3"]

    (folder / "go").touch()
    again = subprocess.run(command, **options, check=False)
    jobs = read(folder / "sweep.json")
    done = {number for number, job in jobs.items() if job["status"] == "finished"}
    failed = [number for number, job in jobs.items() if job["status"] == "failed"]
    assert len(jobs) == 12 and len(done) == 10 and failed == ["4", "5"]
    assert (
        again.returncode == 1 and "Error: 2 of 12 jobs failed\n  #4 a=2 b=x: ValueError: a is too large" in again.stderr
    )
    assert "  #5 a=2 b=y: ValueError: a is too large" in again.stderr
    assert {file.parent.name for file in folder.glob("*/result.json")} == done
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert Counter(starts.read_text().split()) == {"0": 2, "1": 2, "2": 4, "3": 3, "4": 2, "5": 2}
