"""A network that gives back its input: each format comes back value by value, in its own place."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import rasterio
import SimpleITK as sitk
from dicom_writer import FRAME, write_series
from identity import write_run
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image
from rasterio.transform import Affine
from run_jobs import HARDWARE, composed

from seglab.data.formats import arrays, dicom, nifti
from seglab.run.predict import predict

AXIS_ORDERS = [
    "".join(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]


def label(run_dir: Path, given: Path, output: Path, *overrides: str) -> Path:
    predict(composed("predict", [f"run={run_dir}", f"input={given}", f"output={output}", *HARDWARE[::2], *overrides]))
    return output


def mask(*shape: int, n_values: int = 4) -> np.ndarray:
    """Labels without any symmetry."""
    return np.random.default_rng(0).integers(0, n_values, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def volume_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs by the dimensions of their networks."""
    folder = tmp_path_factory.mktemp("runs")
    return {dims: write_run(folder / f"{dims}d", "volumes", (0, 1, 2, 3), dims=dims) for dims in (2, 3)}


def oblique() -> np.ndarray:
    """RAS affine of anisotropic voxels, slightly turned."""
    turn = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 0.8, 2.5), (-11.0, 22.0, 33.0)
    return affine


def stored_as(codes: str, voxels: np.ndarray) -> nib.Nifti1Image:
    """A volume given in RAS, in another axis order; qform, sform, units and a slope as scanners set them."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = oblique() @ inv_ornt_aff(turn, voxels.shape)
    image = nib.Nifti1Image(apply_orientation(voxels, turn), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    return image


@pytest.mark.parametrize("dims", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_all_48_axis_orders_of_nifti_return_voxel_by_voxel(
    volume_runs: dict[int, Path], dims: int, tmp_path: Path
) -> None:
    voxels = mask(9, 11, 10)
    (tmp_path / "in").mkdir()
    for number, codes in enumerate(AXIS_ORDERS):
        nib.save(
            stored_as(codes, voxels.astype(np.int16)), tmp_path / "in" / f"{codes}{('.nii', '.nii.gz')[number % 2]}"
        )
    extra = ["probabilities=true"] if dims == 3 else []
    label(volume_runs[dims], tmp_path / "in", tmp_path / "out", *extra)
    assert len(AXIS_ORDERS) == len({file.name[:3] for file in (tmp_path / "out").glob("*.nii.gz")}) == 48
    for file in (tmp_path / "in").iterdir():
        codes, given = file.name[:3], nib.load(file)
        written = nib.load(tmp_path / "out" / f"{codes}.nii.gz")
        assert np.array_equal(written.dataobj, given.dataobj) and written.get_data_dtype() == np.uint8
        same = ("dim", "pixdim", "srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "xyzt_units")
        same += ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
        for name in same:
            assert np.array_equal(written.header[name], given.header[name]), (codes, name)
        if extra:
            maps = nib.load(tmp_path / "out" / f"{codes}.probs.nii.gz")
            assert np.array_equal(np.argmax(maps.get_fdata(), axis=3), given.dataobj)
            assert np.allclose(maps.affine, given.affine, atol=1e-6)


@pytest.mark.parametrize(("stored", "slope"), [(np.int16, 0.5), (np.uint8, None), (np.float64, None), (">f4", None)])
def test_scaled_and_wide_numbers_return_as_the_values_they_stand_for(
    volume_runs: dict[int, Path], stored: Any, slope: float | None, tmp_path: Path
) -> None:
    voxels = mask(9, 11, 10)
    image = nib.Nifti1Image(voxels if slope is None else (voxels + 1.0) / slope, oblique())
    image.header.set_data_dtype(stored)
    image.header.set_slope_inter(slope, None if slope is None else -1)
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "scan.nii.gz")
    assert np.array_equal(nib.load(tmp_path / "in" / "scan.nii.gz").dataobj, voxels)
    out = label(volume_runs[2], tmp_path / "in", tmp_path / "out")
    assert np.array_equal(nib.load(out / "scan.nii.gz").dataobj, voxels)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_mha_return_voxel_by_voxel(volume_runs: dict[int, Path], suffix: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(mask(10, 11, 9).astype(np.int16))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((11.0, -22.0, 33.0))
    image.SetDirection((0, 0.6, -0.8, 0, 0.8, 0.6, 1, 0, 0))
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, str(tmp_path / "in" / f"scan{suffix}"), True)
    label(volume_runs[3], tmp_path / "in", tmp_path / "out")
    written = sitk.ReadImage(str(tmp_path / "out" / f"scan{suffix}"))
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(image))
    for part in ("Spacing", "Origin", "Direction", "Size"):
        assert np.allclose(getattr(written, f"Get{part}")(), getattr(image, f"Get{part}")(), atol=1e-9)


def test_a_numpy_volume_returns_with_its_place(volume_runs: dict[int, Path], tmp_path: Path) -> None:
    voxels, affine = mask(9, 11, 10), oblique()
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "scan.npz", image=voxels.astype(np.int16), affine=affine)
    label(volume_runs[2], tmp_path / "in", tmp_path / "out")
    (given, place), written = arrays.read_volume(tmp_path / "in" / "scan.npz"), tmp_path / "out" / "scan.npz"
    assert np.array_equal(arrays.read_mask(written), given[0])
    assert arrays.read_geometry(written) == place


SAGITTAL = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float)


@pytest.mark.parametrize("axes", [np.eye(3), SAGITTAL], ids=["axial", "sagittal"])
def test_a_dicom_series_becomes_nifti_or_a_segmentation_in_its_frame(
    volume_runs: dict[int, Path], axes: np.ndarray, tmp_path: Path
) -> None:
    values = mask(6, 11, 10).astype(np.int16)
    files = write_series(tmp_path / "in" / "ct", values, axes=axes)
    out = label(volume_runs[2], tmp_path / "in" / "ct", tmp_path / "out")
    given, geometry = dicom.read_volume(tmp_path / "in" / "ct")
    assert np.array_equal(nifti.read_mask(out / "ct.nii.gz"), given[0])
    assert np.allclose(nib.load(out / "ct.nii.gz").affine, geometry.affine, atol=1e-5)

    label(volume_runs[3], tmp_path / "in" / "ct", tmp_path / "seg", "dicom=seg")
    plain = pydicom.dcmread(tmp_path / "seg" / "ct.dcm")
    assert plain.Modality == "SEG" and plain.FrameOfReferenceUID == FRAME
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    found = highdicom.seg.segread(tmp_path / "seg" / "ct.dcm").get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(found, values)


def test_photos_return_pixel_by_pixel(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    run_dir = write_run(tmp_path / "run", "photos", (0, 255), channels=3)
    fine = np.where(mask(21, 34, n_values=2) > 0, 255, 0).astype(np.uint8)
    for name in ("a.png", "b.bmp", "c.tif"):
        write_picture(tmp_path / "in" / name, np.repeat(fine[..., None], 3, axis=2))
    coarse = np.where(np.kron(mask(4, 5, n_values=2), np.ones((16, 16), np.uint8)) > 0, 255, 0).astype(np.uint8)
    write_picture(tmp_path / "in" / "d.jpg", np.repeat(coarse[..., None], 3, axis=2), quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be seen turned by a quarter
    write_picture(tmp_path / "in" / "e.jpg", np.repeat(coarse[..., None], 3, axis=2), quality=95, exif=turned)
    out = label(run_dir, tmp_path / "in", tmp_path / "out")
    expected = {"a": fine, "b": fine, "c": fine, "d": coarse, "e": np.rot90(coarse, -1)}
    for name, labels in expected.items():
        with Image.open(out / f"{name}.png") as written:
            assert np.array_equal(np.asarray(written), labels), name


VALUES = (0, 1, 2, 5)
NODATA = 99
TURNED = Affine(8.0, 3.0, 500_000.0, 3.0, -8.0, 4_600_000.0)
TRANSFORMS = {
    "north up": Affine(10, 0, 5e5, 0, -10, 4.6e6),
    "turned": TURNED,
    "south up": Affine(10, 0, 5e5, 0, 10, 4e6),
}


def write_values(file: Path, transform: Affine, *, tiled: bool) -> np.ndarray:
    """A raster of class values with a corner without data; returns the values."""
    values = np.asarray(VALUES, np.uint8)[mask(300, 270)]
    values[:40, :50] = NODATA
    file.parent.mkdir(exist_ok=True)
    tiles: dict[str, Any] = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    size = {"count": 1, "height": 300, "width": 270, "dtype": "uint8", "nodata": NODATA, "crs": "EPSG:32633"}
    with rasterio.open(file, "w", driver="GTiff", transform=transform, **size, **tiles) as sink:
        sink.write(values[None])
    return values


@pytest.mark.parametrize("cog", [False, True], ids=["tiff", "cog"])
@pytest.mark.parametrize("place", TRANSFORMS)
def test_geotiff_returns_with_crs_transform_nodata_and_tiles(place: str, cog: bool, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", "rasters", VALUES)
    values = write_values(tmp_path / "in" / "scene.tif", TRANSFORMS[place], tiled=cog)
    windows = "inference.window=[128,128]"
    out = label(run_dir, tmp_path / "in", tmp_path / "out", windows, f"cog={str(cog).lower()}", "probabilities=true")
    with rasterio.open(out / "scene.tif") as written:
        assert (written.crs, written.transform, written.nodata) == ("EPSG:32633", TRANSFORMS[place], 255)
        assert np.array_equal(written.read(1), np.where(values == NODATA, 255, values))
        assert written.profile["tiled"] and written.colormap(1)[5][:3] == (5, 250, 128)
        assert (written.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG") == cog
    with rasterio.open(out / "scene.probs.tif") as maps:
        best = np.asarray(VALUES)[np.nan_to_num(maps.read()).argmax(axis=0)]
        assert np.isnan(maps.read()[:, values == NODATA]).all()
        assert np.array_equal(best[values != NODATA], values[values != NODATA])
