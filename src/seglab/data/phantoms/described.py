"""Phantoms of described data: the files of a phantom, named by patterns and coded by declared classes."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image

from seglab.data.classes import BINARY, Classes, unpacked
from seglab.data.listing import Patterns
from seglab.data.patterns import Pattern
from seglab.errors import ConfigError
from seglab.spec import IGNORE_INDEX, Kind

_nib: Any = nib  # its functions carry no annotations

SUFFIX = {"volume": ".nii.gz", "photo": ".png", "raster": ".tif"}
WRITTEN = {"volume": (".nii", ".nii.gz"), "photo": (".png", ".jpg", ".bmp", ".tif"), "raster": (".tif", ".png")}
SPLITS = ("train", "val", "test", "train")
N_DRAWN = {"volume": 3, "photo": 2, "raster": 5}
"""Classes of each phantom as it is drawn."""


@dataclass(frozen=True)
class Described:
    """How the files of a phantom are to be named and coded.

    Args:
        kind: of the data.
        patterns: of images and masks.
        classes: of the masks; a phantom with more classes has the further ones in the last, one with fewer gives half
            of its last class to each that it lacks, as the core of a tumour is a part of it.
        class_patterns: of each class but the background, where each has a mask file of its own.
    """

    kind: Kind
    patterns: Patterns
    classes: Classes
    class_patterns: tuple[Patterns, ...] = ()

    def write(self, folder: Path, write_plain: Callable[[Path], None]) -> None:
        """Write a phantom of this kind and bring it into this form.

        Args:
            folder: new folder.
            write_plain: writes the phantom as it is.

        Raises:
            ConfigError: patterns with an ending that phantoms are not written with.
        """
        plain = folder.with_name(f"{folder.name}-plain")
        try:
            write_plain(plain)
            for number, (image, mask) in enumerate(self._pairs(plain)):
                self._place(folder, number, image, mask)
        finally:
            shutil.rmtree(plain, ignore_errors=True)

    def _pairs(self, plain: Path) -> Iterator[tuple[Path, Path]]:
        if self.kind == "volume":
            for image in sorted(plain.glob("volume-*")):
                yield image, image.with_name(image.name.replace("volume", "segmentation"))
        else:
            for image in sorted((plain / "images").iterdir()):
                yield image, plain / "masks" / image.name

    def _place(self, folder: Path, number: int, image: Path, mask: Path) -> None:
        named = {name: f"{name}{number:02d}" for name in self._pattern("images").fields}
        fields = {**named, "case": f"case{number:02d}", "split": SPLITS[number % len(SPLITS)]}
        for place, channel in enumerate(self.patterns.channels or ("",)):
            target = self._target(folder, "images", {**fields, "channel": channel})
            _COPY[self.kind](image, target, partial(_dimmed, channel=place), {})
        for label, patterns in enumerate(self.class_patterns, start=1):
            alone = replace(self, patterns=patterns, classes=BINARY, class_patterns=())
            target, change = alone._target(folder, "masks", fields), partial(self._only, label, alone)
            _COPY[self.kind](mask, target, change, {"nodata": alone._void})
        if not self.class_patterns:
            _COPY[self.kind](mask, self._target(folder, "masks", fields), self._coded, {"nodata": self._void})

    def _only(self, label: int, alone: "Described", labels: NDArray[Any]) -> NDArray[Any]:
        """The mask of one class."""
        is_own = self._index(labels) == label
        if self.kind == "raster":
            return alone._coded(np.where(labels == IGNORE_INDEX, IGNORE_INDEX, is_own & (labels != IGNORE_INDEX)))
        return alone._coded(is_own.astype(np.uint8))

    def _target(self, folder: Path, which: str, fields: dict[str, str]) -> Path:
        suffix = ".png" if which == "masks" and self.classes.in_colors else SUFFIX[self.kind]
        target = folder / self._pattern(which).fill(fields, suffix)
        if not target.name.endswith(WRITTEN[self.kind]):
            raise ConfigError(
                "a phantom cannot be written like this",
                given=f"data.root=phantom, data.{which}={getattr(self.patterns, which)}",
                allowed=f"endings {', '.join(WRITTEN[self.kind])}, or .*",
                fix="leave the patterns out, or set data.root=<folder>",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _pattern(self, which: str) -> Pattern:
        return Pattern(getattr(self.patterns, which), f"data.{which}", self.patterns.suffixes, self.patterns.channels)

    def _coded(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Class numbers of a phantom, 255 for nodata, or its black and white, as this data set codes them."""
        void = labels == IGNORE_INDEX if self.kind == "raster" else np.zeros(labels.shape, bool)
        index = self._index(labels)
        if self.classes.in_colors:
            colors: NDArray[Any] = np.array([unpacked(value) for value in self.classes.own], np.uint8)[index]
            colors[void] = unpacked(min(self.classes.ignored)) if self.classes.ignored else colors[0, 0]
            return colors
        values = np.array(self.classes.own, np.int64)
        if self.kind == "photo" and len(values) == 2 and self.classes.own == (0, 1):
            values *= IGNORE_INDEX  # black and white
        coded: NDArray[Any] = values[index].astype(np.uint8 if values.max() <= IGNORE_INDEX else np.uint16)
        coded[void] = values[0] if self._void is None else self._void
        return coded

    def _index(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        """Which of the declared classes each pixel has."""
        n_drawn, n_classes = N_DRAWN[self.kind], len(self.classes.names)
        drawn = np.where(labels == IGNORE_INDEX, 0, labels) if self.kind == "raster" else labels
        index = np.minimum(drawn, min(n_drawn, n_classes) - 1).astype(np.intp)
        for further in range(n_drawn, n_classes):
            last = np.flatnonzero(index == further - 1)
            index.flat[last[len(last) // 2 :]] = further
        return index

    @property
    def _void(self) -> int | None:
        """What nodata becomes: 255, or the highest value that no class has; None where classes have all."""
        taken = frozenset[int]().union(*self.classes.values)
        return next((value for value in range(IGNORE_INDEX, -1, -1) if value not in taken), None)


Change = Callable[[NDArray[Any]], NDArray[Any]]


def _dimmed(values: NDArray[Any], channel: int) -> NDArray[Any]:
    return values // (1 + channel)


def _copy_volume(source: Path, target: Path, change: Change, profile: dict[str, Any]) -> None:
    image = _nib.load(source)
    voxels = change(np.asarray(image.dataobj))
    image.header.set_data_dtype(voxels.dtype)
    _nib.save(_nib.Nifti1Image(voxels, image.affine, image.header), target)


def _copy_photo(source: Path, target: Path, change: Change, profile: dict[str, Any]) -> None:
    Image.fromarray(change(np.asarray(Image.open(source)))).save(target)


def _copy_raster(source: Path, target: Path, change: Change, profile: dict[str, Any]) -> None:
    with rasterio.open(source) as opened:
        known, bands = opened.profile, opened.read()
    changed = change(bands)
    if target.suffix != ".tif":
        Image.fromarray(changed[0]).save(target)
        return
    with rasterio.open(target, "w", **{**known, "dtype": changed.dtype, **profile}) as sink:
        sink.write(changed)


_COPY = {"volume": _copy_volume, "photo": _copy_photo, "raster": _copy_raster}
