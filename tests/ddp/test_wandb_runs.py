"""A sweep without a network, each job on two processes: one W&B run for a job, and all of it in the job's folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from wandb_log import offline_files, read_wandb  # noqa: E402

FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
TINY = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "trainer.devices=2",
    "trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.num_workers=0", "data.batch_size=2",
    "data.patch_size=[64,64]", "model.base_channels=4", "callbacks.progress=null", "hydra/launcher=process",
]  # fmt: skip

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(400)]


def test_three_jobs_on_two_processes_each_leave_three_runs_of_one_group_with_all_that_a_dashboard_shows(
    python: str, crack_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "sweep-three"
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    paths = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"hydra.sweep.dir={folder}"]
    tags = "logger.wandb.tags=[mine]"
    done = subprocess.run(
        [python, "src/train.py", "-m", *TINY, *paths, tags, "seed=0,1,2"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=380,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("*.wandb"))) == 3, "one for each job, none for a second process"
    for seed in range(3):
        run_dir = folder / str(seed)
        assert len(offline_files(run_dir)) == 1
        log = read_wandb(run_dir)
        assert (log.run_id, log.group, log.job_type, log.exit_code) == (
            f"sweep-three-{seed}",
            "sweep-three",
            "train",
            0,
        )
        assert log.config["seed"] == seed and log.config["trainer"]["devices"] == 2
        assert set(log.tags) == {"UNet", "crack", "mine"} and log.alerts == []
        pictured = {key.removesuffix(".all_masks") for key in log.logged() if key.endswith(".all_masks")}
        assert {key.partition("/")[0] for key in pictured} == {"val_images", "test_images"}
        for key in pictured:
            layers = log.layers(key)
            assert sorted(layers) == ["error", "ground_truth", "prediction"]
            assert all(file.is_file() and run_dir in file.parents for file in layers.values())
        table = log.table("test/cases")
        tested = json.loads((run_dir / "run.json").read_text())["n_cases"]["test"]
        assert len(table["data"]) == tested == len((run_dir / "cases.csv").read_text().splitlines()) - 1
        scores = json.loads((run_dir / "metrics.json").read_text())
        assert log.summary["test/case_dice/crack"] == pytest.approx(scores["test/case_dice/crack"], rel=1e-6)
        files = [Path(file) for artifact in log.artifacts for file in artifact.files.values()]
        assert files and all(file.is_file() and run_dir in file.parents for file in files)
