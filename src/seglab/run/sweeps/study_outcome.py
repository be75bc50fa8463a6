"""How a trial of a study ended, by what its job wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from seglab.errors import ConfigError


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        values: of the objectives, None for a trial that was pruned or failed.
        error: why it failed, None unless it did.
    """

    values: tuple[float, ...] | None = None
    error: str | None = None


PRUNED = Outcome()


def outcome_of(result: Mapping[str, Any], objective: Sequence[str]) -> Outcome:
    """How a trial ended.

    Args:
        result: its result.json.
        objective: keys of it; a value that is no number is a failure.
    """
    if result.get("pruned"):
        return PRUNED
    values = []
    for key in objective:
        value = result.get(key)
        if not isinstance(value, int | float) or value != value:  # noqa: PLR0124  # NaN
            return Outcome(error=f"{key} in result.json is {value if key in result else 'missing'}, not a number")
        values.append(float(value))
    return Outcome(values=tuple(values))


def check_objective(objective: Sequence[str], result: Mapping[str, Any]) -> None:
    """Refuse an objective that jobs do not write.

    Args:
        objective: keys.
        result: of a job that finished.

    Raises:
        ConfigError: names the nearest key.
    """
    allowed = [key for key, value in result.items() if isinstance(value, int | float) or value is None]
    for key in objective:
        if key not in result and not result.get("pruned"):
            nearest = get_close_matches(key, allowed, n=1, cutoff=0.3) or ["value"]
            raise ConfigError(
                "the jobs do not have what the study is to look at",
                given=f"hydra.sweeper.objective={key}",
                allowed=", ".join(allowed) or "what the jobs write to result.json",
                fix=f"set hydra.sweeper.objective={nearest[0]}; with the same hydra.sweep.dir no job is run again",
            )
