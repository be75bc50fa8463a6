"""Findings: everything that is wrong or odd with a data set in one report, not the first fault only.

An error stops, unless its case is set aside. A warning is a doubt that only a look at the data can settle. A note says
what was repaired by rule, or what is worth knowing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seglab.errors import DataError, SeglabError

N_IN_FULL = 20
"""FaultsError that a report tells in full; of the others it gives the first line."""

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

MEND = "mend these files or take them out of the data set; each fault says how"


log = logging.getLogger("seglab")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        severity: error, warning or note.
        what: what it is, in words that are the same for every file it is found in.
        value: what was seen.
        fix: what to do about it.
        file: where; empty for the data set as a whole.
    """

    severity: Severity
    what: str
    value: str
    fix: str
    file: str = ""

    @classmethod
    def of(cls, error: SeglabError, files: Sequence[Path]) -> "Finding":
        """An error as a finding; the file is the first one of `files` that it names, else the first of them."""
        what, named = error.what, [str(file) for file in files if str(file) in error.what]
        file = min(named, key=what.index) if named else str(files[0]) if files else ""
        for other in sorted(named, key=len, reverse=True):  # one may be the beginning of another
            what = what.removeprefix(f"{other} ").replace(f" {other}", "")
        value = error.given.strip()
        return cls("error", what, "" if value == file else value, f"{error.fix} (allowed: {error.allowed})", file)


_noticed: ContextVar[list[Finding] | None] = ContextVar("noticed", default=None)


def notice(severity: Literal["warning", "note"], file: Path, what: str, *, value: str, fix: str) -> None:
    """Tell what is odd with a file that is read all the same.

    It goes to the `noticing` block that is running; without one a warning is logged and a note is dropped.

    Args:
        severity: warning for a doubt, note for a repair by rule.
        file: the file.
        what: without the name of the file, such as "is turned upright".
        value: what was seen.
        fix: what to do about it.
    """
    found = _noticed.get()
    if found is not None:
        found.append(Finding(severity, what, value, fix, str(file)))
    elif severity == "warning":
        log.warning(f"{file} {what}: {value}; {fix}")


@contextmanager
def noticing() -> Iterator[list[Finding]]:
    """Collect what is noticed within the block; each thing once for each file."""
    found: list[Finding] = []
    token = _noticed.set(found)
    try:
        yield found
    finally:
        _noticed.reset(token)
        found[:] = dict.fromkeys(found)


_left: ContextVar[dict[str, DataError] | None] = ContextVar("left", default=None)


@contextmanager
def going_on() -> Iterator[dict[str, DataError]]:
    """Collect the files that the search for cases within the block has to leave out, by path, with what is wrong."""
    left: dict[str, DataError] = {}
    token = _left.set(left)
    try:
        yield left
    finally:
        _left.reset(token)


def goes_on_without(files: Mapping[str, DataError]) -> bool:
    """Leave files out, if a block collects them; otherwise they have to stop what is done."""
    left = _left.get()
    if left is not None:
        left.update(files)
    return left is not None


def is_without_some() -> bool:
    """Whether the search for cases has left out files."""
    return bool(_left.get())


class FaultsError(DataError):
    """Several faults as one error.

    Args:
        errors: the faults, each with its file, reason and remedy.
        fix: what can be done about all of them.
    """

    def __init__(self, errors: Sequence[SeglabError], fix: str = MEND) -> None:
        self.errors = tuple(errors)
        full = [str(error) for error in self.errors[:N_IN_FULL]]
        texts = [*full, *(error.what for error in self.errors[N_IN_FULL:])]
        super().__init__(
            f"the data has {len(texts)} faults",
            given="".join(f"\n    {text.replace(chr(10), chr(10) + '    ')}" for text in texts),
            allowed="whole files that fit together",
            fix=fix,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Reach another process in one piece."""
        return FaultsError, (self.errors, self.fix)


class Findings:
    """Notes errors and goes on; `settle` raises what was noted."""

    def __init__(self) -> None:
        self.errors: list[SeglabError] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error that a user can mend, and leave the block."""
        try:
            yield
        except SeglabError as error:
            told = {str(known) for known in self.errors}
            parts = error.errors if isinstance(error, FaultsError) else (error,)
            self.errors += [part for part in parts if str(part) not in told]

    def settle(self) -> None:
        """Do nothing when all is well.

        Raises:
            SeglabError: the one error that was noted, or `FaultsError` with all of them.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise FaultsError(self.errors)
