"""Classes: what the values or colours of a mask mean, and which classes lie within which."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.contents import key_of
from seglab.data.integrity import shorten
from seglab.errors import ConfigError, DataError
from seglab.spec import IGNORE_INDEX

log = logging.getLogger("seglab")

HIGHEST = 65_535
"""Largest value a mask may hold: 16 bits, as instance numbers need."""

MOST = 254
N_VALUES = 32
"""Values of a mask that are told to who has to declare them."""
PALETTE = (
    *((0, 0, 0), (230, 75, 60), (60, 140, 230), (250, 200, 40), (70, 180, 90), (150, 80, 200), (0, 190, 190)),
    *((250, 150, 180), (150, 110, 70), (130, 130, 130), (190, 220, 60), (255, 255, 255)),
)
_UNKNOWN = 254
_RANGE = re.compile(r"(\d+)-(\d+)")
_EXAMPLE = "data.classes='{background: 0, liver: 1, tumour: {value: 2, color: C83278}}'"

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set; a pixel belongs to the last class that has its value.

    A class may lie within an earlier one: with liver = {1, 2} and tumour = {2} a pixel of value 2 is labelled tumour,
    one of value 1 liver, and scores of the liver count both, as `regions` says. Where classes overlap in part, what
    they share is a class of its own, which `read_classes` adds: from its one label each pixel's classes follow.

    Args:
        names: index is the class.
        values: of each class in masks; packed RGB where masks hold colours.
        colors: RGB of each class in pictures.
        ignored: values, or packed RGB, of pixels that count nowhere.
        in_colors: masks hold colours instead of values.

    Raises:
        ConfigError: too few or too many classes, a value that is ignored too, a part before its whole, or classes that
            overlap in part without a class of what they share.
    """

    names: tuple[str, ...]
    values: tuple[frozenset[int], ...]
    colors: tuple[Color, ...]
    ignored: frozenset[int] = frozenset()
    in_colors: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not 2 <= len(self.names) < MOST:
            raise _refused("there are too few classes, or too many", f"{len(self.names)} classes", f"2 to {MOST - 1}")
        taken = [name for name, values in zip(self.names, self.values, strict=True) if values & self.ignored]
        if taken:
            raise _refused("a class has a value that is ignored", ", ".join(taken), "values of a class or ignored ones")
        for later, inner in enumerate(self.values):
            for earlier, outer in enumerate(self.values[:later]):
                if outer <= inner:
                    raise _refused(
                        "a class lies within a later one, or is the same",
                        f"{self.names[earlier]} within {self.names[later]}",
                        "values of their own, or the whole first and its part after it: liver: [1,2], tumour: 2",
                    )
        for label, own in zip(self.names, self._alone, strict=True):
            pairs = zip(self.names, self.values, strict=True)
            parted = [name for name, values in pairs if own & values and not own <= values]
            if parted:
                raise _refused(
                    "two classes overlap in part, and what they share is no class",
                    f"{parted[0]} and {label}",
                    "values of their own, one class within the other, or a class of what they share",
                )

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Classes that count as each class; empty when none lies within another."""
        told = [own or values for own, values in zip(self._alone, self.values, strict=True)]
        within = tuple(tuple(index for index, own in enumerate(told) if own <= whole) for whole in self.values)
        return within if any(len(members) > 1 for members in within) else ()

    @property
    def own(self) -> tuple[int, ...]:
        """The smallest value of each class that is labelled so, or its smallest one where none is."""
        return tuple(min(own or values) for own, values in zip(self._alone, self.values, strict=True))

    @property
    def written(self) -> tuple[int, ...]:
        """The number of each class in masks we write: its own value, or its index where that cannot be."""
        fits = not self.in_colors and max(self.own) <= IGNORE_INDEX and len(set(self.own)) == len(self.own)
        return self.own if fits else tuple(range(len(self.own)))

    @property
    def table(self) -> dict[Color, int]:
        """Class of each colour, of masks that hold colours."""
        pairs = [(value, index) for index, values in enumerate(self.values) for value in values]
        return {unpacked(value): index for value, index in [*pairs, *((each, IGNORE_INDEX) for each in self.ignored)]}

    @property
    def key(self) -> str:
        """Stands for all that changes how masks are read."""
        return key_of([sorted(values) for values in self.values], sorted(self.ignored), self.in_colors)

    def ignoring(self, ignore: Sequence[Any]) -> "Classes":
        """The same classes with more pixels that count nowhere.

        Args:
            ignore: values, lists of them or ranges; colours RRGGBB of masks that hold colours.

        Raises:
            ConfigError: no such value or colour, or one that a class has.
        """
        if not ignore:
            return self
        if self.in_colors:
            more = frozenset(packed(parse_color(text)) for text in ignore)
        else:
            more = frozenset[int]().union(*(_values("ignore", each) for each in ignore))
        return replace(self, ignored=self.ignored | more)

    def indices(self, stored: NDArray[Any], file: Path) -> NDArray[np.uint8]:
        """Class indices of a mask, 255 where ignored.

        Args:
            stored: whole numbers of any shape.
            file: for the message.

        Raises:
            DataError: values that no class has, with their pixel counts.
        """
        lookup = np.full(HIGHEST + 1, _UNKNOWN, np.uint8)
        for index, values in enumerate(self.values):
            lookup[list(values)] = index
        lookup[list(self.ignored)] = IGNORE_INDEX
        if stored.size and not 0 <= stored.min() <= stored.max() <= HIGHEST:
            raise self._unknown(stored, (stored < 0) | (stored > HIGHEST), file)
        classes: NDArray[np.uint8] = lookup[stored]
        if (classes == _UNKNOWN).any():
            raise self._unknown(stored, classes == _UNKNOWN, file)
        return classes

    @property
    def _alone(self) -> tuple[frozenset[int], ...]:
        """Values that are labelled as each class: those that no later one has."""
        return tuple(values.difference(*self.values[index + 1 :]) for index, values in enumerate(self.values))

    def _unknown(self, stored: NDArray[Any], is_unknown: NDArray[np.bool_], file: Path) -> DataError:
        found, counts = np.unique(stored[is_unknown], return_counts=True)
        all_values = shorten(map(str, np.unique(stored).tolist()), N_VALUES)
        declared = ", ".join(f"{name}={_shown(values)}" for name, values in zip(self.names, self.values, strict=True))
        ignored = f"; ignored: {_shown(self.ignored)}" if self.ignored else ""
        return DataError(
            f"{file} holds mask values that no class has",
            given=shorten(f"{value} ({n} pixels)" for value, n in zip(found.tolist(), counts.tolist(), strict=True)),
            allowed=f"{declared}{ignored}",
            fix=f"correct the mask, or declare all its values ({all_values}) as in {_EXAMPLE}; data.ignore=[255] "
            "ignores one",
        )


BINARY = Classes(("background", "foreground"), (frozenset([0]), frozenset([1, 255])), ((0, 0, 0), (255, 200, 0)))
"""What masks hold when nothing is declared."""


def read_classes(declared: Mapping[str, Any]) -> Classes:
    """Classes of a configuration.

    Args:
        declared: name to value, list of values, range such as "1-65535", or {value, color} with one of them or both;
            classes with a colour alone mean masks that hold colours. The place is the class. What two classes share
            and neither has alone becomes a further class, <one>_and_<other>, that counts for both.

    Raises:
        ConfigError: anything else.
    """
    entries = {str(name): _entry(str(name), content) for name, content in declared.items()}
    coded = {name for name, (values, _) in entries.items() if values is None}
    if coded and coded != entries.keys():
        raise _refused(
            "some classes have a value and others only a colour",
            f"without a value: {', '.join(sorted(coded))}",
            "a value for every class, or a colour alone for every class of masks that hold colours",
        )
    colors = tuple(color or PALETTE[place % len(PALETTE)] for place, (_, color) in enumerate(entries.values()))
    if coded:
        if len(set(colors)) < len(colors):
            raise _refused("two classes have the same colour", ", ".join(entries), "a colour for each class")
        values = tuple(frozenset([packed(color)]) for color in colors)
        return Classes(tuple(entries), values, colors, in_colors=True)
    plain = {name: values or frozenset() for name, (values, _) in entries.items()}
    shared = _shared(plain)
    members = [[list(plain).index(name) for name in group] for group in shared]
    mixed = tuple(_mixed([colors[index] for index in group]) for group in members)
    names = (*plain, *("_and_".join(group) for group in shared))
    for name in names[len(plain) :]:
        log.info(f"classes overlap in part: pixels that they share are labelled {name} and count for each of them")
    return Classes(names, (*plain.values(), *shared.values()), (*colors, *mixed))


def parse_color(text: str) -> Color:
    """RGB of "RRGGBB", with or without a leading #.

    Raises:
        ConfigError: anything else.
    """
    digits = str(text).removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError as error:
        raise ConfigError(
            "this is no colour",
            given=str(text),
            allowed="six hexadecimal digits RRGGBB",
            fix='write it with quotes, e.g. "9B9B9B"',
        ) from error
    return red, green, blue


def packed(color: Color) -> int:
    """One number for a colour."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpacked(number: int) -> Color:
    """The colour of a number."""
    return number >> 16, number >> 8 & 255, number & 255


def _shared(values: Mapping[str, frozenset[int]]) -> dict[tuple[str, ...], frozenset[int]]:
    """What classes that overlap in part share, by these classes; a pixel's last class tells all others."""
    groups: dict[tuple[str, ...], set[int]] = {}
    for value in sorted(frozenset[int]().union(*values.values())):
        groups.setdefault(tuple(name for name in values if value in values[name]), set()).add(value)
    shared = {}
    for last in values:
        _, *others = sorted((names for names in groups if names[-1] == last), key=len) or [()]
        for names in others:  # the first is told by the class itself
            inner = tuple(name for name in names if not any(values[other] < values[name] for other in names))
            if len(inner) > 1:  # else a part stands before its whole
                shared[inner] = frozenset(groups[names])
    return shared


def _mixed(colors: Sequence[Color]) -> Color:
    red, green, blue = (sum(parts) // len(colors) for parts in zip(*colors, strict=True))
    return red, green, blue


def _entry(name: str, content: Any) -> tuple[frozenset[int] | None, Color | None]:
    if not isinstance(content, Mapping):
        return _values(name, content), None
    if not content or content.keys() - {"value", "color"}:
        raise _refused(f"class {name} is not described", f"{dict(content)}", "value, color, or both")
    value, color = content.get("value"), content.get("color")
    return (None if value is None else _values(name, value)), (None if color is None else parse_color(color))


def _values(name: str, content: Any) -> frozenset[int]:
    parts = content if isinstance(content, list | tuple) else [content]
    found: set[int] = set()
    for part in parts:
        span = _RANGE.fullmatch(part.strip()) if isinstance(part, str) else None
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [part]
        if isinstance(part, bool) or not all(isinstance(n, int) and 0 <= n <= HIGHEST for n in numbers) or not numbers:
            raise _refused(f"{name} has values that no mask can hold", f"{content}", f"whole numbers 0 to {HIGHEST}")
        found.update(numbers)
    if not found:
        raise _refused(f"{name} has no value", f"{content}", f"whole numbers 0 to {HIGHEST}")
    return frozenset(found)


def _shown(values: frozenset[int]) -> str:
    ordered = sorted(values)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return " or ".join(map(str, ordered))


def _refused(what: str, given: str, allowed: str) -> ConfigError:
    return ConfigError(what, given=f"data.classes: {given}", allowed=allowed, fix=f"write them as {_EXAMPLE}")
