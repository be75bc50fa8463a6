"""Every input of the tests: small phantoms written once per process, writers of tiny files, a `python` that is warm."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from warm_python import warm_python

from seglab.data.phantoms import cracks, ct, scenes

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that no core waits for the other one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("ddp")}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """What is imported by now stays: collections of garbage during the tests need not look at it."""
    gc.freeze()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared data is kept during the session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def ct_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients in LiTS naming."""
    folder = tmp_path_factory.mktemp("ct_root")
    ct.write(folder, n_patients=8)
    return folder


@pytest.fixture(scope="session")
def crack_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos of four patches each, with groups.csv."""
    folder = tmp_path_factory.mktemp("crack_root")
    cracks.write(folder, n_photos=8)
    return folder


@pytest.fixture(scope="session")
def scene_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six four-band GeoTIFF scenes."""
    folder = tmp_path_factory.mktemp("scene_root")
    scenes.write(folder, n_scenes=6)
    return folder


@pytest.fixture(scope="session")
def python() -> Iterator[str]:
    """One that has imported already; tests of processes that are killed from outside take `sys.executable`."""
    with warm_python(ROOT / "src", os.environ, ROOT / "tests" / "ddp") as folder:
        yield str(folder / "python")


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    """Writes (X, Y, Z) voxels: write_nifti(file, voxels, affine=None); identity affine (RAS, 1 mm) by default."""

    def write(file: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), file)
        return file

    return write


@pytest.fixture(scope="session")
def write_lits(write_nifti: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Writes a pair volume-N, segmentation-N of 20x18x6 voxels with a liver box and a tumour in it."""

    def write(folder: Path, number: int, *, suffix: str = ".nii.gz", offset: int = 0) -> tuple[Path, Path]:
        mask = np.zeros((20, 18, 6), np.uint8)
        mask[10:18, 4:12, 1:5] = 1
        mask[12:14, 6:8, 2:4] = 2
        rng = np.random.default_rng(number)
        volume = (rng.integers(-150, 50, mask.shape) + 60 * mask + offset).astype(np.int16)
        names = (f"volume-{number}{suffix}", f"segmentation-{number}{suffix}")
        return write_nifti(folder / names[0], volume), write_nifti(folder / names[1], mask)

    return write


@pytest.fixture(scope="session")
def write_picture() -> Callable[..., Path]:
    """Writes an (H, W[, channels]) uint8 array: write_picture(file, array, **what Pillow's save takes)."""

    def write(file: Path, array: np.ndarray, **options: Any) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file, **options)
        return file

    return write


@pytest.fixture(scope="session")
def write_crack(write_picture: Callable[..., Path]) -> Callable[..., None]:
    """Writes images/NAME and masks/NAME.png of 20x24 pixels; the crack is column 5 to 7."""

    def write(root: Path, *names: str) -> None:
        mask = np.zeros((20, 24), np.uint8)
        mask[:, 5:8] = 255
        for number, name in enumerate(names):
            photo = np.random.default_rng(number).integers(90, 200, (20, 24, 3), dtype=np.uint8)
            photo[mask > 0] //= 3
            write_picture(root / "images" / name, photo)
            write_picture(root / "masks" / f"{Path(name).stem}.png", mask)

    return write


@pytest.fixture(scope="session")
def write_raster() -> Callable[..., Path]:
    """Writes (bands, H, W) as GeoTIFF with 10 m pixels: write_raster(file, array, crs=, west=, nodata=)."""

    def write(
        file: Path,
        array: np.ndarray,
        *,
        crs: str | None = "EPSG:32633",
        west: float = 500_000.0,
        nodata: float | None = None,
    ) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        bands, height, width = array.shape
        place = {"crs": crs, "transform": Affine(10, 0, west, 0, -10, 4_600_000.0)} if crs else {}
        size = {"count": bands, "height": height, "width": width}
        with rasterio.open(file, "w", driver="GTiff", dtype=array.dtype, nodata=nodata, **size, **place) as sink:
            sink.write(array)
        return file

    return write
