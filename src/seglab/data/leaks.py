"""Leaks: cases that show the same and stand in two splits, so that a network is scored on what it was trained on."""

import logging
from collections.abc import Iterable, Mapping

from seglab.data.duplicates import Pair
from seglab.data.integrity import shorten
from seglab.data.store import Record
from seglab.errors import ConfigError, DataError

log = logging.getLogger("seglab")

ON_LEAK = ("stop", "warn")
LEAST_PX = 32
"""Smaller images have too little structure to tell a copy from another image."""


def check_on_leak(on_leak: str) -> None:
    """Refuse an unknown answer to leaks.

    Raises:
        ConfigError: names the known ones.
    """
    if on_leak not in ON_LEAK:
        raise ConfigError(
            "leaks cannot be treated like this",
            given=f"data.on_leak={on_leak}",
            allowed=", ".join(ON_LEAK),
            fix="set data.on_leak=stop, or warn to train although cases stand in two splits",
        )


def splits_of_cases(records: Iterable[Record], splits: Mapping[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """The split of each case."""
    of_group = {group: split for split, groups in splits.items() for group in groups}
    return {record.id: {of_group[record.group]} for record in records}


def torn(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs that blocks may tear apart: of scenes in one group the same place is in one split, unless mirrored."""
    return [pair for pair in pairs if pair.mirrored or not pair.same_group]


def check_leaks(
    pairs: Iterable[Pair], records: Iterable[Record], splits_of: Mapping[str, set[str]], *, on_leak: str
) -> None:
    """Refuse, or warn of, cases that show the same in two splits.

    Args:
        pairs: all pairs of cases that show the same.
        records: of these cases.
        splits_of: where each case stands; in several, where it was cut into blocks.
        on_leak: "stop" or "warn".

    Raises:
        DataError: names pairs with their splits.
    """
    tellable = {record.id for record in records if min(record.shape[2:]) >= LEAST_PX}
    crossing = [
        pair
        for pair in pairs
        if {pair.one, pair.other} <= tellable and len(splits_of[pair.one] | splits_of[pair.other]) > 1
    ]
    if not crossing:
        return
    named = (
        f"{pair.one} ({'+'.join(sorted(splits_of[pair.one]))}) and {pair.other} "
        f"({'+'.join(sorted(splits_of[pair.other]))})"
        for pair in crossing
    )
    error = DataError(
        f"{len(crossing)} pair(s) of cases show the same and stand in two splits",
        given=shorten(named),
        allowed="copies, also mirrored or resized ones, in one group",
        fix="give both the same group, take one out, or set data.on_leak=warn to train all the same",
    )
    if on_leak == "stop":
        raise error
    log.warning(str(error))
