import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from seglab.data.formats import arrays
from seglab.errors import DataError

AXIS_CODES = [
    tuple(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5) ** 2 - 700  # to right, anterior, superior
READ = VOXELS[::-1, ::-1].transpose(2, 1, 0)
ONCE = np.diag([0.7, 0.8, 2.5, 1])


@pytest.mark.parametrize("codes", AXIS_CODES, ids="".join)
def test_every_axis_order_reads_alike_and_labels_return_to_the_arrays_own_grid(
    codes: tuple[str, ...], tmp_path: Path
) -> None:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    stored, affine = apply_orientation(VOXELS, turn), ONCE @ inv_ornt_aff(turn, VOXELS.shape)
    np.savez_compressed(tmp_path / "a.npz", image=stored, mask=(stored % 5).astype("u1"), affine=affine)
    image, geometry = arrays.read_volume(tmp_path / "a.npz")
    assert image.dtype == np.int16 and np.array_equal(image[0], READ)
    assert geometry.spacing == pytest.approx((2.5, 0.8, 0.7)) and geometry.shape == stored.shape
    labels = arrays.read_mask(tmp_path / "a.npz")
    assert np.array_equal(labels, READ % 5)
    arrays.write_labels(labels, geometry, tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz") as written:
        assert np.array_equal(written["mask"], stored % 5) and np.array_equal(written["affine"], affine)


def test_spacing_alone_nothing_at_all_and_fortran_order_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.asfortranarray(VOXELS), spacing=[0.7, 0.8, 2.5])
    image, geometry = arrays.read_volume(tmp_path / "a.npz")
    assert np.array_equal(image[0], READ) and geometry.spacing == pytest.approx((2.5, 0.8, 0.7))
    np.save(tmp_path / "b.npy", VOXELS.astype(">i2"))
    image, geometry = arrays.read_volume(tmp_path / "b.npy")
    assert np.array_equal(image[0], READ) and geometry.spacing == (1, 1, 1)
    np.save(tmp_path / "c.npy", VOXELS > 0)
    assert np.array_equal(arrays.read_mask(tmp_path / "c.npy"), READ > 0)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_a_cut_file_is_refused(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    np.save(path, VOXELS) if name == "a.npy" else np.savez_compressed(path, image=VOXELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="cannot be read as NumPy"):
        arrays.read_volume(path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    for name, save in (("a.npy", np.save), ("a.npz", lambda file, array: np.savez(file, image=array))):
        save(tmp_path / name, np.array([[[Trap()]]], dtype=object))
        with pytest.raises(DataError, match="values of type object"):
            arrays.read_volume(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_header_that_announces_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS)
    content = (tmp_path / "a.npy").read_bytes().replace(b"(3, 4, 5), }      ", b"(30000, 4000, 5), }")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as NumPy"):
        arrays.read_volume(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"other": VOXELS}, "holds no image"),
        ({"image": VOXELS[0]}, "no volume"),
        ({"image": VOXELS, "mask": VOXELS[1:] % 5}, "two of different sizes"),
        ({"image": VOXELS.astype("c8")}, "complex64"),
        ({"image": np.where(VOXELS > 0, np.nan, 0)}, "NaN or infinite"),
        ({"image": VOXELS, "affine": np.eye(3)}, "impossible affine"),
        ({"image": VOXELS, "affine": np.zeros((4, 4))}, "impossible affine"),
        ({"image": VOXELS, "spacing": [1, 2]}, "impossible spacing"),
        ({"image": VOXELS, "spacing": [1, 2, np.nan]}, "impossible affine"),
    ],
)
def test_arrays_that_mean_no_volume_are_refused(parts: dict, reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **parts)
    with pytest.raises(DataError, match=reason):
        arrays.read_volume(tmp_path / "a.npz")


def test_a_mask_of_other_numbers_or_none_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS)
    with pytest.raises(DataError, match="is no mask"):
        arrays.read_mask(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", image=VOXELS)
    with pytest.raises(DataError, match="holds no mask"):
        arrays.read_mask(tmp_path / "a.npz")


def test_what_is_no_numpy_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"<html>")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("image.npy", b"no array")
    for name in ("a.npz", "b.npz"):
        with pytest.raises(DataError, match="cannot be read as NumPy"):
            arrays.read_volume(tmp_path / name)
