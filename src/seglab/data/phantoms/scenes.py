"""A phantom of satellite scenes: four-band GeoTIFFs with land cover masks, in two coordinate systems, with nodata."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from seglab.data.phantoms.fields import BoolArray, smooth_noise
from seglab.data.phantoms.scenes_layout import draw_layout
from seglab.data.phantoms.scenes_spectra import draw_reflectance

CLASS_NAMES = ("other", "field", "water", "building", "road")
CLASS_COLORS = ((196, 176, 140), (96, 160, 64), (48, 96, 192), (208, 64, 48), (64, 64, 64))

_BANDS = ("blue", "green", "red", "nir")
_PIXEL_M = 10.0
_ZONES = ("EPSG:32632", "EPSG:32633")
_SIZES = ((256, 256), (256, 256), (320, 256), (256, 256), (256, 256))
_IMAGE_NODATA, _MASK_NODATA = 0, 255

_README = """Synthetic satellite scenes, drawn by seglab; the places do not exist.
images/scene_NN.tif: blue, green, red, nir; uint16 reflectance x 10000; 0 = nodata.
masks/scene_NN.tif: 0 other, 1 field, 2 water, 3 building, 4 road; 255 = nodata.
"""


def write(folder: Path, *, seed: int = 0, n_scenes: int = 12) -> None:
    """Write ``images/scene_NN.tif`` (4 bands, uint16 reflectance x 10000) and ``masks/scene_NN.tif`` (uint8 classes).

    Image and mask share size, CRS and transform; two of three scenes have holes (clouds or the edge of the swath)
    where the image is 0 in all bands and the mask 255. A scene depends on the seed and its number only.

    Args:
        folder: existing or new folder to write into.
        seed: the same seed gives the same arrays in every process.
        n_scenes: number of scenes, at least 1.

    Raises:
        OSError: when the folder cannot be made or written.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    for number in range(n_scenes):
        _write_scene(folder, np.random.default_rng([seed, number]), number)


def _write_scene(folder: Path, rng: np.random.Generator, number: int) -> None:
    shape = _SIZES[number % len(_SIZES)]
    layout = draw_layout(rng, shape)
    reflectance = draw_reflectance(rng, layout)
    labels = layout.labels.copy()
    holes = _holes(rng, shape, number)
    reflectance[:, holes] = _IMAGE_NODATA
    labels[holes] = _MASK_NODATA
    profile = _profile(rng, shape, number)
    name = f"scene_{number:02d}.tif"
    with rasterio.open(folder / "images" / name, "w", count=4, dtype="uint16", nodata=_IMAGE_NODATA, **profile) as file:
        file.write(reflectance)
        file.descriptions = _BANDS
    with rasterio.open(folder / "masks" / name, "w", count=1, dtype="uint8", nodata=_MASK_NODATA, **profile) as file:
        file.write(labels, 1)
        file.descriptions = ("land cover",)


def _profile(rng: np.random.Generator, shape: tuple[int, int], number: int) -> dict[str, Any]:
    west = _PIXEL_M * float(rng.integers(30_000, 70_000))
    north = _PIXEL_M * float(rng.integers(520_000, 590_000))
    return {
        "driver": "GTiff",
        "height": shape[0],
        "width": shape[1],
        "crs": _ZONES[number % len(_ZONES)],
        "transform": rasterio.Affine(_PIXEL_M, 0.0, west, 0.0, -_PIXEL_M, north),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
    }


def _holes(rng: np.random.Generator, shape: tuple[int, int], number: int) -> BoolArray:
    if number % 3 == 0:
        return np.zeros(shape, dtype=bool)
    if number % 3 == 1:
        return np.asarray(smooth_noise(rng, shape, 22) > 1.5)
    down, right = np.indices(shape)
    return np.asarray(right + 0.25 * down < rng.uniform(0.08, 0.2) * shape[1])
