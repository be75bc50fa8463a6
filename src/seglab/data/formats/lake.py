"""Deep Lake: rows of images and masks in a local folder or at a remote address.

The package deeplake (4.7 and later) is an extra: its core comes compiled only, and its wheel names no licence. A row is
streamed when it is read; everything that is read of it goes into the store like the content of any file.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.classes import HIGHEST
from seglab.data.formats.photo_16bit import FULL_SCALE
from seglab.data.integrity import shorten
from seglab.errors import DataError
from seglab.extras import load

TOKENS = ("ACTIVELOOP_TOKEN", "DEEPLAKE_API_KEY")
"""Environment variables that a token for remote data is taken from, the first that is set."""

PICTURES = ("Image", "SegmentMask", "BinaryMask", "Link", "Nullable", "Generic")
"""Kinds of columns that may hold pictures; arrays of other kinds are outlines, boxes or volumes."""


class Lake:
    """An open dataset, read only.

    Args:
        url: folder, or address such as s3://bucket/dataset.

    Attributes:
        version: changes with every commit to the dataset.

    Raises:
        ConfigError: deeplake is not installed.
        DataError: no dataset that can be opened.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._package = load("deeplake", "deeplake", "data=deeplake")
        exported = vars(self._package).values()  # errors that share no class but Exception
        named = [each for each in exported if isinstance(each, type) and issubclass(each, Exception)]
        self._faults: tuple[type[Exception], ...] = (*named, RuntimeError, LookupError, ValueError, TypeError, OSError)
        self._open()

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def columns(self) -> dict[str, Any]:
        """Type of each column."""
        return {column.name: column.dtype for column in self._dataset.schema.columns}

    def check_column(self, name: str, key: str, *, holds_pictures: bool) -> None:
        """Refuse a column that is not there, or that holds something else.

        Args:
            name: of the column.
            key: its name in the configuration, for the message.
            holds_pictures: what is wanted: pictures, or texts or numbers.

        Raises:
            DataError: names the columns.
        """
        columns = self.columns
        fitting = [each for each, dtype in columns.items() if _is_picture(dtype) == holds_pictures]
        fix = f"set {key}={' or '.join(fitting)}" if fitting else "choose another dataset"
        if name not in columns:
            raise DataError(
                f"{self.url} has no column {name}",
                given=f"{key}={name}",
                allowed=f"one of its columns: {', '.join(columns)}",
                fix=fix,
            )
        if name not in fitting:
            wanted = "images, masks or arrays of two or three axes" if holds_pictures else "texts or numbers"
            raise DataError(
                f"the column {name} of {self.url} holds {'no pictures' if holds_pictures else 'no names'}",
                given=f"{key}={name}: {str(columns[name]).strip()}",
                allowed=f"a column of {wanted}: {', '.join(fitting) or 'there is none'}",
                fix=fix,
            )

    def texts(self, column: str) -> list[str]:
        """The values of a column as texts, one for each row.

        Raises:
            DataError: the dataset cannot be read.
        """
        return [str(value) for value in self._read(column, slice(None))]

    def row(self, column: str, number: int) -> NDArray[Any]:
        """One picture of a column as stored.

        Raises:
            DataError: it cannot be read, holds nothing, or the dataset was changed since it was opened.
        """
        if os.getpid() != self._process:  # its threads do not live on in a process that was forked
            known = self.version
            self._open()
            if self.version != known:
                raise self._refused(f"{self.url} was changed while it was prepared", f"commit {self.version}")
        stored = self._read(column, number)
        if not isinstance(stored, np.ndarray) or stored.size == 0:
            raise self._refused(f"row {number} of {self.url} holds no picture", f"{column}: {type(stored).__name__}")
        return stored

    def _open(self) -> None:
        token = next((os.environ[name] for name in TOKENS if os.environ.get(name)), None)
        try:
            self._dataset = self._package.open_read_only(self.url, token=token)
        except self._faults as error:
            is_remote = "://" in self.url
            given = f"{type(error).__name__}: {error}"
            hint = f"check the address, and export {TOKENS[0]}=<token> where one is needed" if is_remote else ""
            raise DataError(
                f"no Deep Lake dataset can be opened at {self.url} (data.root)",
                given=f"{given}{'' if token else f'; no token in {TOKENS[0]}'}" if is_remote else given,
                allowed="a folder, or an address (al://, s3://, gs://, az://), that deeplake 4 has written",
                fix=hint or "set data.root=<folder>, or train on a phantom: data.root=phantom",
            ) from error
        self._process, self.version = os.getpid(), f"{self._dataset.id} {self._dataset.version}"

    def _read(self, column: str, rows: int | slice) -> Any:
        try:
            return self._dataset[column][rows]
        except self._faults as error:
            where = f"row {rows}" if isinstance(rows, int) else f"column {column}"
            given = f"column {column}: {type(error).__name__}: {error}"
            raise self._refused(f"{where} of {self.url} cannot be read", given) from error

    def _refused(self, what: str, given: str) -> DataError:
        return DataError(
            what,
            given=given,
            allowed="whole rows of a dataset that nobody changes meanwhile",
            fix="start again, write the row again, or leave it out: data.on_error=skip",
        )


def as_photo(stored: NDArray[Any], place: Path) -> NDArray[Any]:
    """A stored image as a photo is read: (3, 1, H, W), 0 to 255; uint8, of 16 bits float32.

    Args:
        stored: (H, W) or (H, W, C) of 8 or 16 bits; grey becomes RGB, alpha is dropped.
        place: for the message.

    Raises:
        DataError: other numbers or channels.
    """
    bands = stored[..., None] if stored.ndim == 2 else stored
    if bands.ndim != 3 or bands.shape[2] not in (1, 3, 4) or stored.dtype not in (np.uint8, np.uint16):
        raise _unusable(stored, place, "image", "8 or 16 bits, (height, width) or (height, width, 1, 3 or 4)")
    rgb = np.repeat(bands, 3, axis=2) if bands.shape[2] == 1 else bands[..., :3]
    scaled: NDArray[Any] = rgb if rgb.dtype == np.uint8 else rgb.astype(np.float32) / np.float32(FULL_SCALE)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[:, None])  # (H, W, 3) -> (3, 1, H, W)


def as_values(stored: NDArray[Any], place: Path) -> NDArray[Any]:
    """A stored mask as whole numbers: (H, W), (H, W, 1) or equal channels -> (1, H, W).

    Args:
        stored: whole numbers, or true and false.
        place: for the message.

    Raises:
        DataError: colours, fractions, or numbers above 16 bits.
    """
    plane = stored if stored.ndim == 2 else stored[..., 0]
    is_grey = stored.ndim == 2 or (stored.ndim == 3 and bool((stored == stored[..., :1]).all()))
    if not is_grey or stored.dtype.kind not in ("b", "u", "i") or int(plane.max()) > HIGHEST:
        raise _unusable(stored, place, "mask", "one whole number a pixel; or declare the classes by colour")
    return (plane.astype(np.uint8) if plane.dtype == bool else plane)[None]


def as_colors(stored: NDArray[Any], place: Path) -> NDArray[np.uint8]:
    """A stored mask in colours: (H, W, 3) or with alpha -> (H, W, 3).

    Args:
        stored: uint8.
        place: for the message.

    Raises:
        DataError: no colours.
    """
    if stored.ndim != 3 or stored.shape[2] not in (3, 4) or stored.dtype != np.uint8:
        raise _unusable(stored, place, "mask in colours", "8 bits, (height, width, 3 or 4); or declare values")
    return np.asarray(stored[..., :3], np.uint8)


def write(
    folder: Path, image_column: str, mask_column: str, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> None:
    """Write a dataset of two columns.

    Args:
        folder: new folder.
        image_column: name of the column with images.
        mask_column: name of the column with masks.
        pairs: (H, W, 3) uint8, and (H, W) or (H, W, 3) unsigned; one row each.

    Raises:
        ConfigError: deeplake is not installed.
    """
    package = load("deeplake", "deeplake", "data=deeplake")
    types, mask = package.types, pairs[0][1]
    kind = types.Image(sample_compression="png") if mask.ndim == 3 else types.SegmentMask(str(mask.dtype), "lz4")
    schema = {image_column: types.Image(sample_compression="png"), mask_column: kind}
    dataset = package.create(str(folder), schema=schema)
    images, masks = (list(column) for column in zip(*pairs, strict=True))
    dataset.append({image_column: images, mask_column: masks})
    dataset.commit()


def _is_picture(dtype: Any) -> bool:
    return dtype.kind.name in PICTURES and len(dtype.shape) in (2, 3)


def _unusable(stored: NDArray[Any], place: Path, what: str, allowed: str) -> DataError:
    return DataError(
        f"{place} is no {what} that can be used",
        given=f"{stored.dtype} of shape {tuple(stored.shape)}, values {shorten(map(str, np.unique(stored).tolist()))}",
        allowed=allowed,
        fix="write the row again, choose another column, or leave it out: data.on_error=skip",
    )
