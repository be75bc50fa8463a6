"""Rasters that must be refused or repaired: a four-band scene with its mask on one grid, and their spoilers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from entry import HTML, Bad, Change, Odd, cut, holds, is_link, lacks
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

SCENE, MASK = "images/scene.tif", "masks/scene.tif"
GRID = Affine(10, 0, 500_000, 0, -10, 4_600_000)
SIZE = (20, 26)
COLORS = {"water": (0xE2, 0xA9, 0x29), "land": (0x84, 0x29, 0xF6), "void": (0x9B, 0x9B, 0x9B)}


def bands() -> np.ndarray:
    """Four bands of reflectance."""
    return np.random.default_rng(0).integers(300, 4000, (4, *SIZE)).astype(np.uint16)


def classes() -> np.ndarray:
    """Three of the five classes."""
    mask = np.zeros((1, *SIZE), np.uint8)
    mask[:, 3:9, 4:20], mask[:, 12:, :10] = 1, 3
    return mask


def save(root: Path, name: str, array: np.ndarray, **options: Any) -> None:
    """Write a GeoTIFF on the common grid, unless told otherwise."""
    (root / name).parent.mkdir(exist_ok=True)
    count, height, width = array.shape
    size = {"count": count, "height": height, "width": width, "dtype": array.dtype}
    place = {"crs": "EPSG:32633", "transform": GRID} | options
    interpretation = place.pop("interpretation", None)
    with rasterio.open(root / name, "w", driver="GTiff", **size, **place) as sink:
        sink.write(array)
        if interpretation is not None:
            sink.colorinterp = interpretation


def scene(root: Path) -> None:
    """The good twin."""
    save(root, SCENE, bands())
    save(root, MASK, classes())


def small_values(root: Path) -> None:
    """A good twin with a pixel without data: it is 0 and has no label."""
    image, mask = bands(), classes()
    image[:, 5, 5], mask[:, 5, 5] = 0, 255
    save(root, SCENE, image.astype(np.float32))
    save(root, MASK, mask, nodata=255)


def two_scenes(root: Path) -> None:
    """The good twin twice."""
    scene(root)
    save(root, "images/other.tif", bands())
    save(root, "masks/other.tif", classes())


def in_colours(root: Path) -> None:
    """The good twin as pictures."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    Image.fromarray(coloured()).save(root / "masks/tile.png")
    Image.fromarray((bands()[:3] >> 4).astype(np.uint8).transpose(1, 2, 0)).save(root / "images/tile.png")


def coloured() -> np.ndarray:
    """The mask in three colours."""
    table = np.array([COLORS["water"], COLORS["land"], (0, 0, 0), COLORS["void"]], np.uint8)
    return table[classes()[0]]


def image(change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Change:
    """Write another scene."""
    return lambda root: save(root, SCENE, change(bands()), **options)


def mask(change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Change:
    """Write another mask."""
    return lambda root: save(root, MASK, change(classes()), **options)


def put(array: np.ndarray, value: float) -> np.ndarray:
    """The array with another value in one place of its first band."""
    array[0, 5, 5] = value
    return array


def same(array: np.ndarray) -> np.ndarray:
    """The array as it is."""
    return array


def sparse(root: Path) -> None:
    """Announce 120 GB in a file that holds nothing."""
    options = {"count": 3, "height": 200_000, "width": 200_000, "dtype": "uint8", "tiled": True, "compress": "deflate"}
    with rasterio.open(
        root / SCENE,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=GRID,
        SPARSE_OK=True,
        **options,
        blockxsize=8192,
        blockysize=8192,
        bigtiff="YES",
    ):
        pass


def both_without_place(root: Path) -> None:
    """Leave out CRS and transform of both."""
    save(root, SCENE, bands(), crs=None, transform=None)
    save(root, MASK, classes(), crs=None, transform=None)


def other_kind(root: Path) -> None:
    """Put a colour mask beside masks of class numbers."""
    (root / "masks/other.tif").unlink()
    Image.fromarray(coloured()).save(root / "masks/other.png")


def palette(root: Path) -> None:
    """Store the colour mask as indices into its colours."""
    Image.fromarray(coloured()).quantize(4, dither=Image.Dither.NONE).save(root / "masks/tile.png")


def odd_colour(root: Path) -> None:
    """Use a colour that no class has."""
    array = coloured()
    array[0, :3] = (1, 2, 3)
    Image.fromarray(array).save(root / "masks/tile.png")


def lossy(root: Path) -> None:
    """Store the colour mask as JPEG."""
    Image.fromarray(coloured()).save(root / "masks/tile.png", format="JPEG", quality=75)


def transparent(root: Path) -> None:
    """Mark the pixel without data by a fifth band."""
    image, _ = bands(), classes()
    alpha = np.full((1, *SIZE), 65535, np.uint16)
    alpha[:, 5, 5] = 0
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined, ColorInterp.alpha]
    save(root, SCENE, np.concatenate([image, alpha]), interpretation=kinds)


RASTERS = [
    Bad("tiff cut to half", scene, cut(SCENE, 0.5), SCENE, "cannot be read"),
    Bad("tiff cut at its end", scene, cut(SCENE, 0.97), SCENE, "cannot be read"),
    Bad("mask tiff cut", scene, cut(MASK, 0.7), MASK, "cannot be read"),
    Bad("zero bytes in a raster", scene, holds(SCENE, b""), SCENE, r"empty \(0 bytes\)"),
    Bad("web page under the name of a raster", scene, holds(SCENE, HTML), SCENE, "cannot be read"),
    Bad("raster is a link to nowhere", scene, is_link(SCENE, "gone"), SCENE, "does not exist"),
    Bad(
        "png under the name of a tif",
        scene,
        lambda r: Image.new("L", SIZE).save(r / SCENE, format="PNG"),
        SCENE,
        "read",
    ),
    Bad("no CRS and no transform", scene, both_without_place, SCENE, "no place on earth"),
    Bad("transform of one line", scene, image(same, transform=Affine(10, 0, 5, 10, 0, 4)), SCENE, "no place on earth"),
    Bad("mask with another CRS", scene, mask(same, crs="EPSG:32634"), MASK, "crs: image"),
    Bad("mask without CRS", scene, mask(same, crs=None), MASK, "crs: image"),
    Bad("mask half a pixel away", scene, mask(same, transform=GRID @ Affine.translation(0.5, 0)), MASK, "transform"),
    Bad(
        "mask of half the resolution",
        scene,
        mask(lambda a: a[:, ::2, ::2], transform=GRID @ Affine.scale(2)),
        MASK,
        "shape",
    ),
    Bad("mask one row short", scene, mask(lambda a: a[:, :-1]), MASK, "shape"),
    Bad("mask upside down", scene, mask(same, transform=Affine(10, 0, 500_000, 0, 10, 4_599_800)), MASK, "transform"),
    Bad("mask of three bands", scene, mask(lambda a: np.repeat(a, 3, 0)), MASK, "3 bands"),
    Bad("mask with a class too many", scene, mask(lambda a: put(a, 9)), MASK, r"9 \(1 pixels\)"),
    Bad("mask of fractions", scene, mask(lambda a: put(a.astype("f4"), 0.5)), MASK, "no class has"),
    Bad("mask below zero in a raster", scene, mask(lambda a: put(a.astype("i2"), -1)), MASK, "no class has"),
    Bad("mask all nodata", scene, mask(lambda a: np.full_like(a, 255), nodata=255), MASK, "no pixel with a label"),
    Bad("scene all nodata", scene, image(np.zeros_like, nodata=0), SCENE, "no pixel with a label"),
    Bad("scene all NaN", scene, image(lambda a: np.full(a.shape, np.nan, "f4")), SCENE, "no pixel with a label"),
    Bad("complex bands", scene, image(lambda a: a.astype("c8")), SCENE, "complex64"),
    Bad("120 GB in a small file", scene, sparse, SCENE, "announces too many values"),
    Bad("scenes of different bands", two_scenes, image(lambda a: a[:3]), SCENE, "different numbers of channels"),
    Bad("raster without mask", two_scenes, lacks(MASK), SCENE, "has no mask"),
    Bad("raster mask missing altogether", scene, lacks(MASK), SCENE, "without mask"),
    Bad(
        "colours beside class numbers",
        two_scenes,
        other_kind,
        ".png",
        "masks with class numbers and masks with colours",
    ),
    Bad("colour that no class has", in_colours, odd_colour, "masks/tile.png", r"#010203 \(3 pixels\)"),
    Bad("colour mask with loss", in_colours, lossy, "masks/tile.png", "colours that no class has"),
    Odd("nodata of -9999", small_values, image(lambda a: put(a.astype("f4"), -9999), nodata=-9999)),
    Odd("NaN in one band", small_values, image(lambda a: put(a.astype("f4"), np.nan))),
    Odd("infinite in one band", small_values, image(lambda a: put(a.astype("f4"), np.inf))),
    Odd("alpha band", small_values, transparent),
    Odd("mask with a nodata value", scene, mask(same, nodata=255)),
    Odd("palette mask in colours", in_colours, palette),
    Odd("tiled and compressed", scene, image(same, tiled=True, blockxsize=16, blockysize=16, compress="deflate")),
]
"""Each with what the report must say."""
