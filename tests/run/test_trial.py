"""A run that is a trial of a study ends early when it falls behind, and ends as a run should."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_jobs import read
from study_parts import study
from wandb_log import read_wandb

from seglab.run.sweeps.study_outcome import PRUNED, Outcome, outcome_of
from seglab.run.sweeps.trial import TrialReport


@pytest.mark.slow
def test_a_trial_that_is_behind_is_a_finished_run_without_a_test_and_closed_in_wandb(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    one = study(tmp_path, pruner="median")
    for done in one.next_batch(3):
        assert TrialReport(None, one.name, done.number, tmp_path)(0, 0.99) is False
        one.tell(done.number, Outcome(values=(0.99,)))
    trial = one.next_batch(1)[0]
    run_dir = tmp_path / str(trial.number)
    short = ["trainer.max_epochs=3", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"]
    train(run_dir, *short, *one.overrides(trial)[-2:])
    result = read(run_dir / "result.json")
    assert result["status"] == "finished" and result["pruned"] is True and result["best/epoch"] == 0
    assert result["value"] == one.study.trials[trial.number].intermediate_values[0] < 0.99
    assert not (run_dir / "metrics.json").exists() and (run_dir / "checkpoints/last.ckpt").is_file()
    log = read_wandb(run_dir)
    assert log.exit_code == 0 and [row["pruned"] for row in log.history if "pruned" in row] == [1]
    assert outcome_of(result, ["value"]) == PRUNED
