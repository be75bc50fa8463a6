"""Labels of photos: masks read as two classes, values or colours, labels written as pictures.

Masks are decoded and turned upright as photos are. Of 16-bit masks of two classes the high byte decides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglab.data.formats.photo import DEEP_MODES, decode, rgb_of
from seglab.data.integrity import shorten
from seglab.errors import DataError
from seglab.files import atomic_path

MAX_SOFT_SHARE = 0.05
"""Largest share of pixels between 32 and 223 in a two-class mask: soft edges and JPEG noise stay far below."""

MAX_CODES = 4
"""A lossless mask of three or four grey values holds codes and no soft edges."""


def read_binary_mask(
    path: Path, foreground_values: tuple[int, ...] | None = None, *, fix: str | None = None
) -> NDArray[np.uint8]:
    """Read a two-class mask.

    Colours, also those behind palette indices, are first brought to grey (luma, ITU-R 601).

    Args:
        path: the mask.
        foreground_values: None: grey above 127 is foreground, which also takes JPEG noise and soft edges. Else exactly
            these grey values are foreground and all others must be background, which is 0 (255 if 0 is declared).
        fix: how a mask of other values can be declared; None for data.foreground_values.

    Returns:
        (1, H, W) of 0 and 1.

    Raises:
        DataError: as `photo.read_photo`; a value that is neither foreground nor background; without declared values a
            mask that would lose its foreground, or whose grey values look like codes or like a photo.
    """
    picture = decode(path)
    grey = np.asarray(picture) if picture.mode in DEEP_MODES else np.asarray(picture.convert("L"))
    if foreground_values is not None:
        return _declared(grey, foreground_values, path)
    values = np.unique(grey)
    foreground = _high_byte(grey) > 127
    if values[-1] > 0 and not foreground.any():
        _undeclared(path, "would lose its foreground: no value is above half of full scale", values, fix)
    if 2 < len(values) <= MAX_CODES and picture.info["lossless"]:
        _undeclared(path, "holds more than two grey values, which look like codes", values, fix)
    soft = (_high_byte(grey) > 31) & (_high_byte(grey) < 224)
    if len(values) > 2 and np.count_nonzero(soft) > MAX_SOFT_SHARE * grey.size:
        _undeclared(path, "is neither black nor white in too many pixels", values, fix)
    return foreground[None].astype(np.uint8)


def read_color_mask(path: Path, colors: Mapping[tuple[int, int, int], int]) -> NDArray[np.uint8]:
    """Read a mask whose classes are colours; palette indices are resolved to their colours first.

    Args:
        path: the mask, 8 bits, lossless.
        colors: as `classes_of_colors` takes them.

    Returns:
        (1, H, W) of class indices.

    Raises:
        DataError: as `photo.read_photo`; 16 bits; colours that are not in the table, with their pixel counts.
    """
    picture = decode(path)
    if picture.info["deep"]:
        _refuse_mode(path, picture, "8 bits for each colour channel")
    return classes_of_colors(rgb_of(picture), colors, path)[None]


def classes_of_colors(
    rgb: NDArray[np.uint8], colors: Mapping[tuple[int, int, int], int], path: Path
) -> NDArray[np.uint8]:
    """Class indices of a mask in colours, (H, W, 3) -> (H, W).

    Args:
        rgb: the mask.
        colors: RGB to class index; several colours may share one, and one may be IGNORE_INDEX.
        path: for the message.

    Raises:
        DataError: colours that are not in the table, with their pixel counts.
    """
    red, green, blue = rgb.astype(np.uint32).transpose(2, 0, 1)
    packed = red << 16 | green << 8 | blue
    keys = np.array([r << 16 | g << 8 | b for r, g, b in colors], dtype=np.uint32)
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], packed).clip(max=len(keys) - 1)
    unknown = keys[order][place] != packed
    if unknown.any():
        found, counts = np.unique(packed[unknown], return_counts=True)
        ranked = sorted(zip(counts.tolist(), found.tolist(), strict=True), reverse=True)
        raise DataError(
            f"{path} holds colours that no class has",
            given=shorten(f"#{color:06X} ({count} pixels)" for count, color in ranked),
            allowed=", ".join(f"#{key:06X}" for key in keys.tolist()),
            fix="declare the colours in the data configuration (255 ignores a colour), or save the mask without loss",
        )
    classes: NDArray[np.uint8] = np.array(list(colors.values()), dtype=np.uint8)[order]
    indices: NDArray[np.uint8] = classes[place]
    return indices


def read_index_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask whose stored numbers are the classes: 8-bit grey values, palette indices or single bits.

    Returns:
        (1, H, W) of the stored numbers; the palette's colours play no part.

    Raises:
        DataError: as `photo.read_photo`; a mask with colour channels, alpha or 16 bits.
    """
    picture = decode(path)
    if picture.mode not in ("1", "L", "P"):
        _refuse_mode(path, picture, "8-bit grey or a palette, one number for each pixel")
    return np.asarray(picture, dtype=np.uint8)[None].copy()


def read_values(path: Path) -> NDArray[Any]:
    """Read the numbers that a mask stores: grey values of 8 or 16 bits, palette indices or single bits.

    Three equal colour channels count as grey.

    Returns:
        (1, H, W) of whole numbers from 0 to 65535.

    Raises:
        DataError: as `photo.read_photo`; a mask in colours, or with alpha.
    """
    picture = decode(path)
    if picture.mode == "RGB" and not picture.info["deep"]:
        stored = np.asarray(picture)
        if (stored == stored[:, :, :1]).all():
            return stored[:, :, 0][None].copy()
    if picture.mode not in ("1", "L", "P", *DEEP_MODES):
        _refuse_mode(path, picture, "grey or a palette, one number for each pixel; or classes declared by colour")
    return np.asarray(picture).astype(np.uint16 if picture.mode in DEEP_MODES else np.uint8)[None]


def write_labels(
    labels: NDArray[np.uint8], target: Path, *, mask_values: Sequence[int], colors: Sequence[tuple[int, int, int]]
) -> None:
    """Write labels as a PNG of the upright photo's size, in one piece.

    Args:
        labels: (1, H, W) class indices.
        target: ends in .png.
        mask_values: grey value of each class, e.g. (0, 255); with more than two classes its index in the palette.
        colors: RGB of each class; with more than two classes the palette.

    Raises:
        DataError: a label without a class, or a target with another ending.
        OSError: when the target cannot be written; no file is left under its name.
    """
    n_classes = len(mask_values)
    if target.suffix != ".png" or len(colors) != n_classes or labels.max(initial=0) >= n_classes:
        raise DataError(
            f"labels cannot be written to {target}",
            given=f"labels up to {labels.max(initial=0)}, {n_classes} mask values, {len(colors)} colours",
            allowed="labels below the number of classes, one value and colour for each class, a target in .png",
            fix="give one mask value and one colour per class and a .png name",
        )
    picture = Image.fromarray(np.asarray(mask_values, dtype=np.uint8)[labels[0]])
    if n_classes > 2:
        palette = dict(zip(mask_values, colors, strict=True))
        picture.putpalette([part for value in range(max(palette) + 1) for part in palette.get(value, (0, 0, 0))])
    with atomic_path(target) as temporary:
        picture.save(temporary, format="PNG")


def _high_byte(grey: NDArray[Any]) -> NDArray[np.uint8]:
    high: NDArray[np.uint8] = (grey if grey.dtype == np.uint8 else grey >> 8).astype(np.uint8)
    return high


def _refuse_mode(path: Path, picture: Image.Image, allowed: str) -> NoReturn:
    raise DataError(
        f"{path} has other channels than its mask coding says",
        given=f"mode {picture.mode}",
        allowed=allowed,
        fix="declare the coding the file has (class colours or class indices), or save the mask again as 8-bit",
    )


def _declared(grey: NDArray[Any], foreground_values: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    background = 255 if 0 in foreground_values else 0
    values, counts = np.unique(grey, return_counts=True)
    odd = ~np.isin(values, [background, *foreground_values])
    if odd.any():
        pairs = zip(values[odd].tolist(), counts[odd].tolist(), strict=True)
        raise DataError(
            f"{path} holds values that are neither foreground nor background",
            given=shorten(f"{value} ({count} pixels)" for value, count in pairs),
            allowed=f"background {background}, foreground {list(foreground_values)}",
            fix="declare all foreground values in data.foreground_values, or correct the mask",
        )
    return np.isin(grey, foreground_values)[None].astype(np.uint8)


def _undeclared(path: Path, what: str, values: NDArray[Any], fix: str | None) -> NoReturn:
    codes = [int(value) for value in values if value > 0]
    ours = f"set data.foreground_values={codes[:1] if len(codes) == 1 else '[the values that mean foreground]'}"
    raise DataError(
        f"{path} {what}",
        given=f"grey values {shorten(map(str, values.tolist()))}",
        allowed="0 for background and 255 for foreground, or declared values",
        fix=fix or ours,
    )
