"""Classes: what the values or colours of a mask mean, and which classes lie within which."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.contents import key_of
from seglab.data.integrity import shorten
from seglab.errors import ConfigError, DataError
from seglab.spec import IGNORE_INDEX

HIGHEST = 65_535
"""Largest value a mask may hold: 16 bits, as instance numbers need."""

MOST = 254
PALETTE = (
    *((0, 0, 0), (230, 75, 60), (60, 140, 230), (250, 200, 40), (70, 180, 90), (150, 80, 200), (0, 190, 190)),
    *((250, 150, 180), (150, 110, 70), (130, 130, 130), (190, 220, 60), (255, 255, 255)),
)
_UNKNOWN = 254
_RANGE = re.compile(r"(\d+)-(\d+)")
_EXAMPLE = "data.classes={background:0,liver:1,tumour:{value:2,color:C83278}}"

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set; a pixel belongs to the last class that has its value.

    A class may lie within an earlier one: with liver = {1, 2} and tumour = {2} a pixel of value 2 is labelled tumour,
    one of value 1 liver, and scores of the liver count both, as `regions` says. Classes that overlap otherwise cannot
    be told from one label per pixel and are refused.

    Args:
        names: index is the class.
        values: of each class in masks; packed RGB where masks hold colours.
        colors: RGB of each class in pictures.
        ignored: values, or packed RGB, of pixels that count nowhere.
        in_colors: masks hold colours instead of values.

    Raises:
        ConfigError: too few or too many classes, a value that is ignored too, or classes that overlap in part.
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
                if inner & outer and not inner < outer:
                    raise _refused(
                        "two classes overlap and neither lies within the other",
                        f"{self.names[earlier]} and {self.names[later]}",
                        "values of their own, or the whole first and its part after it: liver: [1,2], tumour: 2",
                    )

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Classes that count as each class; empty when none lies within another."""
        within = tuple(
            tuple(index for index, values in enumerate(self.values) if values <= whole) for whole in self.values
        )
        return within if any(len(members) > 1 for members in within) else ()

    @property
    def own(self) -> tuple[int, ...]:
        """The smallest value of each class that no class within it has."""
        return tuple(
            min(values.difference(*self.values[index + 1 :]) or values) for index, values in enumerate(self.values)
        )

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
            raise self._unknown(stored[(stored < 0) | (stored > HIGHEST)], file)
        classes: NDArray[np.uint8] = lookup[stored]
        if (classes == _UNKNOWN).any():
            raise self._unknown(stored[classes == _UNKNOWN], file)
        return classes

    def _unknown(self, stored: NDArray[Any], file: Path) -> DataError:
        found, counts = np.unique(stored, return_counts=True)
        declared = ", ".join(f"{name}={_shown(values)}" for name, values in zip(self.names, self.values, strict=True))
        ignored = f"; ignored: {_shown(self.ignored)}" if self.ignored else ""
        return DataError(
            f"{file} holds mask values that no class has",
            given=shorten(f"{value} ({n} pixels)" for value, n in zip(found.tolist(), counts.tolist(), strict=True)),
            allowed=f"{declared}{ignored}",
            fix=f"correct the mask, or declare all values as in {_EXAMPLE}; data.ignore=[255] ignores one",
        )


BINARY = Classes(("background", "foreground"), (frozenset([0]), frozenset([1, 255])), ((0, 0, 0), (255, 200, 0)))
"""What masks hold when nothing is declared."""


def read_classes(declared: Mapping[str, Any], ignore: Sequence[Any]) -> Classes:
    """Classes of a configuration.

    Args:
        declared: name to value, list of values, range such as "1-65535", or {value, color} with one of them or both;
            classes with a colour alone mean masks that hold colours. The place is the class.
        ignore: values, or colours RRGGBB, that count nowhere.

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
        ignored = frozenset(packed(parse_color(text)) for text in ignore)
        return Classes(tuple(entries), values, colors, ignored, in_colors=True)
    values = tuple(values or frozenset() for values, _ in entries.values())
    return Classes(tuple(entries), values, colors, frozenset().union(*(_values("ignore", each) for each in ignore)))


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
