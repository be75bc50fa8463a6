"""Signals from outside, to a whole group of processes or to one of them, end a run in order and lose nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
TINY = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "trainer.max_epochs=2",
    "trainer.limit_train_batches=6", "trainer.log_every_n_steps=1", "trainer.timeout_s=60", "data.num_workers=0",
    "model.base_channels=2", "data.batch_size=2", "data.patch_size=[32,32]", "callbacks.images=null", "test=false",
]  # fmt: skip

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(300)]


@pytest.fixture
def start(crack_root: Path, cache_dir: Path, tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """start(*overrides) trains as a user would, in a process group of its own; the run folders lie in tmp_path."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "SEGLAB_PACKAGES": "fault_callbacks"}
    env |= {"PYTHONPATH": str(ROOT / "tests" / "run"), "PYTHONWARNINGS": "ignore"}
    paths = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"paths.runs_dir={tmp_path}"]

    def run(*overrides: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "src/train.py", *(paths[2:] if "resume=latest" in overrides else paths), *overrides]
        log = (tmp_path / "log").open("a")
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    return run


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def wait_for(found: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it has ended too early"


def ended(process: "subprocess.Popen[str]", tmp_path: Path, within_s: float = 120) -> int:
    start = time.monotonic()
    try:
        return process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"still there after {time.monotonic() - start:.0f} s:\n{(tmp_path / 'log').read_text()[-3000:]}")


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    return {**content["state_dict"], "step": torch.tensor(content["global_step"])}


def the_run(tmp_path: Path) -> Path:
    (run_dir,) = (file.parent for file in tmp_path.glob("*/run.json"))
    return run_dir


def test_sigterm_to_all_processes_of_a_run_with_loaders_saves_and_resume_latest_finishes_it(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    whole = start(*TINY, "data.num_workers=2", f"hydra.run.dir={tmp_path}/whole", "logger=[]")
    assert ended(whole, tmp_path) == 0, (tmp_path / "log").read_text()
    (tmp_path / "whole").rename(tmp_path / "whole-aside")
    expected = weights(tmp_path / "whole-aside")
    (tmp_path / "whole-aside" / "run.json").unlink()

    hold = f"+callbacks.hold={{_target_: fault_callbacks.Hold, step: 2, mark: {tmp_path}/held}}"
    process = start(*TINY, "data.num_workers=2", "trainer.limit_val_batches=1", hold)
    wait_for((tmp_path / "held").exists, process)
    told = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    assert ended(process, tmp_path, 60) == 143, (tmp_path / "log").read_text()
    assert time.monotonic() - told < 30
    run_dir = the_run(tmp_path)
    result = read(run_dir / "result.json")
    assert result["status"] == "stopped" and result["signal"] == "SIGTERM"
    assert weights(run_dir)["step"] == result["step"] == 2
    assert ended(start("resume=latest"), tmp_path) == 0, (tmp_path / "log").read_text()
    assert read(run_dir / "result.json")["status"] == "finished" and len(read(run_dir / "run.json")["resumed"]) == 1
    found = weights(run_dir)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not list(run_dir.glob("checkpoints/.part-*"))


def test_ctrl_c_twice_saves_and_ends_with_130(start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    process = start(*TINY, "logger=[]", "trainer.max_epochs=500")
    wait_for(lambda: any(tmp_path.glob("2*/checkpoints/last.ckpt")), process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert ended(process, tmp_path, 60) == 130
    run_dir = the_run(tmp_path)
    assert read(run_dir / "result.json")["signal"] == "SIGINT" and weights(run_dir)["step"] > 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("hook", "rank", "step"),
    [("on_train_batch_end", 1, 8), ("on_validation_batch_end", 1, 6), ("on_test_batch_end", 0, 12)],
)
def test_a_signal_to_one_process_of_two_stops_both_within_a_minute(
    hook: str, rank: int, step: int, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    kick = (
        f"+callbacks.kick={{_target_: fault_callbacks.Kick, number: SIGTERM, hook: {hook}, step: {step}, rank: {rank}}}"
    )
    begun = time.monotonic()
    process = start(*TINY, "trainer.devices=2", "test=true", "trainer.limit_train_batches=6", "logger=[]", kick)
    assert ended(process, tmp_path, 150) == 143, (tmp_path / "log").read_text()
    run_dir = the_run(tmp_path)
    assert time.time() - (run_dir / "checkpoints" / "last.ckpt").stat().st_mtime < 60 and begun
    assert read(run_dir / "result.json") == {"status": "stopped", "signal": "SIGTERM", "step": step}
    assert weights(run_dir)["step"] == step
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_nan_on_one_process_of_two_ends_both_and_names_its_cases(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    poison = "+callbacks.poison={_target_: fault_callbacks.Poison, where: loss, step: 8, rank: 1}"
    process = start(*TINY, "trainer.devices=2", "logger=[]", poison)
    assert ended(process, tmp_path, 150) == 1, (tmp_path / "log").read_text()
    error = read(the_run(tmp_path) / "result.json")["error"]
    assert "step 9 of epoch 1: loss nan on process 1 with cases photo_" in error
    assert weights(the_run(tmp_path))["step"] == 6


def test_the_death_of_wandb_s_helper_process_stops_no_training(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    kill = "+callbacks.kill={_target_: fault_callbacks.KillWandb, step: 3}"
    process = start(*TINY, "logger.wandb.mode=offline", "logger.wandb.finish_timeout_s=10", kill)
    assert ended(process, tmp_path, 150) == 0, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert log.count("W&B fails, the training goes on without it") == 1
    assert "W&B's process died during the run" in log and "Traceback" not in log
    assert read(the_run(tmp_path) / "result.json")["status"] == "finished" and weights(the_run(tmp_path))["step"] == 12
