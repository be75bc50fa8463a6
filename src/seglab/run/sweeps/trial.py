"""A run that is a trial of a study: what it tells the study while it trains."""

import logging
from pathlib import Path
from typing import Any

import optuna
from lightning import Callback
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from seglab.callbacks.pruning import Pruning
from seglab.errors import ConfigError
from seglab.run.sweeps.study import TERMS
from seglab.run.sweeps.study_storage import new_pruner, open_storage

log = logging.getLogger("seglab")

LOST = (ConfigError, OSError, KeyError, ValueError, optuna.exceptions.OptunaError)
"""What is raised when the storage cannot be reached, or the study or the trial is not there."""


class TrialReport:
    """Tells a study how far a trial has come, and asks whether it is to go on.

    Trouble with the storage never ends a training: it is said once, and the training goes on alone.

    Args:
        storage: address, None for a journal in `sweep_dir`.
        name: of the study.
        number: of the trial.
        sweep_dir: folder of the sweep.
    """

    def __init__(self, storage: str | None, name: str, number: int, sweep_dir: Path) -> None:
        self.storage, self.name, self.number, self.sweep_dir = storage, name, number, sweep_dir
        self.opened: tuple[BaseStorage, optuna.Study, int] | None = None
        self.is_on = True

    def __call__(self, epoch: int, value: float) -> bool:
        """Report the value of an epoch, once; whether the training is to stop."""
        if not self.is_on:
            return False
        try:
            self.opened = self.opened or self._open()
            storage, study, trial_id = self.opened
            trial = storage.get_trial(trial_id)
            self.is_on = trial.state == TrialState.RUNNING and len(study.directions) == 1
            if not self.is_on:
                return False
            if epoch not in trial.intermediate_values:
                storage.set_trial_intermediate_value(trial_id, epoch, value)
            is_behind = bool(study.pruner.prune(study, storage.get_trial(trial_id)))
        except LOST as error:
            self.is_on = False
            reason = str(error).partition("\n")[0]
            log.warning(f"the study of trial {self.number} is out of reach, the training goes on alone: {reason}")
            return False
        if is_behind:
            log.info(f"trial {self.number} is behind the others after epoch {epoch}")
        return is_behind

    def _open(self) -> tuple[BaseStorage, optuna.Study, int]:
        storage = open_storage(self.storage, self.sweep_dir)
        study = optuna.load_study(study_name=self.name, storage=storage)
        study.pruner = new_pruner(study.user_attrs[TERMS]["pruner"])
        study_id = storage.get_study_id_from_name(self.name)
        return storage, study, storage.get_trial_id_from_study_id_trial_number(study_id, self.number)


def pruning(study: dict[str, Any], run_dir: Path) -> Callback:
    """The callback of a run that is a trial.

    Args:
        study: node of the configuration.
        run_dir: folder of the run, below that of its sweep.
    """
    return Pruning(TrialReport(study["storage"], study["name"], study["trial"], run_dir.parent))
