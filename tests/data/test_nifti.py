import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from seglab.data.formats import nifti
from seglab.data.integrity import check_same_affine, check_same_size
from seglab.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_lits = pytest.mark.skipif(not (SHARED / "lits").is_dir(), reason="shared/data/lits is missing")
needs_orientation = pytest.mark.skipif(not (SHARED / "orientation").is_dir(), reason="shared/data/orientation missing")

SPACING_RAS = (0.7, 0.8, 2.5)
AXIS_CODES = [
    tuple(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]


def ras_volume() -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x to right, y to anterior, z to superior) that have no symmetry, slightly oblique."""
    voxels = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) ** 2 - 700
    angle = 0.1
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * SPACING_RAS, (-11.0, 22.0, 33.0)
    return voxels, affine


def save(path: Path, voxels: np.ndarray, affine: np.ndarray, *, qform: int = 1, sform: int = 1) -> Path:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    nib.save(image, path)
    return path


def stored_as(codes: tuple[str, ...], path: Path) -> Path:
    voxels, affine = ras_volume()
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return save(path, apply_orientation(voxels, turn), affine @ inv_ornt_aff(turn, voxels.shape), qform=2)


def test_there_are_48_axis_codes() -> None:
    assert len(set(AXIS_CODES)) == 48


@pytest.mark.parametrize("codes", AXIS_CODES, ids="".join)
def test_every_axis_order_reads_alike_and_labels_return_to_the_files_own_grid(
    codes: tuple[str, ...], tmp_path: Path
) -> None:
    like = stored_as(codes, tmp_path / "image.nii.gz")
    image, geometry = nifti.read_volume(like)
    voxels, _ = ras_volume()
    expected = voxels[::-1, ::-1].transpose(2, 1, 0)  # x and y turned round, axes (z, y, x)
    assert image.shape == (1, 5, 4, 3) and image.dtype == np.int16
    assert np.array_equal(image[0], expected)
    assert geometry.spacing == pytest.approx(SPACING_RAS[::-1], rel=1e-6)

    labels = (expected % 7).astype(np.uint8)
    nifti.write_labels(labels, like, tmp_path / "labels.nii.gz")
    source, written = nib.load(like), nib.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj) % 7)
    assert written.get_data_dtype() == np.uint8 and geometry.shape == written.shape
    for field in ("sform_code", "qform_code", "pixdim", "dim", "xyzt_units", "srow_x", "quatern_b", "qoffset_x"):
        assert np.array_equal(written.header[field], source.header[field]), field
    assert np.array_equal(written.affine, source.affine)
    assert np.array_equal(written.get_qform(), source.get_qform())
    assert np.array_equal(nifti.read_mask(tmp_path / "labels.nii.gz"), labels)


def test_front_is_on_top_and_the_patients_right_is_on_the_left_of_the_picture(tmp_path: Path) -> None:
    voxels = np.zeros((4, 4, 4), np.int16)  # axes to right, anterior, superior
    voxels[3, 3, 0] = 1  # right, front, lowest slice
    image, _ = nifti.read_volume(save(tmp_path / "a.nii", voxels, np.eye(4)))
    assert np.argwhere(image[0]).tolist() == [[0, 0, 0]]


def test_equal_labels_give_equal_bytes_under_any_name(tmp_path: Path) -> None:
    like = stored_as(("R", "A", "S"), tmp_path / "image.nii.gz")
    labels = np.ones((5, 4, 3), np.uint8)
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write_labels(labels, like, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_written_labels_have_no_scaling_window_or_patient_text(tmp_path: Path) -> None:
    voxels, affine = ras_volume()
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"], image.header["cal_max"] = b"Jane Doe", 400
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "image.nii")
    nifti.write_labels(np.full((5, 4, 3), 2, np.uint8), tmp_path / "image.nii", tmp_path / "labels.nii")
    header = nib.load(tmp_path / "labels.nii").header
    assert header["cal_max"] == 0 and b"Jane" not in (tmp_path / "labels.nii").read_bytes()
    assert nifti.read_mask(tmp_path / "labels.nii").max() == 2


def test_nifti_2_and_a_trailing_axis_of_one_are_read_and_written(tmp_path: Path) -> None:
    voxels, affine = ras_volume()
    nib.save(nib.Nifti2Image(voxels[..., None], affine), tmp_path / "image.nii.gz")
    image, geometry = nifti.read_volume(tmp_path / "image.nii.gz")
    assert image.shape == (1, 5, 4, 3) and geometry.shape == (3, 4, 5)
    nifti.write_labels(np.zeros((5, 4, 3), np.uint8), tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz")
    assert nib.load(tmp_path / "labels.nii.gz").shape == (3, 4, 5, 1)
    assert isinstance(nib.load(tmp_path / "labels.nii.gz"), nib.Nifti2Image)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([[[0, 1024, 2048]]], np.int16), np.eye(4))
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / "ct.nii.gz")
    assert nib.load(tmp_path / "ct.nii.gz").dataobj.inter == -1024
    read, _ = nifti.read_volume(tmp_path / "ct.nii.gz")
    assert read.dtype == np.int16 and sorted(read.ravel().tolist()) == [-1024, 0, 1024]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([-1024.0, 3071.0], np.int16),
        ([-1024.0, 0.5], np.float32),
        ([0, 40000], np.float32),
        ([-32768, 32767], np.int16),
    ],
)
def test_integers_in_range_become_int16_and_other_values_float32(
    values: list[float], dtype: type, tmp_path: Path
) -> None:
    stored = np.array(values, np.float64 if isinstance(values[0], float) else np.int32).reshape(2, 1, 1)
    image, _ = nifti.read_volume(save(tmp_path / "a.nii", stored, np.diag([-1, -1, 1, 1])))
    assert image.dtype == dtype and image.ravel().tolist() == values


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", nifti.SUFFIXES)
def test_a_cut_file_is_refused(share: float, suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / f"image{suffix}", noise, np.eye(4))
    nifti.read_volume(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"image\.nii.* cannot be read"):
        nifti.read_volume(path)


def test_a_missing_or_wrong_gzip_checksum_is_refused(tmp_path: Path) -> None:
    path = stored_as(("L", "P", "S"), tmp_path / "image.nii.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(DataError, match="CRC"):
        nifti.read_volume(path)
    path.write_bytes(whole[:-6])
    with pytest.raises(DataError, match="EOFError"):
        nifti.read_volume(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii.gz", b"", "empty"),
        ("a.nii", b"", "empty"),
        ("a.nii", b"<html><body>404</body></html>" * 40, "cannot be read"),
        ("a.nii.gz", b"<html><body>404</body></html>" * 40, "gzipped"),
        ("a.mha", b"ObjectType = Image", "ending"),
    ],
)
def test_what_is_no_nifti_is_refused(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        nifti.read_volume(tmp_path / name)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        nifti.read_volume(tmp_path / "none.nii.gz")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        nifti.read_geometry(tmp_path / "folder.nii")


def test_nan_and_infinite_voxels_are_counted(tmp_path: Path) -> None:
    voxels = np.zeros((4, 4, 4), np.float32)
    voxels[0, 0, :2], voxels[1, 1, 1] = np.nan, np.inf
    with pytest.raises(DataError, match="3 of 64 voxels"):
        nifti.read_volume(save(tmp_path / "a.nii.gz", voxels, np.eye(4)))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4, 2), (1, 4, 4, 1, 3)])
def test_other_than_three_axes_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros(shape, np.int16), np.eye(4))
    with pytest.raises(DataError, match="3 axes"):
        nifti.read_volume(path)


def test_a_header_that_claims_too_many_voxels_is_refused_before_reading(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 300))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(1000))
    with pytest.raises(DataError, match="at most 2000000000 voxels"):
        nifti.read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", ["zero", "nan", "flat"])
def test_an_impossible_affine_is_refused(kind: str, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, :3] = {"zero": (0, 0, 0), "nan": (np.nan, 0, 0), "flat": (0, 1, 0)}[kind]
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    image.header.set_sform(affine, 1)
    image.header["qform_code"] = 0
    (tmp_path / "a.nii").write_bytes(nib.Nifti1Image(image.dataobj, None, image.header).to_bytes())
    with pytest.raises(DataError, match="affine"):
        nifti.read_volume(tmp_path / "a.nii")


def test_qform_and_sform_that_disagree_are_refused_when_both_are_set(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.diag([2.0, 2, 2, 1]))
    image.set_sform(np.diag([2.0, 2, 2, 1]), 1)
    moved = np.diag([2.0, 2, 2, 1])
    moved[2, 3] = 1
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(DataError, match="qform and an sform that disagree"):
        nifti.read_volume(tmp_path / "a.nii")
    image.set_qform(moved, 0)
    nib.save(image, tmp_path / "b.nii")
    nifti.read_volume(tmp_path / "b.nii")


def test_a_mask_with_values_between_classes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.nii", np.array([[[0, 1, 0.9999]]], np.float32), np.eye(4))
    with pytest.raises(DataError, match=r"1 voxels such as 0\.9999"):
        nifti.read_mask(path)
    with pytest.raises(DataError, match="300"):
        nifti.read_mask(save(tmp_path / "n.nii", np.array([[[0, 300]]], np.int16), np.eye(4)))


def test_labels_of_another_size_are_refused_and_no_file_is_left(tmp_path: Path) -> None:
    like = stored_as(("P", "S", "R"), tmp_path / "image.nii.gz")
    with pytest.raises(DataError, match="cannot be written"):
        nifti.write_labels(np.zeros((3, 4, 5), np.uint8), like, tmp_path / "out" / "labels.nii.gz")
    with pytest.raises(DataError, match="cannot be written"):
        nifti.write_labels(np.zeros((5, 4, 3), np.uint8), like, tmp_path / "labels.mha")
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii.gz"]


def test_an_unwritable_target_leaves_no_file_behind(tmp_path: Path) -> None:
    like = stored_as(("R", "A", "S"), tmp_path / "image.nii.gz")
    (tmp_path / "taken.nii.gz").mkdir()
    with pytest.raises(OSError):
        nifti.write_labels(np.zeros((5, 4, 3), np.uint8), like, tmp_path / "taken.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nii.gz", "taken.nii.gz"]


@needs_lits
@pytest.mark.parametrize("number", [1, 2])
def test_lits_volumes_and_masks_fit_and_labels_return(number: int, tmp_path: Path) -> None:
    volume, mask = (SHARED / "lits" / f"{kind}-{number}.nii.gz" for kind in ("volume", "segmentation"))
    image, geometry = nifti.read_volume(volume)
    labels = nifti.read_mask(mask)
    assert image.dtype == np.int16 and image.min() <= -1000 and set(np.unique(labels)) == {0, 1}
    check_same_size(image.shape, labels.shape, volume, mask)
    check_same_affine(geometry, nifti.read_geometry(mask), volume, mask)
    nifti.write_labels(labels, volume, tmp_path / "labels.nii.gz")
    assert np.array_equal(nib.load(tmp_path / "labels.nii.gz").dataobj, nib.load(mask).dataobj)
    centre_right_to_left = np.argwhere(labels)[:, 2].mean() / labels.shape[2]
    assert centre_right_to_left < 0.5  # the liver lies on the patient's right


@needs_lits
@needs_orientation
def test_a_mask_stored_with_reversed_rows_reads_onto_its_image() -> None:
    other = SHARED / "orientation" / "example_seg_dicom.nii.gz"
    volume = SHARED / "lits" / "volume-1.nii.gz"
    check_same_affine(nifti.read_geometry(volume), nifti.read_geometry(other), volume, other)
    liver = nifti.read_mask(other) == 5
    assert np.array_equal(liver, nifti.read_mask(SHARED / "lits" / "segmentation-1.nii.gz") == 1)


@needs_orientation
def test_a_mask_of_thirty_slices_does_not_fit_the_whole_ct() -> None:
    image, mask = SHARED / "orientation" / "example_ct.nii.gz", SHARED / "orientation" / "example_seg.nii.gz"
    sizes = nifti.read_volume(image)[0].shape, nifti.read_mask(mask).shape
    with pytest.raises(DataError, match="112x101x122, mask 30x101x122"):
        check_same_size(*sizes, image, mask)
