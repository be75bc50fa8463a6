"""Copies are found however they were re-encoded, resized, mirrored or turned; images that are merely alike are not."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seglab.data.crack import CrackData
from seglab.data.duplicates import Pair, duplicates
from seglab.data.lits import LitsData
from seglab.data.phantoms import cracks
from seglab.data.preparation import Preparation
from seglab.data.signs import signs
from seglab.data.store import Store
from seglab.data.survey import survey

COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg": lambda a: cv2.imdecode(cv2.imencode(".jpg", a, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR),
    "smaller": lambda a: cv2.resize(a, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "larger": lambda a: cv2.resize(a, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC),
    "mirrored": lambda a: a[:, ::-1],
    "upside_down": lambda a: a[::-1],
    "turned": np.rot90,
    "brighter": lambda a: np.clip(a * 1.1 + 8, 0, 255).astype(np.uint8),
}


def photos(root: Path, n_photos: int) -> list[Path]:
    cracks.write(root, n_photos=n_photos)
    (root / "groups.csv").unlink()
    return sorted((root / "images").iterdir())


def stored(root: Path, cache: Path) -> tuple[CrackData, Store]:
    data = CrackData(root=str(root), cache_dir=str(cache))
    return data, Preparation(source=data, folder=cache / "prepared").store(data.find_cases(root))


def test_every_kind_of_copy_is_found_and_nothing_else(tmp_path: Path) -> None:
    originals = photos(tmp_path / "raw", 4)
    wanted = set()
    for number, original in enumerate(originals[: 2 * len(COPIES)]):
        name = f"{list(COPIES)[number % len(COPIES)]}_{number}"
        for folder in ("images", "masks"):
            picture = cv2.imread(str(original.parents[1] / folder / original.name), cv2.IMREAD_COLOR)
            change = COPIES[name.rpartition("_")[0]]
            copy = change(picture)
            if folder == "masks":
                copy = (copy > 127).astype(np.uint8) * 255
            cv2.imwrite(str(original.parents[1] / folder / f"{name}.png"), copy)
        wanted.add(frozenset((original.stem, name)))
    _, store = stored(tmp_path / "raw", tmp_path)
    pairs = duplicates(store)
    assert {frozenset((pair.one, pair.other)) for pair in pairs} == wanted
    turned = {name for pair in pairs if pair.mirrored for name in (pair.one, pair.other) if "photo" not in name}
    assert {name.rpartition("_")[0] for name in turned} == {"mirrored", "upside_down", "turned"}


def test_pairs_are_kept_beside_the_cases(tmp_path: Path) -> None:
    originals = photos(tmp_path / "raw", 2)
    for folder in ("images", "masks"):
        file = tmp_path / "raw" / folder / originals[0].name
        (file.parent / "copy.png").write_bytes(file.read_bytes())
    data, store = stored(tmp_path / "raw", tmp_path)
    wanted = Pair("copy", originals[0].stem, same_group=False, mirrored=False, same_mask=True, slices=((0, 0),))
    assert duplicates(store) == (wanted,)
    kept = json.loads((store.folder / "duplicates.json").read_text())
    assert len(kept["pairs"]) == 1 and duplicates(store) == (wanted,)
    (finding,) = [each for each in survey(store, data) if "the same as" in each.what]
    assert finding.severity == "warning" and originals[0].name in finding.value and finding.file.endswith("copy.png")


def test_a_constant_image_is_no_copy_of_another_and_signs_follow_mirroring() -> None:
    assert not signs(np.full((1, 2, 9, 9), 7)).any()
    plane = np.random.default_rng(0).normal(size=(1, 1, 64, 64))
    plane = cv2.GaussianBlur(plane[0, 0], (0, 0), 3)[None, None]
    own, mirrored = signs(plane)[0], signs(plane[..., ::-1])[0]
    odd_columns = (np.arange(1, 64) % 8) % 2 == 1
    assert np.array_equal(mirrored, np.where(odd_columns, -own, own))


@pytest.fixture
def nested(tmp_path: Path, write_nifti: Callable[..., Path]) -> Path:
    """A volume, slices 3 to 8 of it with the origin of its first slice, and another volume."""
    rng = np.random.default_rng(0)
    for number, seed in ((1, 0), (3, 9)):
        noise = np.random.default_rng(seed).normal(size=(48, 48, 10))
        voxels = np.stack([cv2.GaussianBlur(noise[..., z], (0, 0), 2) for z in range(10)], -1) * 500
        mask = (rng.random(voxels.shape) > 0.5).astype(np.uint8)
        affine = np.diag([0.8, 0.8, 5.0, 1.0])
        write_nifti(tmp_path / f"volume-{number}.nii", voxels.astype(np.int16), affine)
        write_nifti(tmp_path / f"segmentation-{number}.nii", mask, affine)
        if number == 1:
            write_nifti(tmp_path / "volume-2.nii", voxels[..., 3:8].astype(np.int16), affine)
            write_nifti(tmp_path / "segmentation-2.nii", mask[..., 3:8], affine)
    return tmp_path


def test_a_part_of_a_volume_is_found_and_its_wrong_origin_measured(nested: Path, tmp_path: Path) -> None:
    data = LitsData(root=str(nested), cache_dir=str(tmp_path))
    store = Preparation(source=data, folder=tmp_path / "prepared").store(data.find_cases(nested))
    (pair,) = duplicates(store)
    assert (pair.one, pair.other, pair.same_mask) == ("volume-2", "volume-1", True)
    assert pair.slices == tuple((z, z + 3) for z in range(5))
    (finding,) = [each for each in survey(store, data) if "lies elsewhere" in each.what]
    assert finding.value == "15 mm from volume-1.nii (group 1), slices 4 to 8 of 10"


def test_of_slices_that_look_alike_the_right_one_is_told(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    coarse = cv2.GaussianBlur(rng.normal(size=(64, 64)), (0, 0), 8)[..., None] * 20_000
    fine = cv2.GaussianBlur(rng.normal(size=(64, 64, 12)), (0, 0), 1)
    drift = np.cumsum(fine, axis=2) / np.sqrt(np.arange(1, 13))  # each slice is much like its neighbours
    voxels = (coarse + 300 * drift).astype(np.int16)
    for number, part in ((1, voxels), (2, voxels[..., 4:9])):
        write_nifti(tmp_path / f"volume-{number}.nii", part)
        write_nifti(tmp_path / f"segmentation-{number}.nii", (part > 0).astype(np.uint8))
    data = LitsData(root=str(tmp_path), cache_dir=str(tmp_path), check_hu=False)
    store = Preparation(source=data, folder=tmp_path / "prepared").store(data.find_cases(tmp_path))
    hashes = store.signs("volume-1")
    assert (hashes[:-1] * hashes[1:]).sum(axis=1).max() == 63  # some neighbours have equal signs
    (pair,) = duplicates(store)
    assert pair.slices == tuple((z, z + 4) for z in range(5))
