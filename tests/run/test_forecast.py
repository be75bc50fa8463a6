"""check=true: a few real steps, a forecast, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from seglab.errors import SeglabError
from seglab.run.engine import Engine
from seglab.run.forecast import Forecast, forecast_table

Train = Callable[..., dict[str, float]]
NUMBERS = {"step_s": 0.5, "wait_s": 0.1, "samples_per_s": 80.0, "epoch_s": 60.0, "total_s": 7200.0}
SIZES = {"memory_bytes": 2**30, "parameters": 1234, "checkpoint_bytes": 2**30, "free_bytes": 2**31}


def test_a_few_steps_are_taken_and_no_run_is_left(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert train(folder, "check=true", "trainer.max_epochs=7") == {}
    said = capsys.readouterr().out
    assert "judged by 6 steps on one process" in said and "whole training" in said and "samples/s" in said
    assert not folder.exists()


@pytest.mark.slow
def test_both_stages_are_tried(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = ["task=distillation", "model@first.model=unet", "first.model.base_channels=4"]
    train(tmp_path / "run", "check=true", *teacher)
    assert capsys.readouterr().out.count("judged by 6 steps") == 2


def test_what_would_stop_the_training_stops_the_check(train: Train, tmp_path: Path) -> None:
    with pytest.raises(SeglabError):
        train(tmp_path / "run", "check=true", "callbacks.checkpoint.monitor=val/nothing")


def test_a_disk_that_is_too_small_is_said() -> None:
    console = Console(width=200, record=True)
    console.print(forecast_table(Forecast(**NUMBERS, **SIZES), Engine(max_time="00:01:00:00")))
    said = console.export_text()
    assert "too little" in said and "2.0 h, ends at 00:01:00:00" in said and "1,234 parameters" in said
