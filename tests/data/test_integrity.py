from pathlib import Path

import numpy as np
import pytest

from seglab.data import integrity
from seglab.errors import DataError
from seglab.spec import Geometry

IMAGE, MASK = Path("image.nii.gz"), Path("mask.nii.gz")


def geometry(affine: np.ndarray, shape: tuple[int, ...] = (10, 20, 30)) -> Geometry:
    return Geometry(shape=shape, spacing=(1, 1, 1), affine=tuple(map(tuple, affine.tolist())))


def changed(row: int, column: int, value: float) -> np.ndarray:
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    affine[row, column] = value
    return affine


def test_mask_values_outside_the_classes_are_named_and_counted() -> None:
    mask = np.array([[[0, 1, 7, 7, 255]]], np.uint8)
    with pytest.raises(DataError, match=r"mask\.nii\.gz[\s\S]*7 \(2 pixels\), 255 \(1 pixels\)[\s\S]*1=liver"):
        integrity.check_mask_values(mask, (0, 1), MASK, ("background", "liver"))
    integrity.check_mask_values(mask, (0, 1, 7, 255), MASK, ("background", "liver"))


def test_a_mask_one_slice_short_is_refused() -> None:
    integrity.check_same_size((1, 5, 4, 3), (5, 4, 3), IMAGE, MASK)
    with pytest.raises(DataError, match="image 5x4x3, mask 4x4x3"):
        integrity.check_same_size((1, 5, 4, 3), (4, 4, 3), IMAGE, MASK)


@pytest.mark.parametrize(
    ("affine", "part"),
    [
        (changed(2, 2, 2.5), "spacing"),
        (changed(2, 3, 5.0), "origin"),
        (changed(0, 1, 0.1), "spacing, direction"),
        (changed(0, 0, -0.8), "origin"),  # mirrored: after ordering the axes its corner lies elsewhere
        (np.diag([1.0, 1, 1, 1]), "spacing"),
    ],
)
def test_an_affine_that_differs_is_refused_and_the_part_is_named(affine: np.ndarray, part: str) -> None:
    with pytest.raises(DataError, match=f"differ in {part}"):
        integrity.check_same_affine(geometry(changed(0, 0, 0.8)), geometry(affine), IMAGE, MASK)


def test_rounding_and_other_axis_storage_are_the_same_affine() -> None:
    image = geometry(changed(0, 0, 0.8))
    integrity.check_same_affine(image, geometry(changed(2, 3, 1e-5)), IMAGE, MASK)
    flipped = changed(0, 0, -0.8)
    flipped[0, 3] = 9 * 0.8  # the last voxel of the first axis becomes the first
    integrity.check_same_affine(image, geometry(flipped), IMAGE, MASK)


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_images_and_masks_pair_by_key() -> None:
    pairs = integrity.pair_files(paths("i/b.jpg", "i/a.jpg"), paths("m/a.png", "m/b.png"), lambda path: path.stem)
    assert pairs == [("a", Path("i/a.jpg"), Path("m/a.png")), ("b", Path("i/b.jpg"), Path("m/b.png"))]


def test_every_lonely_file_is_counted_and_five_are_named() -> None:
    with pytest.raises(DataError) as error:
        integrity.pair_files(paths(*(f"{i}.jpg" for i in range(8))), paths("x.png", "0.png"), lambda path: path.stem)
    assert "7 images without mask (1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg and 2 more)" in error.value.given
    assert "1 masks without image (x.png)" in error.value.given


def test_two_files_of_one_case_are_refused() -> None:
    with pytest.raises(DataError, match=r"a\.png, a\.jpg"):
        integrity.pair_files(paths("a.png", "a.jpg"), paths("a.bmp"), lambda path: path.stem)


def test_a_root_that_is_missing_or_a_file_is_refused_with_the_given_fix(tmp_path: Path) -> None:
    integrity.check_root(tmp_path, "volumes", "set data.root=...")
    with pytest.raises(DataError, match=r"missing[\s\S]*a folder with volumes[\s\S]*set data.root"):
        integrity.check_root(tmp_path / "none", "volumes", "set data.root=...")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a folder"):
        integrity.check_root(tmp_path / "file", "volumes", "set data.root=...")
