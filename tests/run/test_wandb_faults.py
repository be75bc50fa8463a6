"""A W&B server that refuses, fails, hangs or disappears: the run is the same, ends in time, and can be sent later."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_jobs import TINY_CRACK, clean_environment, read
from wandb_log import read_wandb
from wandb_server import FAULTS, serving

ROOT = Path(__file__).resolve().parents[2]
START_S, FINISH_S = 4, 4
REST_S = 60
"""What may be on top of the two: letting go of wandb's process, and the noise of a busy machine; W&B itself waits 90 s
for a server at the start, and for ever at the end."""
PATIENT = "logger.wandb.start_timeout_s=60"
"""Of runs whose server answers at the start, however late on a busy machine."""
SHORT = [
    *TINY_CRACK, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.log_every_n_steps=1",
    f"logger.wandb.start_timeout_s={START_S}", f"logger.wandb.finish_timeout_s={FINISH_S}",
]  # fmt: skip
Start = Callable[..., tuple["subprocess.CompletedProcess[str]", float]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def start(python: str, crack_root: Path, cache_dir: Path) -> Start:
    """start(run_dir, *overrides, **environment) trains in a process; gives how that ended, and its seconds."""

    def run(run_dir: Path, *overrides: str, **environment: str) -> tuple["subprocess.CompletedProcess[str]", float]:
        where = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"hydra.run.dir={run_dir}"]
        with clean_environment():
            env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | environment
        begin = time.monotonic()
        done = subprocess.run(
            [python, "src/train.py", *SHORT, *where, *overrides],
            cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        return done, time.monotonic() - begin

    return run


@pytest.fixture(scope="module")
def offline(start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run without a server, and its seconds."""
    run_dir = tmp_path_factory.mktemp("offline") / "run"
    done, seconds = start(run_dir)
    assert done.returncode == 0, done.stderr
    return run_dir, seconds


def weights(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_with_a_failing_server_is_the_run_without_one(
    fault: str, start: Start, offline: tuple[Path, float], tmp_path: Path
) -> None:
    is_online = fault in ("lost", "mute")
    with serving(fault) as server:
        done, seconds = start(tmp_path / "run", *([PATIENT] if is_online else []), **server.environment)
        assert server.operations or fault == "dead"
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert seconds < offline[1] + START_S + FINISH_S + REST_S
    expected, found = weights(offline[0]), weights(tmp_path / "run")
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert read(tmp_path / "run" / "metrics.json") == read(offline[0] / "metrics.json")
    said = [line for line in (tmp_path / "run" / "train.log").read_text().splitlines() if "wandb sync" in line]
    assert len(said) == 1 and ("wandb login" in said[0]) is (fault == "refuses"), said

    (file,) = (tmp_path / "run" / "wandb").glob(f"{'' if is_online else 'offline-'}run-*/*.wandb")
    with serving() as server:  # later, when all is well again
        sent = subprocess.run(
            [f"{Path(sys.executable).parent}/wandb", "sync", "--no-skip-online", str(file.parent)],
            env=os.environ | server.environment, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    rows = {key for row in server.rows for key in row}
    assert {"train/loss", "val/dice/mean", "test/dice/crack", "best/epoch"} <= rows
    assert {"model-run/best.ckpt", "report-run/metrics.json", "split-run/split.json", "pictures-run/test.png"} <= {
        name.removeprefix("artifact/") for name in server.uploads
    }
    assert [name for name in server.uploads if "media/table/test/cases" in name]
    assert server.uploads["artifact/model-run/best.ckpt"] == (tmp_path / "run/checkpoints/best.ckpt").read_bytes()


def test_a_server_that_works_gets_everything_while_the_run_goes_on(start: Start, tmp_path: Path) -> None:
    with serving() as server:
        done, _ = start(tmp_path / "run", PATIENT, "logger.wandb.finish_timeout_s=60", **server.environment)
    assert done.returncode == 0 and "wandb sync" not in (tmp_path / "run" / "train.log").read_text()
    assert "test/case_dice/crack" in {key for row in server.rows for key in row}
    assert {"CreateArtifact", "CommitArtifact", "NotifyScriptableRunAlert"} <= set(server.operations)
    assert "artifact/model-run/best.ckpt" in server.uploads
    assert not list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_nothing_of_the_run_is_missing_in_the_file_of_a_server_that_fell_silent(start: Start, tmp_path: Path) -> None:
    with serving("mute", after=2) as server:
        done, _ = start(tmp_path / "run", PATIENT, **server.environment)
    assert done.returncode == 0, done.stderr
    log = read_wandb(tmp_path / "run", pattern="run-*")
    assert log.exit_code == 0 and log.artifact("model").files and log.table("test/cases")["data"]
