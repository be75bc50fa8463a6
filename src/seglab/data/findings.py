"""Findings: everything that is wrong with a data set in one report, not the first fault only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from seglab.errors import DataError, SeglabError

N_IN_FULL = 20
"""FaultsError that a report tells in full; of the others it gives the first line."""

MEND = "mend these files or take them out of the data set; each fault says how"


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
