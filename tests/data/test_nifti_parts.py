"""NIfTI part by part: parts in any order give the file that the whole gives; what fails leaves nothing behind."""

import mmap
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from seglab.data.formats import grid, nifti, nifti_parts, scratch

AFFINES = {
    "depth last": np.diag([-0.7, -0.8, 2.5, 1.0]),
    "depth first": np.array([[0, -0.8, 0, 5], [0, 0, 0.7, -20], [-2.5, 0, 0, 100], [0, 0, 0, 1.0]]),
}


def volume(tmp_path: Path, write_nifti: Callable[..., Path], order: str) -> tuple[Path, np.ndarray]:
    like = write_nifti(tmp_path / "ct.nii.gz", np.zeros((5, 6, 7), np.int16), AFFINES[order])
    shape = nifti.read_volume(like)[0].shape[1:]
    return like, np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)


@pytest.mark.parametrize("order", AFFINES)
@pytest.mark.parametrize("suffix", nifti.SUFFIXES)
def test_parts_give_the_same_bytes_as_the_whole(
    order: str, suffix: str, tmp_path: Path, write_nifti: Callable[..., Path]
) -> None:
    like, labels = volume(tmp_path, write_nifti, order)
    nifti.write_labels(labels, like, tmp_path / f"whole{suffix}")
    with nifti.labels_created(like, tmp_path / f"parts{suffix}") as voxels:
        for depth in ((0, 2), (2, 3), (3, labels.shape[0])):
            for height in ((0, 4), (4, labels.shape[1])):
                voxels.write(depth, height, labels[None, slice(*depth), slice(*height)])
    assert (tmp_path / f"parts{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert np.array_equal(nifti.read_mask(tmp_path / f"parts{suffix}"), labels)


def test_maps_lie_on_the_grid_and_are_exact_to_their_steps(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    like, labels = volume(tmp_path, write_nifti, "depth first")
    geometry = nifti.read_geometry(like)
    maps = np.stack([labels / 3, 1 - labels / 3]).astype(np.float16)
    with nifti_parts.maps_created(tmp_path / "maps.nii.gz", geometry, 2) as writer:
        for index in range(labels.shape[0]):
            writer.write((index, index + 1), (0, labels.shape[1]), maps[:, index : index + 1])
    stored = nib.load(tmp_path / "maps.nii.gz")
    assert stored.shape == (5, 6, 7, 2) and np.allclose(stored.affine, geometry.affine)
    assert np.allclose(stored.header.get_zooms()[:3], (2.5, 0.8, 0.7))
    found = np.stack([grid.reading_view(stored.get_fdata()[..., index], geometry) for index in range(2)])
    assert np.abs(found - maps.astype(np.float64)).max() <= 0.5 / nifti_parts.FULL_SCALE + 1e-9


def test_an_error_between_parts_leaves_no_file(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    like, labels = volume(tmp_path, write_nifti, "depth last")
    with (
        pytest.raises(RuntimeError, match="network"),
        nifti.labels_created(like, tmp_path / "labels.nii.gz") as voxels,
    ):
        voxels.write((0, 1), (0, labels.shape[1]), labels[None, :1])
        raise RuntimeError("the network failed")
    assert [file.name for file in tmp_path.iterdir()] == ["ct.nii.gz"]


@pytest.mark.parametrize("in_file", [False, True])
def test_slabs_become_the_volume_and_one_wide_value_makes_it_float32(
    in_file: bool, tmp_path: Path, write_nifti: Callable[..., Path]
) -> None:
    stored = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    like = write_nifti(tmp_path / "ct.nii.gz", stored.astype(np.int32), AFFINES["depth first"])
    whole, geometry = nifti.read_volume(like)
    for last, dtype in ((0, np.int16), (40_000, np.float32)):
        voxels = grid.Voxels(1, geometry, like, tmp_path if in_file else None)
        for first in range(0, 7, 3):
            voxels.add(0, first, stored[..., first : first + 3] + (last if first == 6 else 0))
        found = voxels.finished()
        assert found.dtype == dtype and found.shape == whole.shape
        assert np.array_equal(grid.to_file_order(found[0], geometry, like)[..., :6], stored[..., :6])
        assert np.array_equal(grid.to_file_order(found[0], geometry, like)[..., 6], stored[..., 6] + last)
        assert [file.name for file in tmp_path.iterdir()] == ["ct.nii.gz"]


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system keeps pages as it likes")
def test_a_volume_in_a_file_takes_no_memory_but_what_is_used(tmp_path: Path) -> None:
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 2**20

    volume = scratch.empty((1, 64, 512, 512), np.int16, tmp_path)  # 32 MB
    for index, plane in enumerate(scratch.planes(volume)):
        plane[:] = index
    before = resident_mb()
    assert [int(plane.sum(dtype=np.int64)) >> 18 for plane in scratch.planes(volume)] == list(range(64))
    assert resident_mb() - before < 16 and (volume[0, 63] == 63).all()


def test_a_volume_of_more_than_a_slab_is_read_whole(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    stored = np.arange(150 * 3).astype(np.uint8).reshape(150, 1, 3).repeat(30_000, axis=1)  # a slab each
    image, geometry = nifti.read_volume(write_nifti(tmp_path / "ct.nii", stored, AFFINES["depth last"]))
    assert np.array_equal(grid.to_file_order(image[0], geometry, tmp_path), stored)
