"""Two processes: a run that was cut within an epoch ends, on both of them, as if it had never been."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seglab.run.tracking.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
PLAN = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "trainer.devices=2",
    "data.patch_size=[32,32]", "data.batch_size=2", "data.num_workers=2", "model.base_channels=2", "model.n_poolings=2",
    "model.dropout=0.2", "callbacks=[checkpoint_only,ema]", "callbacks.ema.decay=0.7", "callbacks.last.every_n_steps=1",
    "trainer.max_epochs=2", "trainer.limit_train_batches=5", "trainer.accumulate_grad_batches=2",
    "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1", "logger=[]", "test=false",
]  # fmt: skip

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(300)]


def started(python: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore"}
    env |= {"SEGLAB_PACKAGES": "photograph", "PYTHONPATH": str(Path(__file__).parent)}
    command = [python, "src/train.py", *overrides]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240)


def job(python: str, *overrides: str) -> None:
    done = started(python, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr


def witness(folder: Path) -> str:
    return f"+callbacks.witness={{_target_: photograph.Witness, folder: {folder}}}"


def said(folder: Path) -> list[Any]:
    """What the processes wrote, in the order of ranks."""
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def end(run_dir: Path) -> Any:
    """What a run ends with; tensors as bytes."""
    last, best = (torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    parts = ("state_dict", "ema", "optimizer_states", "lr_schedulers", "cursor", "global_step")
    log = [{name: value for name, value in row.items() if name != "time"} for row in read_metrics(run_dir)]
    return plain([[state[part] for part in parts] for state in (last, best)] + [log, last["seglab"]["train_loss"]])


def plain(value: Any) -> Any:
    """Data that can be compared with ==, to the last bit."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else repr(value)


@pytest.fixture(scope="module")
def paths(crack_root: Path, cache_dir: Path) -> list[str]:
    return [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}"]


@pytest.fixture(scope="module")
def whole(python: str, paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes with two workers each that were never stopped: run, witness, and a photograph of the run."""
    folder = tmp_path_factory.mktemp("whole")
    photograph = f"+callbacks.photograph={{_target_: photograph.Photograph, step: 4, copy: {folder / 'cut'}}}"
    job(python, *PLAN, *paths, f"hydra.run.dir={folder / 'run'}", photograph, witness(folder / "witness"))
    return folder


def test_two_processes_go_on_within_an_epoch_as_if_never_stopped(python: str, whole: Path, tmp_path: Path) -> None:
    cut = whole / "cut"
    content = torch.load(cut / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["cursor"]["epoch"], content["cursor"]["batch"], content["global_step"]) == (1, 2, 4)
    means = [rows for name, rows in content["cursor"]["buffers"].items() if name.endswith("running_mean")]
    assert any(not torch.equal(*rows) for rows in means), "within an epoch the processes differ"

    job(python, f"resume={cut}", "data.num_workers=0", "+callbacks.photograph=null", witness(tmp_path))
    assert end(cut) == end(whole / "run")
    first, second = said(whole / "witness")
    assert len(first["seeds"]) == 10 and not set(first["seeds"]) & set(second["seeds"]), "each has noise of its own"
    assert [one[0] for one in first["hashes"]] == [two[0] for two in second["hashes"]], "and all have the same weights"
    for before, after in zip((first, second), said(tmp_path), strict=True):
        assert after["seeds"] == before["seeds"][7:] and after["hashes"] == before["hashes"][1:]


def test_two_processes_with_a_worker_each_that_are_killed_within_an_epoch_lose_nothing(
    python: str, whole: Path, paths: list[str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    kill = "+callbacks.kill={_target_: photograph.Kill, step: 5}"
    done = started(sys.executable, *PLAN, "data.num_workers=1", *paths, f"hydra.run.dir={run_dir}", kill)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    left = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["cursor"]
    assert left["epoch"] == 1 and 0 < left["batch"] < 5

    job(python, f"resume={run_dir}", "+callbacks.kill=null", witness(tmp_path / "witness"))
    assert end(run_dir) == end(whole / "run")
    for before, after in zip(said(whole / "witness"), said(tmp_path / "witness"), strict=True):
        assert after["seeds"] == before["seeds"][5 + left["batch"] :] and after["hashes"] == before["hashes"][1:]
