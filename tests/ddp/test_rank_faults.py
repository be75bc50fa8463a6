"""One process of two fails, is killed or hangs: both are gone within a minute, and the cause is said."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seglab.run.watch import is_alive

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "data.num_workers=0",
    "model.base_channels=2", "data.batch_size=2", "data.patch_size=[32,32]", "trainer.max_epochs=3",
    "trainer.limit_train_batches=2", "trainer.devices=2", "trainer.timeout_s=15", "logger=csv", "test=false",
]  # fmt: skip
FAULT = '''
"""A callback that spoils the second epoch of one process."""

import os, signal, time
from lightning import Callback


class Fault(Callback):
    def __init__(self, kind, rank):
        self.kind, self.rank = kind, rank

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.current_epoch == 1:
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "hangs":
                self.wait_for_nothing()

    def on_validation_start(self, trainer, task):
        if trainer.global_rank == self.rank and trainer.current_epoch == 1 and self.kind == "fails":
            raise RuntimeError("the disk of this machine sings")

    def wait_for_nothing(self):
        time.sleep(1000)
'''

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    ("kind", "rank", "said"),
    [
        ("killed", 1, "process 1 (pid"),
        ("killed", 0, ""),  # nobody is left to say it on rank 0
        ("hangs", 1, "process 1 hangs in fault_callback.py"),
        ("fails", 1, "process 1 failed: RuntimeError: the disk of this machine sings"),
    ],
)
def test_all_processes_end_within_a_minute_and_say_why(
    kind: str, rank: int, said: str, crack_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "fault_callback.py").write_text(FAULT, encoding="utf-8")
    run_dir, log = tmp_path / "runs" / "faulty", tmp_path / "log"
    paths = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"paths.runs_dir={tmp_path / 'runs'}"]
    fault = f"+callbacks.fault={{_target_: fault_callback.Fault, kind: {kind}, rank: {rank}}}"
    own = {"SEGLAB_PACKAGES": "fault_callback", "PYTHONPATH": str(tmp_path), "RUN_ID": "faulty", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "src/train.py", *TINY, *paths, fault]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stdout=stream, stderr=stream)
        while not (run_dir / "checkpoints" / "last.ckpt").is_file() and process.poll() is None:
            time.sleep(0.2)
        pids = [json.loads((run_dir / "ranks" / f"{each}.json").read_text())["pid"] for each in (0, 1)]
        start = time.monotonic()
        code = process.wait(timeout=90)
        while any(map(is_alive, pids)) and time.monotonic() - start < 90:
            time.sleep(0.2)
    assert time.monotonic() - start < 60 and not any(map(is_alive, pids))
    assert code != 0 and said in log.read_text()
    if said:
        result = json.loads((run_dir / "result.json").read_text())
        assert result["status"] == "failed" and said in result["error"]
    content = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["epoch"] == 0 and all(tensor.isfinite().all() for tensor in content["state_dict"].values())
