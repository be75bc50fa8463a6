"""A study that several sweeps may share: which trial comes next, and how each ended.

A study has `n_trials` slots. A slot belongs to the first trial of its number that was not dropped, and slots are
written together with their trial, so processes that ask at the same moment find out from the storage alone which of
them may go on: no lock is needed, and no more trials than slots are ever run.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from hydra.core.override_parser.types import Quote, QuotedString
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from seglab.errors import ConfigError
from seglab.files import write_text
from seglab.run.sweeps.search_space import SearchSpace
from seglab.run.sweeps.study_outcome import Outcome, check_objective, outcome_of
from seglab.run.sweeps.study_settings import StudySettings
from seglab.run.sweeps.study_storage import new_pruner, new_sampler, open_storage, pruner_terms
from seglab.run.sweeps.sweep_record import Job, read_result

log = logging.getLogger("seglab.sweep")

TERMS = "seglab"
"""Attribute of the study: what all its processes must agree on."""
SLOT, SWEEP, DROPPED, ERROR, FOLDER = "slot", "sweep", "dropped", "error", "folder"
"""Attributes of a trial: its slot, the sweep that runs it, why it does not count, why it failed, where it ran."""
STRAY = timedelta(minutes=1)
"""A trial of a shared study that no sweep has claimed for so long lost its process between two writes."""


class SweepStudy:
    """A study, as one sweep works on it.

    Args:
        settings: of the study.
        space: what is searched.
        sweep_dir: folder of this sweep, in which no other process is at work.

    Raises:
        ConfigError: the storage cannot be opened, or the study there is another one.
    """

    def __init__(self, settings: StudySettings, space: SearchSpace, sweep_dir: Path) -> None:
        self.settings, self.space, self.sweep_dir = settings, space, sweep_dir
        self.name = settings.study_name or ("sweep" if settings.storage is None else sweep_dir.resolve().name)
        self.points = space.grid() if settings.sampler == "grid" else None
        self.n_slots = settings.n_trials if self.points is None else min(settings.n_trials, len(self.points))
        _check_numbers(settings, space)
        self.sweep_id = _own_id(sweep_dir)
        self.storage = open_storage(settings.storage, sweep_dir)
        self.study = optuna.create_study(
            study_name=self.name,
            storage=self.storage,
            pruner=new_pruner(pruner_terms(settings)),
            directions=[StudyDirection[direction.upper()] for direction in settings.directions],
            load_if_exists=True,
        )
        self._agree()

    def next_batch(self, size: int) -> list[FrozenTrial]:
        """Trials to run now, each claimed for this sweep: first those that it left unfinished, then new ones.

        Args:
            size: at most so many; none when no trial of the study is left for this sweep.
        """
        batch = self._unfinished()[:size]
        while len(batch) < size and (trial := self._ask()) is not None:
            batch.append(trial)
        return batch

    def tell(self, number: int, outcome: Outcome) -> None:
        """Note how a trial ended; a value that is no finite number is a failure.

        Args:
            number: of the trial.
            outcome: how it ended.
        """
        if outcome.error is not None:
            self._note(number, ERROR, outcome.error)
            self.study.tell(number, state=TrialState.FAIL)
        elif outcome.values is None:
            log.info(f"trial {number} was pruned")
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, list(outcome.values))

    def outcome(self, job: Job, folder: Path) -> Outcome:
        """How a trial ended.

        Args:
            job: of the trial, not running.
            folder: of the job.

        Raises:
            ConfigError: the first job of the study that has a result has no such objective, so none will.
        """
        if job.status != "finished":
            return Outcome(error=f"{job.error}; see {folder / 'job.log'}")
        result = read_result(folder)
        if not any(trial.values for trial in self.trials()):
            check_objective(self.settings.objective, result)
        return outcome_of(result, self.settings.objective)

    def check_folder(self, jobs: Iterable[Job]) -> None:
        """Refuse the folder of another sweep.

        Args:
            jobs: that are known there.

        Raises:
            ConfigError: jobs there are not of this study.
        """
        if any(f"study.name={_quoted(self.name)}" not in job.overrides for job in jobs):
            raise ConfigError(
                "the folder holds the jobs of another sweep",
                given=f"hydra.sweep.dir={self.sweep_dir}",
                allowed="a new folder, or that of this study",
                fix="leave hydra.sweep.dir out, or type what the sweep there was begun with",
            )

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study that count, by slot."""
        holders = self._holders()
        return [holders[slot] for slot in sorted(holders)]

    def is_own(self, trial: FrozenTrial) -> bool:
        """Whether this sweep ran a trial."""
        return bool(trial.user_attrs.get(SWEEP) == self.sweep_id)

    def overrides(self, trial: FrozenTrial) -> list[str]:
        """What to type for a trial as a job of this sweep."""
        shared = [] if self.settings.storage is None else [f"study.storage={_quoted(self.settings.storage)}"]
        names = [*shared, f"study.name={_quoted(self.name)}", f"study.trial={trial.number}"]
        return [*self.space.overrides(trial.params), *names]

    def _unfinished(self) -> list[FrozenTrial]:
        """Trials that this sweep left when it was stopped; those that had not been drawn completely are dropped."""
        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            is_stray = SWEEP not in trial.user_attrs and self._is_abandoned(trial)
            if is_stray or (self.is_own(trial) and not self._is_drawn(trial)):
                self._drop(trial.number, "its sweep was stopped before it began")
            elif self.is_own(trial):
                found.append(trial)
        return found

    def _ask(self) -> FrozenTrial | None:
        while True:
            holders = self._holders()
            free = [slot for slot in range(self.n_slots) if slot not in holders]
            waits = any(one.state == TrialState.WAITING and slot < self.n_slots for slot, one in holders.items())
            if not free and not waits:
                return None
            if not waits:
                point = {} if self.points is None else self.points[free[0]]
                self.study.enqueue_trial(point, user_attrs={SLOT: free[0]})
            trial = self.study.ask()
            trial.set_user_attr(SWEEP, self.sweep_id)
            slot = trial.user_attrs.get(SLOT, self.n_slots)
            if slot < self.n_slots and self._holders()[slot].number == trial.number:
                return self._drawn(trial)
            self._drop(trial.number, "another process had the same slot")

    def _drawn(self, trial: Trial) -> FrozenTrial:
        self.study.sampler = new_sampler(self.settings, trial.number)
        for key, one in self.space.distributions.items():
            match one:
                case FloatDistribution():
                    trial.suggest_float(key, one.low, one.high, step=one.step, log=one.log)
                case IntDistribution():
                    trial.suggest_int(key, one.low, one.high, step=one.step, log=one.log)
                case CategoricalDistribution():
                    trial.suggest_categorical(key, one.choices)
        self._note(trial.number, FOLDER, str(self.sweep_dir.resolve() / str(trial.number)))
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _holders(self) -> dict[int, FrozenTrial]:
        """By slot, the first trial of that slot that was not dropped."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if SLOT in trial.user_attrs and DROPPED not in trial.user_attrs:
                found.setdefault(trial.user_attrs[SLOT], trial)
        return found

    def _is_drawn(self, trial: FrozenTrial) -> bool:
        return FOLDER in trial.user_attrs and DROPPED not in trial.user_attrs

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        age = datetime.now() - (trial.datetime_start or datetime.now())
        return self.settings.storage is None or age > STRAY

    def _drop(self, number: int, reason: str) -> None:
        self._note(number, DROPPED, reason)
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _note(self, number: int, name: str, value: str) -> None:
        study_id = self.storage.get_study_id_from_name(self.name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self.storage.set_trial_user_attr(trial_id, name, value)

    def _agree(self) -> None:
        """Write down what the study is, or see that it is what is wanted here."""
        wanted = _terms(self.settings, self.space)
        known = self.study.user_attrs.get(TERMS)
        is_scored = bool(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
        if known is None or (not is_scored and {**known, "objective": None} == {**wanted, "objective": None}):
            self.study.set_user_attr(TERMS, wanted)
            known = wanted
        known = {**known, "directions": [direction.name.lower() for direction in self.study.directions]}
        differing = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
        if differing:
            raise ConfigError(
                "the study was begun with other settings",
                given="; ".join(f"{name}: {known.get(name)} -> {wanted.get(name)}" for name in differing),
                allowed="the same search space, objective, direction and pruner; n_trials, sampler and seed may change",
                fix="type what the study was begun with, or begin another one: hydra.sweeper.study_name=..., or leave "
                "hydra.sweep.dir out",
            )


def _check_numbers(settings: StudySettings, space: SearchSpace) -> None:
    if settings.sampler == "cmaes" and len(space.numbers()) < 2:
        raise ConfigError(
            "cmaes learns from two or more numbers, and draws choices at random",
            given=f"hydra.sweeper.sampler=cmaes with {len(space.numbers())} interval(s) or range(s)",
            allowed="at least two interval(...) or range(...)",
            fix="set hydra.sweeper.sampler=tpe",
        )


def _terms(settings: StudySettings, space: SearchSpace) -> dict[str, Any]:
    return {
        **{f"params.{key}": str(one) for key, one in space.distributions.items()},
        "objective": list(settings.objective),
        "directions": list(settings.directions),
        "pruner": pruner_terms(settings),
    }


def _own_id(sweep_dir: Path) -> str:
    """What tells the trials of this sweep from those of others; stays with its folder."""
    file = sweep_dir / "study.id"
    if not file.is_file():
        write_text(file, uuid4().hex)
    return file.read_text(encoding="utf-8")


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()
