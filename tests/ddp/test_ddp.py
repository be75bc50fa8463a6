"""Several processes: one run folder, one W&B run, the same numbers as one process, and no hanging on errors."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seglab.run.tracking.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
CPU = ["trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "data.num_workers=0"]
TINY = [*CPU, "model.base_channels=4", "data.batch_size=2", "data.patch_size=[64,64]", "trainer.max_epochs=2"]
Job = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def job(python: str) -> Job:
    """Runs `python <command>` as a user would from the root of the project."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore"}

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [python, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240
        )

    return run


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def paths(crack_root: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    runs = tmp_path_factory.mktemp("runs")
    return [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"paths.runs_dir={runs}"]


@pytest.fixture(scope="module")
def two_rank_run(job: Job, paths: list[str]) -> Path:
    """A run on two processes, whose test split has an even number of cases."""
    done = job("src/train.py", *TINY, *paths, "trainer.devices=2", "trainer.limit_train_batches=2")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = list(Path(paths[2].partition("=")[2]).iterdir())
    assert len(folders) == 1, "all processes share one folder"
    return folders[0]


def test_a_run_on_two_processes_leaves_one_folder_and_one_wandb_run(two_rank_run: Path) -> None:
    record = read(two_rank_run / "run.json")
    assert record["world_size"] == 2 and record["run_id"] == two_rank_run.name
    assert len(list(two_rank_run.glob("wandb/*run-*/*.wandb"))) == 1
    assert read(two_rank_run / "result.json")["status"] == "finished"
    assert len([row for row in read_metrics(two_rank_run) if "train/loss" in row]) == 2, "rank 0 alone writes"
    kept = ["best.ckpt", "last.ckpt", "manifest.json", "previous.ckpt"]
    assert sorted(file.name for file in (two_rank_run / "checkpoints").iterdir()) == kept
    assert len((two_rank_run / "cases.csv").read_text().splitlines()) == 9


def test_one_and_two_processes_score_a_checkpoint_alike_to_the_last_digit(
    job: Job, two_rank_run: Path, tmp_path: Path
) -> None:
    found = []
    for devices in (1, 2):
        output = tmp_path / str(devices)
        done = job("src/evaluate.py", f"run={two_rank_run}", f"output={output}", f"trainer.devices={devices}", *CPU)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append((read(output / "metrics.json"), (output / "cases.csv").read_text()))
    assert found[0] == found[1] and len(found[0][1].splitlines()) == 1 + 8
    tested = read(two_rank_run / "metrics.json")
    assert {name: found[0][0][name] for name in tested} == tested, "and as the test after training"


def test_torchrun_shares_one_folder_and_another_number_of_processes_resumes(
    job: Job, paths: list[str], tmp_path: Path
) -> None:
    runs = [*paths[:2], f"paths.runs_dir={tmp_path}"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    short = ["trainer.limit_train_batches=2", "test=false"]
    done = job(*launcher, "src/train.py", *TINY, *runs, *short, "trainer.devices=2", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = list(tmp_path.iterdir())
    assert len(folders) == 1 and len(list(folders[0].glob("wandb/*run-*/*.wandb"))) == 1
    done = job("src/train.py", f"resume={folders[0]}", "trainer.max_epochs=2", "trainer.devices=1", "test=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(folders[0] / "result.json")["status"] == "finished" and list(tmp_path.iterdir()) == folders


def test_what_cannot_work_ends_at_once_on_all_processes(job: Job, paths: list[str]) -> None:
    start = time.monotonic()
    done = job("src/train.py", *TINY, *paths, "trainer.devices=5")
    assert done.returncode == 1 and time.monotonic() - start < 60
    assert done.stderr.count("Error: the val split has fewer cases than processes") == 1
    assert "Traceback" not in done.stderr and "fix:     set trainer.devices=4" in done.stderr


def test_several_devices_are_refused_in_a_sweep_whose_jobs_share_a_process(job: Job, paths: list[str]) -> None:
    done = job("src/train.py", "-m", "hydra/launcher=basic", *TINY, *paths, "trainer.devices=2", "seed=1,2")
    assert done.returncode != 0 and "fix:     set hydra/launcher=process" in done.stderr + done.stdout


def test_both_stages_of_a_distillation_run_on_two_processes_in_one_command(
    job: Job, paths: list[str], tmp_path: Path
) -> None:
    runs = [*paths[:2], f"paths.runs_dir={tmp_path}", "logger=csv", "trainer.devices=2"]
    short = ["trainer.limit_train_batches=2", "trainer.max_epochs=1"]
    teacher = ["task=distillation", "model@first.model=unet", "first.model.base_channels=2"]
    done = job("src/train.py", *TINY, *runs, *short, *teacher)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = list(tmp_path.iterdir())
    assert len(folders) == 1, "all processes share one folder"
    for folder, width in ((folders[0], 4), (folders[0] / "first", 2)):
        record = read(folder / "run.json")
        assert record["world_size"] == 2 and record["config"]["model"]["base_channels"] == width
        assert read(folder / "result.json")["status"] == "finished"
        assert len([row for row in read_metrics(folder) if "train/loss" in row]) == 1
        assert len((folder / "cases.csv").read_text().splitlines()) == 9
    assert done.stdout.count("second stage") == 1


def test_a_network_with_parameters_that_plain_training_leaves_aside_runs_on_two_processes(
    job: Job, paths: list[str], tmp_path: Path
) -> None:
    runs = [*paths[:2], f"paths.runs_dir={tmp_path}", "logger=csv", "trainer.devices=2"]
    short = ["trainer.limit_train_batches=2", "test=false"]
    done = job("src/train.py", *TINY, *runs, *short, "model=bottleneck_head_unet", "task=segmentation")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.iterdir()
    assert read(folder / "result.json")["status"] == "finished" and read(folder / "run.json")["world_size"] == 2
