"""Dealing out groups so that each part gets its share of the cases, and of those that show each class."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from seglab.data.store import Record

Held = tuple[int, ...]
"""What a group holds: its number of cases, then for each class the number of its cases that show it."""

Part = TypeVar("Part")


def held_by(records: Sequence[Record]) -> dict[str, Held]:
    """What each group of these cases holds."""
    rows: defaultdict[str, list[Held]] = defaultdict(list)
    for record in records:
        rows[record.group].append((1, *(int(pixels > 0) for pixels in record.class_pixels)))
    return {group: tuple(map(sum, zip(*cases, strict=True))) for group, cases in rows.items()}


def deal(
    groups: Mapping[str, Held], order: Sequence[str], shares: Mapping[Part, float], *, one_each: bool
) -> dict[Part, list[str]]:
    """Deal out whole groups, those with the rarest class first, each to the part that lacks most of what it holds.

    An iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, https://doi.org/10.1007/978-3-642-23808-6_10) of
    groups instead of single examples. Nothing is drawn here: the order decides among equals.

    Args:
        groups: what each group holds.
        order: the groups; of equally rare ones the first is dealt first.
        shares: what each part is to get of everything; their sum is 1.
        one_each: give each part a group of common classes before all others, so that none stays empty.

    Returns:
        Groups of each part.
    """
    totals: list[int] = [sum(column) for column in zip(*groups.values(), strict=True)]
    dealt: dict[Part, list[str]] = {part: [] for part in shares}
    counts = {part: [0] * len(totals) for part in shares}

    def give(group: str, part: Part) -> None:
        """Put a group into a part."""
        dealt[part].append(group)
        counts[part] = [have + more for have, more in zip(counts[part], groups[group], strict=True)]

    def lack(group: str, part: Part) -> float:
        """How much a part would gain by a group, over all classes that the group has."""
        rows = zip(groups[group], counts[part], totals, strict=True)
        return sum(held / total * (shares[part] - have / total) for held, have, total in rows if held)

    def rarity(group: str) -> int:
        """Cases of the rarest class that a group has."""
        return min(total for held, total in zip(groups[group], totals, strict=True) if held)

    common = sorted(order, key=rarity, reverse=True)[: len(shares) if one_each else 0]
    for group, part in zip(common, shares, strict=False):
        give(group, part)
    for group in sorted((name for name in order if name not in common), key=rarity):
        give(group, max(shares, key=lambda part: (lack(group, part), -len(dealt[part]))))
    return dealt
