"""Scenes row by row: rows as the whole is read, whatever order they are asked for; files read back after writing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from seglab.data.formats import raster, scene
from seglab.errors import DataError

Write = Callable[..., Path]


def bands(dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (3, 300, 45)).astype(dtype)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 7), ("uint16", None), ("float32", -1), ("float32", np.nan)])
def test_rows_are_those_of_the_whole_in_any_order(
    dtype: str, nodata: float | None, tmp_path: Path, write_raster: Write
) -> None:
    values = bands(dtype)
    if dtype == "float32":
        values[1, 20:30, :9] = np.nan
    file = write_raster(tmp_path / "scene.tif", values, nodata=nodata)
    image, valid, _ = raster.read_raster(file)
    with scene.opened(file) as rows:
        assert rows.shape == image.shape
        for span in ((0, 100), (50, 150), (140, 290), (290, 300), (10, 20), (10, 20), (0, 300)):
            assert np.array_equal(rows.read((0, 1), span).numpy(), image[:, :, slice(*span)])
            assert np.array_equal(rows.valid(span), valid[0, slice(*span)])
        assert np.array_equal(rows.valid((200, 210)), valid[0, 200:210])


def test_transparency_is_no_band_and_says_where_there_is_data(tmp_path: Path) -> None:
    values = np.full((4, 20, 30), 9, np.uint8)
    values[3] = 255
    values[3, :, 25:] = 0
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 0, 0, -1, 0), "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=4, height=20, width=30, **place) as sink:
        sink.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        sink.write(values)
    with scene.opened(tmp_path / "a.tif") as rows:
        assert rows.shape == (3, 1, 20, 30)
        assert rows.valid((3, 5)).sum() == 2 * 25 and rows.read((0, 1), (0, 1)).sum() == 3 * 25 * 9


def test_what_has_no_place_or_is_cut_is_refused(tmp_path: Path, write_raster: Write) -> None:
    file = write_raster(tmp_path / "scene.tif", bands(), crs=None)
    with pytest.raises(DataError), scene.opened(file):
        pass
    with scene.opened(file, require_crs=False) as rows:
        assert rows.shape == (3, 1, 300, 45)
    file.write_bytes(file.read_bytes()[:30_000])
    with pytest.raises(DataError, match="cannot be read"), scene.opened(file, require_crs=False) as rows:
        rows.read((0, 1), (0, 300))


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize(("dtype", "count"), [("uint8", 1), ("float32", 2)])
def test_rows_of_any_number_are_written_on_the_grid(
    dtype: str, count: int, cog: bool, tmp_path: Path, write_raster: Write
) -> None:
    like, target = write_raster(tmp_path / "scene.tif", np.ones((1, 600, 530), np.uint8)), tmp_path / "out.tif"
    values = np.random.default_rng(0).integers(0, 5, (count, 600, 530)).astype(dtype)
    colors = {value: (value, 50, 60) for value in range(5)} if dtype == "uint8" else None
    how: dict[str, Any] = {"dtype": dtype, "count": count, "nodata": 4, "colors": colors, "cog": cog}
    with scene.opened(like) as image, scene.created(target, image, **how) as rows:
        for start, end in ((0, 1), (1, 300), (300, 590), (590, 600)):
            rows.write(values[:, start:end])
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["out.tif", "scene.tif"]
    with rasterio.open(target) as written, rasterio.open(like) as given:
        assert np.array_equal(written.read(), values) and written.nodata == 4
        assert (written.crs, written.transform, written.shape) == (given.crs, given.transform, given.shape)
        assert written.profile["tiled"] and written.compression.name == "deflate"
        assert bool(written.overviews(1)) == cog
        assert colors is None or written.colormap(1)[3][:3] == (3, 50, 60)


def test_a_file_that_does_not_hold_what_was_written_is_told(tmp_path: Path, write_raster: Write) -> None:
    like = write_raster(tmp_path / "scene.tif", np.ones((1, 300, 40), np.uint8))
    with scene.opened(like) as image, scene.created(tmp_path / "out.tif", image, dtype="uint8") as rows:
        rows.write(np.full((1, 300, 40), 3, np.uint8))
    with pytest.raises(OSError, match="rows 0 to 256 are not as they were written"):
        rows.check(like)
