"""What makes one doubt a case that can be read, told by its pixels alone.

Every rule has a wide margin, as a false alarm on good data is a defect: see the tests for the twins that must pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.findings import notice
from seglab.data.integrity import count_values
from seglab.data.source import DataSource
from seglab.spec import IGNORE_INDEX, Case

AIR_HU = -950
"""Air around a body is -1000; lung tissue, also with emphysema, is mostly above."""

MAX_IN_AIR = 0.5
"""Share of a class that may lie in air."""

PADDING_HU = -1025
"""Scanners measure down to -1024; what lies below was filled in."""

MIN_PADDING = 0.01
MUCH_IGNORED = 0.95
GRID = 128
"""Longest side of the coarse grid on which orientations of a mask are compared."""


def doubt(image: NDArray[Any], mask: NDArray[np.uint8], case: Case, source: DataSource) -> None:
    """Notice everything that is odd with a case.

    Args:
        image: (C, D, H, W) as read.
        mask: (D, H, W), class index or 255.
        case: names the files.
        source: tells what classes and values mean.
    """
    constant_channels(image, case.image_file)
    shares(mask, case.mask_file, has_background=source.has_background)
    if source.kind == "volume" and image.shape[0] == 1 and looks_like_hu(image):
        padding(image, case.image_file)
        in_air(image[0], mask, case.mask_file, source.class_names)


def constant_channels(image: NDArray[Any], file: Path) -> None:
    """Warn of channels that hold one value only."""
    ranges = [(channel.min(), channel.max()) for channel in image]
    flat = [f"channel {number}: {low:g}" for number, (low, high) in enumerate(ranges, 1) if low == high]
    if flat:
        what = "is the same value everywhere" if len(flat) == len(image) else "has channels without content"
        notice("warning", file, what, value=", ".join(flat[:5]), fix="export it again, or take it out of the data set")


def shares(mask: NDArray[np.uint8], file: Path, *, has_background: bool) -> None:
    """Tell of masks without foreground, with nothing else, or with much that is ignored."""
    counts = count_values(mask)
    n_ignored, n_counted = int(counts[IGNORE_INDEX]), mask.size - int(counts[IGNORE_INDEX])
    if n_ignored:
        notice(
            "warning" if n_ignored > MUCH_IGNORED * mask.size else "note",
            file,
            "has pixels that count in no loss and no metric",
            value=f"{n_ignored / mask.size:.1%} void, nodata or ignored",
            fix="nothing, if they are meant to be left out",
        )
    if has_background and counts[0] == n_counted:
        notice("note", file, "holds no foreground", value="background only", fix="nothing, if the image shows none")
    elif has_background and counts[0] == 0:
        fix = "see whether it is inverted or belongs to another image"
        notice("warning", file, "holds no background", value=f"classes {np.flatnonzero(counts).tolist()}", fix=fix)


def looks_like_hu(image: NDArray[Any]) -> bool:
    """Whether a volume has values of air and of tissue as CT has."""
    return bool(image.min() <= -900 and image.max() > 0)


def padding(image: NDArray[Any], file: Path) -> None:
    """Note values that no scanner measures."""
    lowest = image.min()
    share = float(np.mean(image == lowest)) if lowest < PADDING_HU else 0.0
    if share >= MIN_PADDING:
        notice(
            "note",
            file,
            "is padded below the range of HU",
            value=f"{lowest:g} in {share:.0%} of the voxels",
            fix="nothing: clipping to the window takes them as air",
        )


def in_air(image: NDArray[Any], mask: NDArray[np.uint8], file: Path, classes: Sequence[str]) -> None:
    """Warn of classes that lie mostly in the air around the body."""
    is_air = image < AIR_HU
    whole, aired = count_values(mask), count_values(mask[is_air])
    for index in range(1, len(classes)):
        if whole[index] and aired[index] > MAX_IN_AIR * whole[index]:
            notice(
                "warning",
                file,
                "marks a class in air",
                value=f"{aired[index] / whole[index]:.0%} of {classes[index]} lies below {AIR_HU} HU",
                fix="see whether the mask is shifted or belongs to another volume",
            )


@dataclass(frozen=True)
class Fit:
    """How well a mask explains its image, and the best that it does when mirrored or turned.

    Args:
        own: share of the variance of the image that lies between the classes (correlation ratio), 0 to 1.
        best: the same of the best of `TURNS`.
        turn: its name.
    """

    own: float
    best: float
    turn: str


def fit_of(image: NDArray[Any], mask: NDArray[np.uint8], clip: tuple[float | None, float | None]) -> Fit:
    """Measure a case on a coarse grid.

    Args:
        image: (C, D, H, W).
        mask: (D, H, W).
        clip: range of values that is kept.
    """
    steps = tuple(slice(None, None, max(1, -(-length // GRID))) for length in mask.shape)
    grey = np.clip(image[(slice(None), *steps)].mean(axis=0, dtype=np.float64), *clip)
    coarse = mask[steps]
    turned = {name: turn(coarse) for name, turn in TURNS.items()}
    scores = {name: explained(grey, labels) for name, labels in turned.items() if labels.shape == coarse.shape}
    best = max(scores, key=lambda name: scores[name])
    return Fit(explained(grey, coarse), scores[best], best)


TURNS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "with reversed rows": lambda mask: mask[:, ::-1],
    "with reversed columns": lambda mask: mask[:, :, ::-1],
    "turned by half": lambda mask: mask[:, ::-1, ::-1],
    "with reversed slices": lambda mask: mask[::-1],
    "with rows and columns exchanged": lambda mask: mask.transpose(0, 2, 1),
}


def explained(grey: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Share of the variance of grey values that lies between the classes; 255 is left out.

    Args:
        grey: (D, H, W).
        labels: (D, H, W).
    """
    counted = labels != IGNORE_INDEX
    values, index = grey[counted], labels[counted]
    if values.size == 0 or float(values.var()) < 1e-9:
        return 0.0
    counts = np.bincount(index)
    sums = np.bincount(index, weights=values)
    present = counts > 0
    means = sums[present] / counts[present]
    return float((counts[present] * (means - values.mean()) ** 2).sum() / values.size / values.var())
