"""GeoTIFF scenes larger than memory: rows are read and written as they are needed, on one grid.

GDAL may not tell that a disk filled up while it closed a file, so what was written is read back and compared.
"""

import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window
from torch import Tensor

from seglab.data.formats import raster

TILE_PX = 256
CACHE = {"GDAL_CACHEMAX": 64}
"""MB of decoded blocks that GDAL keeps; its own choice is a share of the machine's memory."""

BANDS_AT_ONCE = 1 << 22
"""Pixels that are looked at once when a whole band is searched."""


class Scene:
    """An open GeoTIFF of which rows are read; values of invalid pixels are 0, as `raster.read_raster` gives them.

    Args:
        dataset: the open file.
        path: its name.
    """

    def __init__(self, dataset: Any, path: Path) -> None:
        self.dataset, self.path = dataset, path
        tagged = zip(dataset.indexes, dataset.colorinterp, strict=True)
        self._alpha = [index for index, kind in tagged if kind == ColorInterp.alpha and self._is_transparency(index)]
        if len(self._alpha) == dataset.count:
            self._alpha = []  # a lone band is data
        self._masked = [
            i for i, flags in zip(dataset.indexes, dataset.mask_flag_enums, strict=True) if MaskFlags.alpha not in flags
        ]
        self._bands = [index for index in dataset.indexes if index not in self._alpha]
        self._first, self._rows = 0, np.empty((len(self._bands), 0, dataset.width), dtype=self._dtype)
        self._valid = np.empty((0, dataset.width), dtype=bool)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, 1, H, W)."""
        return len(self._bands), 1, self.dataset.height, self.dataset.width

    def read(self, depth: tuple[int, int], height: tuple[int, int]) -> Tensor:
        """Rows of all bands: (C, 1, h, W)."""
        self._load(*height)
        return torch.from_numpy(self._rows[:, None, height[0] - self._first : height[1] - self._first])

    def valid(self, height: tuple[int, int]) -> NDArray[np.bool_]:
        """Where rows hold data: (h, W)."""
        if not self._first <= height[0] <= height[1] <= self._first + self._rows.shape[1]:
            self._load(*height)
        return self._valid[height[0] - self._first : height[1] - self._first]

    def _load(self, start: int, end: int) -> None:
        """Keep rows `start` to `end`; what was read before is not decoded again."""
        known = self._first + self._rows.shape[1]
        if not self._first <= start <= known <= end:
            self._first, known = start, start
            self._rows, self._valid = self._rows[:, :0], self._valid[:0]
        rows, valid = self._decode(known, end) if end > known else (self._rows[:, :0], self._valid[:0])
        kept = start - self._first
        self._rows = np.concatenate([self._rows[:, kept:], rows], axis=1)
        self._valid, self._first = np.concatenate([self._valid[kept:], valid]), start

    def _decode(self, start: int, end: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        window = Window(0, start, self.dataset.width, end - start)
        stored = self.dataset.read(self._bands, window=window)
        valid = (self.dataset.read_masks(self._masked, window=window) > 0).all(axis=0)
        if self._alpha:
            valid &= (self.dataset.read(self._alpha, window=window) > 0).all(axis=0)
        if stored.dtype.kind == "f":
            valid &= np.isfinite(stored).all(axis=0)
        stored = stored.astype(self._dtype, copy=False)
        if not valid.all():
            stored[:, ~valid] = 0
        return stored, valid

    @property
    def _dtype(self) -> np.dtype[Any]:
        return raster.native_dtype(np.dtype(self.dataset.dtypes[0]))

    def _is_transparency(self, index: int) -> bool:
        step = max(1, BANDS_AT_ONCE // self.dataset.width)
        parts = (
            Window(0, top, self.dataset.width, min(step, self.dataset.height - top))
            for top in range(0, self.dataset.height, step)
        )
        return all(raster.is_transparency(self.dataset.read(index, window=part)) for part in parts)


@contextmanager
def opened(path: Path, *, require_crs: bool = True) -> Iterator[Scene]:
    """Open a GeoTIFF to read rows of it.

    Raises:
        DataError: broken file, complex numbers, no CRS or no transform where they are required.
    """
    with rasterio.Env(**CACHE), raster.opened(path, most_values=None) as dataset:
        raster.geometry_of(dataset, path, require_crs)
        yield Scene(dataset, path)


class RowWriter:
    """Writes rows into a tiled file, a row of tiles at a time; until then they wait in the type in which they come.

    Args:
        sink: the open file.
    """

    def __init__(self, sink: Any) -> None:
        self.sink, self.sums = sink, dict[int, int]()
        self._rows: NDArray[Any] = np.empty((sink.count, 0, sink.width))
        self._first = self._filled = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Write the next rows: (bands, h, W), all of one type that the file's type holds."""
        if not self._rows.size:
            self._rows = np.empty((self.sink.count, TILE_PX, self.sink.width), rows.dtype)
        while rows.shape[1]:
            n = min(rows.shape[1], TILE_PX - self._filled)
            self._rows[:, self._filled : self._filled + n] = rows[:, :n]
            self._filled, rows = self._filled + n, rows[:, n:]
            if self._filled == TILE_PX:
                self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        if self._filled:
            window, total = Window(0, self._first, self.sink.width, self._filled), 0
            for index, band in zip(self.sink.indexes, self._rows[:, : self._filled], strict=True):
                values = np.ascontiguousarray(band, self.sink.dtypes[0])
                self.sink.write(values, index, window=window)
                total = zlib.crc32(values.data, total)
            self.sums[self._first] = total
            self._first, self._filled = self._first + self._filled, 0

    def check(self, file: Path) -> None:
        """Read back what was written.

        Raises:
            OSError: the file holds something else.
        """
        with rasterio.open(file) as written:
            for first, expected in self.sums.items():
                n, found = min(TILE_PX, written.height - first), 0
                for index in written.indexes:
                    found = zlib.crc32(written.read(index, window=Window(0, first, written.width, n)), found)
                if found != expected:
                    raise OSError(
                        f"{file}: rows {first} to {first + n} are not as they were written; is the disk full?"
                    )


@contextmanager
def created(
    target: Path,
    like: Scene,
    *,
    dtype: str,
    count: int = 1,
    nodata: float | None = None,
    colors: Mapping[int, tuple[int, int, int]] | None = None,
    cog: bool = False,
) -> Iterator[RowWriter]:
    """Write a tiled, deflated GeoTIFF row by row on the grid of another one.

    Args:
        target: .tif, a temporary name: after an error it is left half-written.
        like: gives CRS, transform and size.
        dtype: of the values.
        count: bands.
        nodata: value of pixels without any.
        colors: RGB of values, for a palette.
        cog: turn it into a cloud-optimised GeoTIFF, with overviews.

    Raises:
        OSError: when it cannot be written or holds something else than was written.
    """
    about = {"dtype": dtype, "count": count, "nodata": nodata}
    plain = target.with_name(f"plain-{target.name}") if cog else target
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # like the image
        try:
            with rasterio.open(plain, "w", **about, **_grid(like.dataset), **_coding(dtype)) as sink:
                sink.update_tags(AREA_OR_POINT=like.dataset.tags().get("AREA_OR_POINT", "Area"))
                if colors:
                    sink.write_colormap(1, colors)  # first: once pixels are written GDAL makes no palette of the band
                writer = RowWriter(sink)
                yield writer
                writer.flush()
            if cog:
                _to_cog(plain, target, dtype)
            writer.check(target)
        except RasterioError as error:
            raise OSError(f"{target}: {error}") from error


def _grid(source: Any) -> dict[str, Any]:
    return {name: getattr(source, name) for name in ("height", "width", "crs", "transform")}


def _coding(dtype: str) -> dict[str, Any]:
    tiles = {"driver": "GTiff", "tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX}
    packing = {} if dtype == "uint8" else {"predictor": 3, "zlevel": 1, "interleave": "band"}
    return {**tiles, "compress": "deflate", "bigtiff": "IF_SAFER", **packing}


def _to_cog(plain: Path, target: Path, dtype: str) -> None:
    resampling = "nearest" if dtype == "uint8" else "average"
    options = {"compress": "deflate", "overview_resampling": resampling, "bigtiff": "IF_SAFER"}
    copy_raster(plain, target, driver="COG", **options)
    plain.unlink()
