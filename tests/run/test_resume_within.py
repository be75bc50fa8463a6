"""Resume within an epoch: a run that was cut at any place of it ends as if it had never been."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_jobs import TINY_CRACK, composed
from stop_at import PowerCut

from seglab.run.catalogue import CONF
from seglab.run.checkpoints.checkpoint import load_task
from seglab.run.evaluate import evaluate
from seglab.run.fit import fit
from seglab.run.tracking.metrics_file import read_metrics

Train = Callable[..., dict[str, float]]
EMA = ["callbacks=[default,ema]", "callbacks.ema.decay=0.7", "callbacks.ema.start_step=1"]
SMALL = ["data.patch_size=[32,32]", "model.base_channels=2", "logger=[]", "callbacks.images=null", "test=false"]
PLAN = [
    *SMALL,
    *EMA,
    "callbacks.last.every_n_steps=1",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=5",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1",
]
UNET = ["model.n_poolings=2", "model.dropout=0.2"]
TASKS = {
    "adversarial": [*UNET, "task=adversarial", "task.base_channels=2", "task.n_layers=2"],
    "implicit": ["model=implicit_unet", "task=implicit", "task.n_points=64"],
    "distillation": [
        *UNET,
        "task=distillation",
        "model@first.model=unet",
        "first.model.base_channels=2",
        "first.max_epochs=1",
    ],
}
pytestmark = [pytest.mark.slow]


@pytest.fixture(autouse=True)
def own_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_PACKAGES", "stop_at,fault_callbacks")


def cut(epoch: int, batch: int, validates: bool = False) -> str:
    return f"+callbacks.cut={{_target_: stop_at.StopAt, epoch: {epoch}, batch: {batch}, validates: {validates}}}"


def resume(run_dir: Path, *overrides: str) -> None:
    torch.manual_seed(12345)
    fit(composed("train", [f"resume={run_dir}", "+callbacks.cut=null", *overrides], run_dir))


def end(run_dir: Path) -> dict[str, Any]:
    """Everything that a run ends with, by name; tensors as bytes."""
    last, best = (torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    parts = ("state_dict", "ema", "optimizer_states", "lr_schedulers", "cursor", "global_step")
    counts = ("scores", "best_model_score", "wait_count", "best_score")
    found = {
        **{f"last.{part}": last[part] for part in parts},
        **{f"best.{part}": best[part] for part in parts},
        **{name: {key: state.get(key) for key in counts} for name, state in last["callbacks"].items()},
        "sums": last["seglab"]["train_loss"],
        "log": [{name: value for name, value in row.items() if name != "time"} for row in read_metrics(run_dir)],
    }
    return {name: plain(value) for name, value in found.items()}


def plain(value: Any) -> Any:
    """Data that can be compared with ==, to the last bit."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value)


def assert_same_end(one: Path, two: Path) -> None:
    first, second = end(one), end(two)
    assert [name for name in first if first[name] != second.get(name)] == [] and first.keys() == second.keys()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs it trains without a cut."""
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.mark.parametrize("n_workers", [0, 1, 2])
@pytest.mark.parametrize("place", [(0, 2), (1, 3), (1, 0, True)], ids=["gradient waits", "second epoch", "validation"])
def test_a_cut_changes_nothing_whatever_the_workers_before_and_after(
    place: tuple[Any, ...], n_workers: int, train: Train, whole: Path, tmp_path: Path
) -> None:
    if not whole.exists():
        train(whole, *PLAN, *UNET)
    with pytest.raises(PowerCut):
        train(tmp_path, *PLAN, *UNET, f"data.num_workers={n_workers}", cut(*place))
    resume(tmp_path, f"data.num_workers={2 - n_workers}")
    assert_same_end(whole, tmp_path)


def test_a_process_with_one_worker_that_is_killed_within_an_epoch_loses_nothing(
    train: Train, whole: Path, crack_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    if not whole.exists():
        train(whole, *PLAN, *UNET)
    kick = "+callbacks.cut={_target_: fault_callbacks.Kick, number: SIGKILL, hook: on_train_batch_end, step: 5}"
    given = [*TINY_CRACK, *PLAN, *UNET, "data.num_workers=1", kick, f"hydra.run.dir={tmp_path}"]
    command = [sys.executable, str(CONF.parent / "src" / "train.py"), *given, f"data.root={crack_root}"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, f"paths.cache_dir={cache_dir}"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    left = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["cursor"]
    assert left["epoch"] == 1 and 0 < left["batch"] < 5
    resume(tmp_path, "data.num_workers=1")
    assert_same_end(whole, tmp_path)


@pytest.mark.parametrize("task", TASKS)
def test_every_way_of_training_goes_on_exactly(task: str, train: Train, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    plan = [*PLAN, *TASKS[task], "trainer.limit_val_batches=1"]
    train(whole, *plan)
    with pytest.raises(PowerCut):
        train(parts, *plan, cut(1, 3))  # a first stage of one epoch ends before
    resume(parts)
    assert_same_end(whole, parts)


def test_the_averages_are_what_is_scored_kept_and_opened(train: Train, tmp_path: Path) -> None:
    scores = train(tmp_path, *PLAN, *UNET, "test=true")
    file = tmp_path / "checkpoints" / "best.ckpt"
    content, opened = torch.load(file, weights_only=True), load_task(file).state_dict()
    assert all(torch.equal(opened[name], value) for name, value in content["state_dict"].items())
    assert any(not torch.equal(opened[f"net.{name}"], value) for name, value in content["ema"]["trained"].items())
    again = evaluate(composed("evaluate", [f"run={tmp_path}", "split=val", "trainer.accelerator=cpu"], tmp_path))
    assert again["test/dice/mean"] == pytest.approx(scores["best/val/dice/mean"], rel=1e-6)
