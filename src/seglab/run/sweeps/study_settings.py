"""What hydra.sweeper says of a study, checked before anything runs. Imports no Optuna."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from seglab.errors import ConfigError

SAMPLERS = ("tpe", "cmaes", "random", "grid")
PRUNERS = ("none", "median", "hyperband")
DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Settings of a study; names are those of conf/hydra/sweeper/optuna.yaml.

    Args:
        n_trials: trials in all, of all processes that work on the study.
        sampler: tpe, cmaes, random or grid.
        seed: of the sampler; with one, trial n of a study is drawn alike each time, None draws anew.
        n_startup_trials: drawn at random before tpe or cmaes learns from them.
        objective: keys of result.json.
        directions: maximize or minimize, one for each objective.
        storage: journal:<file>, sqlite:///<file> or postgresql://..., None for a journal in the sweep's folder.
        study_name: in the storage, None for the name of the sweep's folder.
        pruner: none, median or hyperband.
        pruner_startup_trials: finished trials before median ends any.
        pruner_warmup_epochs: epochs before a trial may be ended.
        pruner_reduction: hyperband goes on with one of so many trials.

    Raises:
        ConfigError: names the setting.
    """

    n_trials: int
    sampler: str
    seed: int | None
    n_startup_trials: int
    objective: tuple[str, ...]
    directions: tuple[str, ...]
    storage: str | None
    study_name: str | None
    pruner: str
    pruner_startup_trials: int
    pruner_warmup_epochs: int
    pruner_reduction: int

    def __post_init__(self) -> None:
        _check_choice("sampler", self.sampler, SAMPLERS)
        _check_choice("pruner", self.pruner, PRUNERS)
        for direction in self.directions:
            _check_choice("direction", direction, DIRECTIONS)
        least = {"n_trials": 1, "n_startup_trials": 0, "pruner_startup_trials": 0, "pruner_warmup_epochs": 0}
        for name, smallest in {**least, "pruner_reduction": 2}.items():
            _check_number(name, getattr(self, name), smallest)
        if len(self.objective) != len(self.directions) or not self.objective:
            raise ConfigError(
                "every objective has a direction",
                given=f"objective={list(self.objective)}, direction={list(self.directions)}",
                allowed="as many directions as objectives",
                fix=f"set hydra.sweeper.direction=[{','.join(['maximize'] * max(len(self.objective), 1))}]",
            )
        if len(self.objective) > 1:
            self._check_several()

    def _check_several(self) -> None:
        for name, value, fix in (("pruner", self.pruner, "none"), ("sampler", self.sampler, "tpe")):
            if value not in ("none", "tpe", "random", "grid"):
                raise ConfigError(
                    f"this {name} knows one objective only",
                    given=f"hydra.sweeper.{name}={value} with {len(self.objective)} objectives",
                    allowed="one objective, or pruner=none with sampler=tpe, random or grid",
                    fix=f"set hydra.sweeper.{name}={fix}",
                )


def names_of(value: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, as names."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_direction(settings: StudySettings, mode: object) -> None:
    """See that a study wants of the watched metric what the checkpoint wants of it.

    Args:
        settings: of the study.
        mode: of callbacks.checkpoint, max or min; None where a job has none.

    Raises:
        ConfigError: one wants more, the other less.
    """
    is_watched = settings.objective == ("value",) or settings.pruner != "none"
    wanted = {"max": "maximize", "min": "minimize"}.get(str(mode))
    if is_watched and wanted not in (None, settings.directions[0]):
        raise ConfigError(
            "the study and the checkpoint want the opposite of the same metric",
            given=f"hydra.sweeper.direction={settings.directions[0]}, callbacks.checkpoint.mode={mode}",
            allowed="maximize with max, minimize with min",
            fix=f"set hydra.sweeper.direction={wanted}",
        )


def _check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        nearest = get_close_matches(str(value), allowed, n=1, cutoff=0.4) or allowed[:1]
        raise ConfigError(
            f"there is no such {name}",
            given=f"hydra.sweeper.{name}={value}",
            allowed=", ".join(allowed),
            fix=f"set hydra.sweeper.{name}={nearest[0]}",
        )


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name} is a number of trials or epochs",
            given=f"hydra.sweeper.{name}={value}",
            allowed=f"an integer from {least} up",
            fix=f"set hydra.sweeper.{name}={max(least, 1)}",
        )
