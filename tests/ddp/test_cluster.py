"""One cluster job for each run: taken away in the middle and put into the queue again, it ends as if never stopped."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("submitit")

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
TINY = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "trainer.max_epochs=2",
    "trainer.limit_train_batches=6", "trainer.timeout_s=60", "data.num_workers=0", "model.base_channels=2",
    "data.batch_size=2", "data.patch_size=[32,32]", "callbacks.images=null", "callbacks.progress=null", "test=false",
    "trainer.limit_val_batches=1", "logger=csv",
]  # fmt: skip
SUBMITIT = ["-m", "hydra/launcher=submitit", "hydra.launcher.signal_delay_s=20"]

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(400)]


@pytest.fixture
def run(crack_root: Path, cache_dir: Path, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """run(*overrides) trains as a user of a cluster of one machine would."""
    for name in ("sbatch", "srun", "scontrol", "scancel", "sacct"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\n{(HERE / 'fake_slurm.py').read_text()}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(HERE)}
    env |= {"SEGLAB_PACKAGES": "preempt", "FAKE_SLURM": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    paths = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}"]

    def start(*overrides: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "src/train.py", *overrides, *paths],
            cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    return start


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    return {**content["state_dict"], "step": torch.tensor(content["global_step"])}


def taken_away(commands: dict[int, str], marks: Path) -> str:
    what = f"steps: {list(commands)}, commands: {list(commands.values())}, marks: {marks}"
    return f"+callbacks.preempt={{_target_: preempt.Preempt, {what}}}"


def check_is_whole(sweep: Path, plain: Path, n_resumed: int) -> None:
    """The run of a sweep is what one that was never stopped is."""
    run_dir = sweep / "0"
    assert read(run_dir / "result.json")["status"] == "finished"
    assert len(read(run_dir / "run.json")["resumed"]) == n_resumed
    found, expected = weights(run_dir), weights(plain)
    assert int(found["step"]) == 12 and all(torch.equal(found[key], expected[key]) for key in expected)
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == [".submitit", "0"]


def test_a_slurm_job_of_two_processes_is_preempted_and_reaches_its_limit_and_ends_bit_for_bit_the_same(
    run: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    done = run(*TINY, "trainer.devices=2", f"hydra.run.dir={tmp_path}/plain")
    assert done.returncode == 0, done.stdout + done.stderr
    preempted = "scancel 1001 --signal SIGTERM && scancel 1001 --signal USR2"
    fault = taken_away({3: preempted, 8: "scancel 1001 --signal USR2"}, tmp_path)
    places = [
        "hydra.launcher.timeout_min=30",
        "+hydra.launcher.extra.constraint=a100",
        f"hydra.sweep.dir={tmp_path}/s",
    ]
    done = run(*SUBMITIT, *places, *TINY, "trainer.devices=2", fault)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "starts").read_text().split() == ["start"] * 3
    assert (tmp_path / "signals").read_text().split() == ["SIGTERM", "USR2", "USR2"]
    check_is_whole(tmp_path / "s", tmp_path / "plain", 2)
    record = read(tmp_path / "s/0/run.json")
    assert record["world_size"] == 2 and sorted(path.name for path in (tmp_path / "s/0/ranks").iterdir()) == [
        "0.json", "1.json"
    ]  # fmt: skip
    batch = (tmp_path / "batch.sh").read_text()
    for line in ("--ntasks-per-node=2", "--nodes=1", "--signal=USR2@20", "--time=30", "--constraint=a100"):
        assert f"#SBATCH {line}\n" in batch
    assert "gpus" not in batch, "trainer.accelerator=cpu asks for none"


def test_the_local_executor_stops_and_goes_on_too_and_names_a_job_that_fails(
    run: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    done = run(*TINY, "trainer.devices=1", f"hydra.run.dir={tmp_path}/plain")
    assert done.returncode == 0, done.stdout + done.stderr
    fault = taken_away({5: "kill -USR2 PARENT"}, tmp_path)
    local = ["hydra.launcher.executor=local", f"hydra.sweep.dir={tmp_path}/s"]
    done = run(*SUBMITIT, *local, *TINY, "trainer.devices=1", fault, "data.val_fraction=0.2,7")
    assert done.returncode == 1
    check_failure = "#1 data.val_fraction=7: "
    assert f"1 of 2 jobs failed\n  {check_failure}" in done.stderr and "log: " in done.stderr
    failed = tmp_path / "s" / "1"
    failed.rename(tmp_path / "failed")
    check_is_whole(tmp_path / "s", tmp_path / "plain", 1)
