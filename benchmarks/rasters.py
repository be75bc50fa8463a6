"""Windows of a large raster and whole photos: the store beside rasterio on GeoTIFF and Pillow on PNG.

python benchmarks/rasters.py

A synthetic scene of 10,000 x 10,000 pixels in three bands, written tiled and striped with deflate (predictor 2) and
prepared; random windows of 512 x 512 at any offset, files kept open, one thread, all in the page cache. GDAL keeps 16
MB of decoded blocks: by default it would keep this whole scene, which it cannot of a data set. Photos of 1024 x 1024.
Image alone, as arrays. The ways take turns; the last line is {name: {value, goal, ok}}.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine
from rasterio.windows import Window
from runs import finish, table

from seglab.data.arrays import open_array, read_box
from seglab.data.store import Layout, Sample, write_entry

WINDOW, CACHE_MB = 512, 16
LAYOUTS = {
    "tiled deflate": {"tiled": True, "blockxsize": 256, "blockysize": 256},
    "striped deflate": {"tiled": False},
}
Read = Callable[[int, int], NDArray[np.uint8]]


def main() -> None:
    """Write everything, read in turns, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--reads", type=int, default=12, help="of each way in each round")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    folder = Path(tempfile.mkdtemp(prefix="seglab-rasters-"))
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
            times = windows(folder, given.side, given.rounds, given.reads)
        times |= photos(folder, given.rounds, given.reads)
    finally:
        shutil.rmtree(folder)
    print(table(["way", "ms"], [[name, f"{1000 * median(found):.3g}"] for name, found in times.items()]))

    def ratio(peer: str, ours: str) -> float:
        return median(theirs / own for theirs, own in zip(times[peer], times[ours], strict=True))

    figures = {
        "windows_over_tiled_deflate": (ratio("tiled deflate", "store, window"), 2.5),
        "windows_over_striped_deflate": (ratio("striped deflate", "store, window"), 8.0),
        "photos_over_pillow_png": (ratio("Pillow, PNG", "store, photo"), 20.0),
    }
    finish({name: (value, f">= {goal}", value >= goal) for name, (value, goal) in figures.items()})


def windows(folder: Path, side: int, rounds: int, reads: int) -> dict[str, list[float]]:
    """Seconds of processor time per window of each way, in each round."""
    image = scene(side)
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000, 0, -1, 4_600_000)}
    size = {"count": 3, "height": side, "width": side, "dtype": "uint8"}
    ways: dict[str, Read] = {}
    for name, layout in LAYOUTS.items():
        file = folder / f"{name}.tif"
        options = {"compress": "deflate", "predictor": 2, "interleave": "pixel", **layout, **place, **size}
        with rasterio.open(file, "w", driver="GTiff", **options) as sink:
            sink.write(image)
        ways[name] = from_file(file)
    stored = prepare(folder / "scene", image)
    ways["store, window"] = lambda y, x: np.array(read_box(stored, (0, y, x), (1, y + WINDOW, x + WINDOW)))
    rng = np.random.default_rng(0)
    y, x = (int(n) for n in rng.integers(side - WINDOW, size=2))
    if any(
        not np.array_equal(read(y, x).reshape(3, WINDOW, WINDOW), image[:, y : y + WINDOW, x : x + WINDOW])
        for read in ways.values()
    ):
        raise SystemExit("the ways do not read the same")
    del image
    places = rng.integers(side - WINDOW, size=(rounds + 1, reads, 2))
    return timed(ways, lambda read, number, index: read(*map(int, places[number, index])), rounds, reads)


def photos(folder: Path, rounds: int, reads: int) -> dict[str, list[float]]:
    """Seconds of processor time per photo of each way, in each round."""
    image = scene(1024)
    Image.fromarray(np.moveaxis(image, 0, 2)).save(folder / "photo.png")
    stored = prepare(folder / "photo", image)
    ways: dict[str, Callable[[], NDArray[np.uint8]]] = {
        "Pillow, PNG": lambda: np.asarray(Image.open(folder / "photo.png")),
        "store, photo": lambda: np.array(stored),
    }
    return timed(ways, lambda read, number, index: read(), rounds, reads)


def scene(side: int) -> NDArray[np.uint8]:
    """Fields with fine texture: smooth noise and grain, (3, side, side)."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(120, 40, (side // 40 + 1, side // 40 + 1, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    grain = np.tile(rng.normal(0, 6, (1000, 1000, 3)).astype(np.float32), (side // 1000 + 1, side // 1000 + 1, 1))
    return np.moveaxis((smooth + grain[:side, :side]).clip(0, 255).astype(np.uint8), 2, 0).copy()


def prepare(folder: Path, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Store an image as a case and map it: (3, 1, H, W)."""
    mask = np.zeros((1, *image.shape[1:]), np.uint8)
    mask[0, ::7, ::7] = 1
    sample = Sample(image[:, None], mask, np.ones(mask.shape, bool), (1.0, 1.0, 1.0))
    write_entry(folder, lambda: sample, Layout(num_classes=2, clip=(None, None)))
    stored: NDArray[np.uint8] = open_array(str(folder), "image")
    return stored


def from_file(file: Path) -> Read:
    """Windows of a GeoTIFF that stays open."""
    source = rasterio.open(file)
    return lambda y, x: source.read(window=Window(x, y, WINDOW, WINDOW))


def timed(
    ways: dict[str, Callable[..., object]], call: Callable[..., object], rounds: int, reads: int
) -> dict[str, list[float]]:
    """Seconds of processor time per call; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, read in ways.items():
            start = time.thread_time()
            for index in range(reads):
                call(read, number, index)
            if number:
                times[name].append((time.thread_time() - start) / reads)
    return times


if __name__ == "__main__":
    main()
