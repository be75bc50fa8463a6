"""Optuna without a seed, trials of two processes each: both train with what was drawn, and end together when behind."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seglab.run.sweeps.search_space import parse_space
from seglab.run.sweeps.study import SweepStudy
from seglab.run.sweeps.study_outcome import Outcome
from seglab.run.sweeps.study_settings import StudySettings
from seglab.run.sweeps.trial import TrialReport

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
TINY = (
    "trainer.accelerator=cpu trainer.threads=1 trainer.precision=32-true trainer.max_epochs=2 trainer.devices=2 "
    "trainer.limit_train_batches=2 trainer.limit_val_batches=1 data.num_workers=0 data.batch_size=2 "
    "data.patch_size=[64,64] model.base_channels=2 callbacks=checkpoint_only logger=csv test=false"
)
SEARCHED = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "seed=interval(0,1000000)"]


def sweep(python: str, folder: Path, n_trials: int, *places: str) -> None:
    """A sweep of two processes per trial, in a study beside its folder."""
    settings = {"n_trials": n_trials, "storage": f"'journal:{folder.parent}/study'", "study_name": "s"}
    settings |= {"pruner": "median", "pruner_startup_trials": 1, "pruner_warmup_epochs": 0}
    chosen = ["hydra/sweeper=optuna", *(f"hydra.sweeper.{name}={value}" for name, value in settings.items())]
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    done = subprocess.run(
        [python, "src/train.py", "-m", *chosen, *SEARCHED, *TINY.split(), *places, f"hydra.sweep.dir={folder}"],
        cwd=ROOT,
        env=env | {"OMP_NUM_THREADS": "1", "NETRC": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def beside(folder: Path, n_trials: int) -> SweepStudy:
    """The same study, as another machine works on it."""
    settings = StudySettings(
        n_trials=n_trials,
        sampler="random",
        seed=None,
        n_startup_trials=10,
        objective=("value",),
        directions=("maximize",),
        storage=f"journal:{folder.parent}/study",
        study_name="s",
        pruner="median",
        pruner_startup_trials=1,
        pruner_warmup_epochs=0,
        pruner_reduction=3,
    )
    folder.mkdir()
    return SweepStudy(settings, parse_space({}, SEARCHED, OmegaConf.create({"optimizer": {"lr": 1e-3}})), folder)


@pytest.mark.ddp
@pytest.mark.timeout(500)
def test_both_processes_of_a_trial_train_with_its_values_and_one_that_is_behind_ends_on_both(
    python: str, crack_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    places = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}"]
    sweep(python, tmp_path / "here", 1, *places)
    study = beside(tmp_path / "there", 2)
    other = study.next_batch(1)[0].number
    TrialReport(f"journal:{tmp_path}/study", "s", other, tmp_path)(0, 0.99)
    study.tell(other, Outcome(values=(0.99,)))
    sweep(python, tmp_path / "here", 3, *places)
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE", "COMPLETE", "PRUNED"]
    for number in (0, 2):
        trial, run_dir = study.trials()[number], tmp_path / "here" / str(number)
        record, result = (json.loads((run_dir / name).read_text()) for name in ("run.json", "result.json"))
        assert record["world_size"] == 2 and record["config"]["seed"] == trial.params["seed"]
        assert record["config"]["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert result["value"] == max(trial.intermediate_values.values()) and result["status"] == "finished"
        assert trial.value == (result["value"] if number == 0 else trial.intermediate_values[0])
        assert list(trial.intermediate_values) == ([0, 1] if number == 0 else [0])
