import itertools
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import COLUMN_MM, ROW_MM, SLICE_MM, hu, write_series

from seglab.data.formats import dicom, nifti
from seglab.data.formats.dicom_files import is_series
from seglab.data.integrity import check_same_affine
from seglab.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "orientation"
TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "jpeg2000"])
def test_an_axial_series_is_ordered_by_place_and_holds_hu(packed: bool, tmp_path: Path) -> None:
    values = hu((6, 45, 44))
    write_series(tmp_path / "ct", values, packed=packed)
    (tmp_path / "ct" / "README.txt").write_text("not a slice")
    image, geometry = dicom.read_volume(tmp_path / "ct")
    assert is_series(tmp_path / "ct") and not is_series(tmp_path)
    assert image.dtype == np.int16 and np.array_equal(image[0], values)
    assert geometry.shape == (44, 45, 6) and geometry.spacing == pytest.approx((SLICE_MM, ROW_MM, COLUMN_MM))
    expected = [[-COLUMN_MM, 0, 0, 10.5], [0, -ROW_MM, 0, -20.25], [0, 0, SLICE_MM, 30.125], [0, 0, 0, 1]]
    assert np.allclose(geometry.affine, expected)


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_every_direction_of_the_slices_reads_alike_and_labels_lie_on_the_same_voxels(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    axes = np.diag(signs)[list(order)].astype(float)  # of columns, rows and slices, in LPS
    world = hu((6, 5, 4)).transpose(2, 1, 0)  # (x to left, y to posterior, z to superior)
    stack = world[tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in signs)].transpose(order)
    write_series(tmp_path / "ct", stack.transpose(2, 1, 0), axes=axes)
    image, geometry = dicom.read_volume(tmp_path / "ct")
    assert np.array_equal(image[0], world.transpose(2, 1, 0))
    labels = (image[0] % 5).astype(np.uint8)
    nifti.write_new(labels, geometry, tmp_path / "labels.nii.gz")
    assert np.array_equal(nifti.read_mask(tmp_path / "labels.nii.gz"), labels)
    check_same_affine(geometry, nifti.read_geometry(tmp_path / "labels.nii.gz"), tmp_path, tmp_path)


def test_an_oblique_series_stays_oblique(tmp_path: Path) -> None:
    angle = 0.3
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    write_series(tmp_path / "ct", hu(), axes=turn)
    image, geometry = dicom.read_volume(tmp_path / "ct")
    assert np.array_equal(image[0], hu())
    assert geometry.spacing == pytest.approx((SLICE_MM, ROW_MM, COLUMN_MM), rel=1e-6)
    assert np.asarray(geometry.affine)[2, 1] == pytest.approx(ROW_MM * np.sin(angle))


def test_slope_and_intercept_are_those_of_each_slice(tmp_path: Path) -> None:
    def change(place: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope = place + 1

    write_series(tmp_path / "ct", hu(), change=change)
    image, _ = dicom.read_volume(tmp_path / "ct")
    factors = np.arange(1, 7)[:, None, None]
    assert np.array_equal(image[0], (hu() + 1024) * factors - 1024)


def test_a_missing_slice_is_found_and_its_neighbours_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", hu())
    files[3].unlink()
    with pytest.raises(DataError, match="lacks slices") as caught:
        dicom.read_volume(tmp_path / "ct")
    assert f"5 mm from {files[2].name} to {files[4].name}" in caught.value.given
    assert "2.5 mm between neighbours" in caught.value.allowed


def test_a_doubled_slice_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", hu())
    (tmp_path / "ct" / "copy.dcm").write_bytes(files[2].read_bytes())
    with pytest.raises(DataError, match="two slices of one place") as caught:
        dicom.read_volume(tmp_path / "ct")
    assert "copy.dcm" in caught.value.given and files[2].name in caught.value.given


def test_two_series_are_refused_and_one_can_be_chosen(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hu())
    write_series(tmp_path / "ct", hu() + 1, series="1.2.3", prefix="other")
    with pytest.raises(DataError, match="2 DICOM series") as caught:
        dicom.read_volume(tmp_path / "ct")
    assert "1.2.3 (no description, 6 files)" in caught.value.given
    assert np.array_equal(dicom.read_volume(tmp_path / "ct", "1.2.3")[0][0], hu() + 1)
    with pytest.raises(DataError, match="which one is meant"):
        dicom.read_volume(tmp_path / "ct", "9.9")


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    axes = np.eye(3)
    axes[2] = (0, np.sin(0.2), np.cos(0.2))
    write_series(tmp_path / "ct", hu(), axes=axes)
    with pytest.raises(DataError, match="tilted gantry") as caught:
        dicom.read_volume(tmp_path / "ct")
    assert "11.5 degrees" in caught.value.given


CHANGES = {
    "direction, such as a localizer": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
    "pixel spacing": {"PixelSpacing": [3, 3]},
    "frame of reference": {"FrameOfReferenceUID": "1.2.9"},
    "without ImagePositionPatient": {"ImagePositionPatient": None},
    "lies nowhere": {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    "impossible pixels": {"PixelSpacing": [0, 1]},
    "not a plain grey slice": {"PhotometricInterpretation": "MONOCHROME1"},
    "NumberOfFrames 2": {"NumberOfFrames": 2},
    "lost its rescale intercept": {"RescaleIntercept": None},
    "cannot be read as DICOM": {"Rows": 50},
}


@pytest.mark.parametrize("reason", CHANGES)
def test_an_odd_slice_is_refused_by_name(reason: str, tmp_path: Path) -> None:
    def change(place: int, dataset: pydicom.Dataset) -> None:
        for name, value in CHANGES[reason].items() if place == 2 else ():
            setattr(dataset, name, value)

    files = write_series(tmp_path / "ct", hu(), change=change)
    if reason.startswith("cannot"):
        for file in files:
            dataset = pydicom.dcmread(file)
            dataset.Rows = 50
            dataset.save_as(file)
    with pytest.raises(DataError, match=reason) as caught:
        dicom.read_volume(tmp_path / "ct")
    assert any(file.name in str(caught.value) for file in files)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "jpeg2000"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_a_cut_slice_is_refused_by_name(packed: bool, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-900, 900, (3, 40, 40)).astype(np.int16)
    files = write_series(tmp_path / "ct", noise, packed=packed)
    content = files[1].read_bytes()
    files[1].write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"{files[1].name} (cannot be read|is no)"):
        dicom.read_volume(tmp_path / "ct")


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.JPEGLSLossless], ids=["rle", "jpegls"])
def test_other_free_compressions_are_read_and_refused_when_cut(syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-900, 900, (3, 40, 40)).astype(np.int16)
    files = write_series(tmp_path / "ct", noise)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.compress(syntax)
        dataset.save_as(file)
    image, _ = dicom.read_volume(tmp_path / "ct")
    assert np.array_equal(image[0], noise)
    whole = files[1].read_bytes()
    for share in (0.5, 0.9, 0.99):
        files[1].write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=rf"{files[1].name} cannot be read"):
            dicom.read_volume(tmp_path / "ct")


def test_an_element_that_announces_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", hu())
    content = files[1].read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00OW\x00\x00") + 8  # the length of the pixels
    files[1].write_bytes(content[:place] + b"\x00\x00\x00\xf0" + content[place + 4 :])
    tracemalloc.start()
    image, _ = dicom.read_volume(tmp_path / "ct")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(image[0], hu()) and peak < 50_000_000  # all pixels are there
    files[1].write_bytes(files[1].read_bytes()[:-2])
    with pytest.raises(DataError, match=rf"{files[1].name} cannot be read"):
        dicom.read_volume(tmp_path / "ct")


def test_a_jpeg_2000_stream_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", hu((3, 45, 44)), packed=True)
    content = files[1].read_bytes()
    place = content.index(b"\xff\x4f\xff\x51") + 8
    files[1].write_bytes(content[:place] + b"\x00\xff\x00\x00" + content[place + 4 :])
    with pytest.raises(DataError, match="stream is 16711680 x 45 pixels"):
        dicom.read_volume(tmp_path / "ct")


def test_a_compression_without_a_free_decoder_is_refused(tmp_path: Path) -> None:
    def change(place: int, dataset: pydicom.Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1

    files = write_series(tmp_path / "ct", hu((6, 45, 44)), packed=True, change=change)
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*allowed: .*JPEG 2000") as caught:
        dicom.read_volume(tmp_path / "ct")
    assert files[0].name in str(caught.value)


def test_a_foreign_file_an_empty_folder_and_a_single_slice_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hu())
    (tmp_path / "ct" / "slice-999.dcm").write_bytes(b"")
    with pytest.raises(DataError, match=r"slice-999\.dcm is no DICOM file"):
        dicom.read_volume(tmp_path / "ct")
    with pytest.raises(DataError, match="no DICOM series"):
        dicom.read_volume(tmp_path / "none")
    write_series(tmp_path / "one", hu()[:1])
    with pytest.raises(DataError, match="single slice"):
        dicom.read_geometry(tmp_path / "one")


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/orientation is missing")
def test_the_real_series_lies_where_its_labels_lie() -> None:
    image, geometry = dicom.read_volume(SHARED / "example_ct_dicom")
    labels = nifti.read_mask(SHARED / "example_seg_dicom.nii.gz")
    check_same_affine(geometry, nifti.read_geometry(SHARED / "example_seg_dicom.nii.gz"), SHARED, SHARED)
    assert image.shape[1:] == labels.shape == (20, 512, 512) and image.dtype == np.int16
    assert image.min() <= -1000 and 30 < np.median(image[0][labels == 5]) < 180  # the liver, with contrast


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "ct", hu())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r"reading DICOM needs pydicom[\s\S]*seglab\[volumes\]"):
        dicom.read_volume(tmp_path / "ct")
