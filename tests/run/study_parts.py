"""Small studies; started as a script, one of several processes that work on one: study_parts.py <folder> <name>."""

import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seglab.run.sweeps.search_space import SearchSpace, parse_space
from seglab.run.sweeps.study import SweepStudy
from seglab.run.sweeps.study_outcome import Outcome
from seglab.run.sweeps.study_settings import StudySettings

KNOWN = OmegaConf.create({"width": 16, "dropout": 0.0, "name": "x", "nothing": None, "lr": 1e-3})
NUMBERS = ("a=interval(0.,1.)", "b=tag(log,interval(1e-5,1e-1))")
MIXED = (*NUMBERS, "c=x,y,null", "seed=3")
DEFAULTS: dict[str, Any] = {
    "n_trials": 6,
    "sampler": "random",
    "seed": None,
    "n_startup_trials": 3,
    "objective": ("value",),
    "directions": ("maximize",),
    "storage": None,
    "study_name": None,
    "pruner": "none",
    "pruner_startup_trials": 2,
    "pruner_warmup_epochs": 0,
    "pruner_reduction": 3,
}


def space(*typed: str, **params: str) -> SearchSpace:
    return parse_space(params, typed, KNOWN)


def study(folder: Path, *typed: str, **changed: Any) -> SweepStudy:
    """A sweep's part in a study, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return SweepStudy(StudySettings(**{**DEFAULTS, **changed}), space(*(typed or MIXED)), folder)


def work(folder: Path, name: str) -> None:
    """Run what there is to run of 24 trials; prints number and value of each."""
    one = study(folder / name, storage=f"journal:{folder}/journal", study_name="s", n_trials=24, seed=0)
    while batch := one.next_batch(2):
        for trial in batch:
            one.tell(trial.number, Outcome(values=(trial.params["a"],)))
            sys.stdout.write(f"{trial.number} {trial.params['a']}\n")


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2])
