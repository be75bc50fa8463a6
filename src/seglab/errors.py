"""Errors that a user can act on: what failed, what was given, what is allowed, what to type."""

import re
from functools import partial
from typing import Any

_RELAYED = re.compile(r"^seglab\.errors\.\w+: (.+)", re.MULTILINE | re.DOTALL)


class SeglabError(Exception):
    """An error with four parts, shown without a traceback by the entry points.

    Args:
        what: what failed, a short sentence without a final dot.
        given: what was given.
        allowed: what is allowed.
        fix: what to type or do.
    """

    def __init__(self, what: str, *, given: str, allowed: str, fix: str) -> None:
        self.what, self.given, self.allowed, self.fix = what, given, allowed, fix
        super().__init__(f"{what}\n  given:   {given}\n  allowed: {allowed}\n  fix:     {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the four parts, for launchers whose jobs run in other processes."""
        return partial(type(self), given=self.given, allowed=self.allowed, fix=self.fix), (self.what,)


class ShapeError(SeglabError):
    """A tensor or patch has a size that a network cannot take."""


class ConfigError(SeglabError):
    """A configuration names something that does not exist or does not fit."""


class DataError(SeglabError):
    """Input data is missing, broken or contradicts itself."""


class CheckpointError(SeglabError):
    """A checkpoint is missing, broken or belongs to another network."""


class TrainingError(SeglabError):
    """A training cannot go on, whatever its configuration promised."""


def relayed(error: RuntimeError) -> str | None:
    """The message of an error of ours in a loader's process, which torch hands on as text behind its traceback."""
    found = _RELAYED.search(str(error))
    return found[1].rstrip() if found else None
