"""NumPy files as rasters: bands first or last, invalid pixels, masks, and refusals with what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seglab.data.formats import array_bands
from seglab.data.rasters import RastersData
from seglab.errors import DataError

PIXELS = np.random.default_rng(0).random((40, 36, 6)).astype(np.float32)
LABELS = np.arange(40 * 36).reshape(40, 36) % 3


def written(file: Path, **arrays: np.ndarray) -> Path:
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize(("name", "stored"), [("image", PIXELS), ("img", PIXELS.transpose(2, 0, 1))])
def test_bands_are_the_shorter_of_the_first_and_the_last_axis(tmp_path: Path, name: str, stored: np.ndarray) -> None:
    image, valid = array_bands.read_bands(written(tmp_path / "a.npz", **{name: stored}))
    assert image.dtype == np.float32 and valid.all() and valid.shape == (1, 40, 36)
    assert np.array_equal(image[:, 0], PIXELS.transpose(2, 0, 1))
    assert array_bands.stored_as(tmp_path / "a.npz") == ("float32", (40, 36))


def test_one_band_needs_no_axis_and_a_bare_array_is_image_or_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LABELS.astype(">i2"))
    image, _ = array_bands.read_bands(tmp_path / "a.npy")
    assert image.shape == (1, 1, 40, 36) and image.dtype == np.int16
    assert np.array_equal(array_bands.read_values(tmp_path / "a.npy")[0], LABELS)


def test_pixels_that_are_no_numbers_count_nowhere(tmp_path: Path) -> None:
    stored = PIXELS.copy()
    stored[3, 4, 5], stored[7, 8, 0] = np.nan, np.inf
    image, valid = array_bands.read_bands(written(tmp_path / "a.npz", image=stored))
    assert np.isfinite(image).all() and np.argwhere(~valid).tolist() == [[0, 3, 4], [0, 7, 8]]


MASKS = [LABELS.astype(np.uint8), LABELS[..., None].astype(np.int64), LABELS.astype(float), LABELS > 0]


@pytest.mark.parametrize("stored", MASKS, ids=["uint8", "one band", "whole floats", "bool"])
def test_masks_hold_whole_numbers(tmp_path: Path, stored: np.ndarray) -> None:
    found = array_bands.read_values(written(tmp_path / "a.npz", msk=stored))
    assert found.dtype.kind in "iu" and np.array_equal(found[0], stored.reshape(40, 36).astype(int))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"mask": LABELS / 2}, "fractions"),
    ({"mask": PIXELS}, "6 bands"),
    ({"image": PIXELS}, "holds no mask"),
    ({"mask": np.zeros((9, 9, 9), int)}, r"shape \(9, 9, 9\)"),
    ({"mask": np.array([LABELS, None], object)[1:]}, "cannot be read"),
]


@pytest.mark.parametrize(("arrays", "reason"), BAD)
def test_what_is_no_mask_is_refused(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        array_bands.read_values(written(tmp_path / "a.npz", **arrays))


def test_a_file_with_image_and_mask_is_a_case_and_labels_are_written_like_it(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        written(tmp_path / f"{name}.npz", img=PIXELS, msk=LABELS + 3)
    where = {"root": str(tmp_path), "images": "{case}.npz", "masks": "{case}.npz"}
    data = RastersData(**where, cache_dir=str(tmp_path / "cache"), classes={"x": 3, "y": 4, "z": 5}, on_leak="warn")
    data.load()
    assert [record.id for record in data.store.records] == ["a", "b", "c"] and data.spec.in_channels == 6
    assert data.store.records[0].header.stored == "float32" and data.store.records[0].header.affine is None
    target = data.write_labels(np.asarray(data.store.mask("a")), tmp_path / "a.npz", tmp_path / "out", data.spec)
    assert np.array_equal(np.load(target)["mask"], LABELS + 3)
