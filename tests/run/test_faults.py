"""What may happen to a training: it saves what it can, says what it was, and goes on from there as if nothing had."""

import fcntl
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_jobs import composed, read
from wandb_log import read_wandb

from seglab.callbacks.finite import FiniteGuard
from seglab.callbacks.stop import SIGNALS, Stopped
from seglab.errors import CheckpointError, ConfigError, TrainingError
from seglab.run.fit import fit
from seglab.run.folder import is_occupied, latest_run, occupied
from seglab.run.ids import run_dir as folder_of
from seglab.run.tracking.metrics_file import read_metrics

Train = Callable[..., dict[str, float]]
PLAN = [
    "trainer.max_epochs=2", "trainer.limit_train_batches=4", "trainer.log_every_n_steps=1", "model.dropout=0.2",
    "callbacks.images=null", "logger=[]", "test=false",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_callbacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEGLAB_PACKAGES", "fault_callbacks")
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before, "a run puts the handlers back"


def kick(number: str, hook: str, **more: Any) -> str:
    return fault("Kick", number=number, hook=hook, **more)


def fault(name: str, **arguments: Any) -> str:
    target = {"_target_": f"fault_callbacks.{name}"}
    listed = ", ".join(f"{key}: {value}" for key, value in (target | arguments).items())
    return f"+callbacks.fault={{{listed}}}"


def resume(run_dir: Path, *overrides: str) -> dict[str, float]:
    return fit(composed("train", [f"resume={run_dir}", "+callbacks.fault=null", *overrides], run_dir))


def last(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    return content


def names(run_dir: Path) -> set[str]:
    return {file.name for file in (run_dir / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Filled by the first test that trains to the end without a fault."""
    return {"folder": tmp_path_factory.mktemp("straight") / "run"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "hook", "done", "step"),
    [
        ("SIGTERM", "on_train_batch_end", 2, 2),
        ("SIGUSR1", "on_validation_batch_end", 4, 4),
        ("SIGINT", "on_save_checkpoint", 4, 4),
        ("SIGTERM", "on_train_epoch_end", 8, 8),
    ],
)
def test_a_signal_saves_the_last_step_and_a_resume_equals_never_having_stopped(
    number: str, hook: str, done: int, step: int, train: Train, straight: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(Stopped) as caught:
        train(tmp_path, *PLAN, kick(number, hook, step=done, times=2))
    assert caught.value.code == 128 + getattr(signal, number)
    assert read(tmp_path / "result.json") == {"status": "stopped", "signal": number, "step": step}
    assert last(tmp_path)["global_step"] == step
    if not straight["folder"].exists():
        straight["scores"] = train(straight["folder"], *PLAN)
    assert resume(tmp_path) == straight["scores"] and read(tmp_path / "result.json")["status"] == "finished"
    one, two = (last(folder)["state_dict"] for folder in (straight["folder"], tmp_path))
    assert all(torch.equal(one[key], two[key]) for key in one)
    clock = {"time"}
    rows = [
        [{k: v for k, v in row.items() if k not in clock} for row in read_metrics(d)]
        for d in (straight["folder"], tmp_path)
    ]
    assert rows[0] == rows[1], "no row is lost or counted twice"


def test_gradients_that_wait_for_a_step_are_finished_first(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, *PLAN, "trainer.accumulate_grad_batches=2", kick("SIGTERM", "on_train_batch_end", step=0))
    content = last(tmp_path)
    assert content["global_step"] == 1 and content["cursor"]["batch"] == 2


@pytest.mark.slow
def test_a_signal_in_the_test_loses_nothing_and_the_resume_tests(train: Train, tmp_path: Path) -> None:
    overrides = [*PLAN[:-2], "logger.wandb.mode=offline", kick("SIGINT", "on_test_batch_end")]
    with pytest.raises(Stopped) as caught:
        train(tmp_path, *overrides)
    assert caught.value.code == 130 and not (tmp_path / "metrics.json").exists()
    assert read_wandb(tmp_path).exit_code == 130, "W&B is closed"
    assert "test/dice/mean" in resume(tmp_path) and last(tmp_path)["global_step"] == 8


@pytest.mark.slow
def test_an_error_leaves_the_last_checkpoint_as_it_was(train: Train, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="grad"):
        train(tmp_path, *PLAN, fault("Break", step=6))
    assert last(tmp_path)["global_step"] == 4 and names(tmp_path) == {"best.ckpt", "last.ckpt", "manifest.json"}
    result = read(tmp_path / "result.json")
    assert result["status"] == "failed" and "RuntimeError" in result["error"]


def test_a_callback_whose_state_could_not_be_resumed_is_named_at_the_first_save(train: Train, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not plain data") as caught:
        train(tmp_path, *PLAN, fault("Odd"))
    assert caught.value.given == "callbacks.Odd.inner.1 (torch.nn.modules.linear.Identity)" and not names(tmp_path)


@pytest.mark.parametrize(
    "where", ["gradient", *(pytest.param(where, marks=pytest.mark.slow) for where in ("image", "loss"))]
)
def test_a_nan_ends_the_training_at_its_step_names_the_cases_and_is_never_saved(
    where: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="not finite") as caught:
        train(tmp_path, *PLAN, fault("Poison", where=where, step=5))
    assert "step 6 of epoch 1" in caught.value.given and "cases photo_" in caught.value.given
    assert f"resume={tmp_path}" in caught.value.fix and read(tmp_path / "result.json")["status"] == "failed"
    for name in ("best", "last"):
        content = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["global_step"] == 4
        assert all(value.isfinite().all() for value in content["state_dict"].values())


@pytest.mark.slow
def test_a_nan_at_the_last_step_before_a_save_is_not_saved_either(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(tmp_path, *PLAN, fault("Poison", where="gradient", step=7))
    assert last(tmp_path)["global_step"] == 4


@pytest.mark.slow
def test_bad_steps_within_the_patience_are_left_out(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patient = "callbacks.finite.patience=3"
    train(tmp_path, *PLAN, patient, fault("Poison", where="gradient", step=5, times=2))
    assert "bad step 2 of 3 left out" in caplog.text and last(tmp_path)["global_step"] == 8
    assert all(value.isfinite().all() for value in last(tmp_path)["state_dict"].values())


@pytest.mark.slow
def test_a_rollback_goes_on_from_the_last_checkpoint_with_a_lower_rate_until_it_gives_up(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    back = ["callbacks.finite.on_nan=rollback", "scheduler=constant", "optimizer.lr=0.01"]
    train(tmp_path / "a", *PLAN, *back, fault("Poison", where="image", step=5))
    assert "back to step 4 with learning rate 0.005, rollback 1 of 2" in caplog.text
    content = last(tmp_path / "a")
    assert content["global_step"] == 8 and content["callbacks"]["FiniteGuard"]["n_rollbacks"] == 1
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.005)
    assert all(value.isfinite().all() for value in content["state_dict"].values())
    with pytest.raises(TrainingError, match="not finite") as caught:
        train(tmp_path / "b", *PLAN, *back, fault("Poison", where="image", step=5, times=3))
    assert "2 rollback(s)" in caught.value.allowed and last(tmp_path / "b")["global_step"] == 4
    with pytest.raises(TrainingError, match="not finite") as caught:
        train(tmp_path / "c", *PLAN, *back, fault("Poison", where="image", step=1))
    assert "no checkpoint yet" in caught.value.fix and "resume=" not in caught.value.fix


def test_a_training_whose_time_is_up_before_its_first_score_says_so_and_tests_nothing(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, *PLAN, "test=true", "trainer.max_time=00:00:00:00")
    assert "max_time=00:00:00:00 is up after step 0, in epoch 0 of 2; start again" in caplog.text
    assert read(tmp_path / "result.json")["status"] == "finished", "there was nothing to test yet"


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"on_nan": "hope"}, {"lr_factor": 2.0}, {"retries": -1}])
def test_a_guard_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="guard against NaN"):
        FiniteGuard("run", **wrong)


def made_run(folder: Path, *, status: str | None = None, checkpoint: bool = True, changed: float) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    if checkpoint:
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"x")
    if status:
        (folder / "result.json").write_text(json.dumps({"status": status}))
    for file in [folder / "run.json", *folder.glob("checkpoints/*")]:
        os.utime(file, (changed, changed))
    return folder


def test_resume_latest_is_the_newest_run_that_can_go_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to go on with") as caught:
        folder_of(str(tmp_path), "latest")
    assert "0 run(s)" in caught.value.given
    made_run(tmp_path / "old", changed=100)
    wanted = made_run(tmp_path / "sweep-x" / "3", status="failed", changed=200)
    made_run(tmp_path / "done", status="finished", changed=300)
    made_run(tmp_path / "stillborn", checkpoint=False, changed=400)
    assert latest_run(tmp_path, "me") == wanted
    made_run(tmp_path / "stopped", status="stopped", changed=500)
    assert latest_run(tmp_path, "me") == wanted, "asked again in the same start, the answer is the same"
    assert latest_run(tmp_path, "later") == tmp_path / "stopped"


def test_a_run_folder_takes_one_process_at_a_time(tmp_path: Path) -> None:
    made_run(tmp_path / "run", changed=100)
    child = os.fork()
    if child == 0:  # another process that trains there, for as long as the test holds the gate
        with occupied(tmp_path / "run", "other"):
            (tmp_path / "in").touch()
            while not (tmp_path / "out").exists():
                pass
        os._exit(0)
    while not (tmp_path / "in").exists():
        pass
    assert is_occupied(tmp_path / "run", "me") and not is_occupied(tmp_path / "run", "other")
    with pytest.raises(ConfigError, match="another process trains"), occupied(tmp_path / "run", "me"):
        pass
    with pytest.raises(ConfigError, match="no run to go on with"):
        latest_run(tmp_path, "a")
    (tmp_path / "out").touch()
    os.waitpid(child, 0)
    assert latest_run(tmp_path, "b") == tmp_path / "run"
    with occupied(tmp_path / "run", "me"):
        pass


def test_a_disk_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with occupied(tmp_path, "me"):
        assert not is_occupied(tmp_path, "other")


@pytest.mark.slow
def test_a_lost_metrics_file_is_said_once_and_stops_nothing(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with caplog.at_level(logging.WARNING):
        train(tmp_path, *PLAN)
    assert caplog.text.count("MetricsFile fails, the training goes on") == 1
    assert read(tmp_path / "result.json")["status"] == "finished"
