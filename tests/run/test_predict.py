"""Predict: files, folders and globs; each output on the grid of its input; a bad file stops no other."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import rasterio
import SimpleITK as sitk
from dicom_writer import FRAME, write_series
from PIL import Image
from run_jobs import HARDWARE, SMALL, composed, train_in

from seglab.data.formats import itk, nifti
from seglab.errors import ConfigError, DataError
from seglab.run.inputs import find_inputs, name_outputs
from seglab.run.predict import predict
from seglab.run.predictions import FILE, LOCK

Run = tuple[Path, dict[str, float]]
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "test=false"]
TINY = [*SMALL, *SHORT, "model.base_channels=4", "data.batch_size=2", "data.patch_size=[64,64]", "logger=csv"]


def label(run_dir: Path, pattern: Path | str, output: Path, *overrides: str) -> list[str]:
    """Predict and list the written files."""
    arguments = [f"run={run_dir}", f'input="{pattern}"', f"output={output}", *HARDWARE[::2], *overrides]
    predict(composed("predict", arguments))
    return listed(output)


def listed(folder: Path) -> list[str]:
    """Files but the record and its lock."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(str(file.relative_to(folder)) for file in files if file.name not in (FILE, LOCK))


@pytest.fixture
def photos(crack_root: Path, tmp_path: Path) -> Path:
    """Three photos, one of them in a subfolder and one of an odd size."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, target in (("photo_00_0", "a.png"), ("photo_00_1", "b.PNG"), ("photo_00_2", "sub/c.png")):
        shutil.copy(crack_root / "images" / f"{name}.png", folder / target)
    with Image.open(folder / "a.png") as picture:
        picture.crop((0, 0, 57, 33)).save(folder / "a.png")
    return folder


def test_a_file_a_folder_and_a_glob_are_labelled(crack_run: Run, photos: Path, tmp_path: Path) -> None:
    assert label(crack_run[0], photos / "a.png", tmp_path / "one") == ["a.png"]
    assert label(crack_run[0], photos, tmp_path / "all") == ["a.png", "b.png", "sub/c.png"]
    assert label(crack_run[0], photos / "**" / "*.png", tmp_path / "some") == ["a.png", "sub/c.png"]
    with Image.open(tmp_path / "all" / "a.png") as mask:
        assert mask.size == (57, 33) and mask.mode == "L" and set(np.unique(np.array(mask))) <= {0, 255}
    assert (tmp_path / "one" / "a.png").read_bytes() == (tmp_path / "all" / "a.png").read_bytes()


def test_an_output_folder_inside_the_input_folder_is_not_labelled_again(crack_run: Run, photos: Path) -> None:
    first = label(crack_run[0], photos, photos / "labels")
    assert first == label(crack_run[0], photos, photos / "labels") == ["a.png", "b.png", "sub/c.png"]


def test_bad_files_are_named_and_the_others_done(crack_run: Run, photos: Path, tmp_path: Path) -> None:
    whole = (photos / "b.PNG").read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "notes.txt").write_text("no photo")
    (photos / "README").write_text("no ending")
    (photos / ".hidden.png").write_bytes(whole)
    with pytest.raises(DataError) as caught:
        label(crack_run[0], photos, tmp_path / "labels")
    assert listed(tmp_path / "labels") == ["a.png", "b.png", "sub/c.png"]
    assert "3 of 6 input files" in caught.value.what
    for name in ("half.png", "notes.txt", "README"):
        assert str(photos / name) in caught.value.given
    assert ".hidden" not in caught.value.given


def test_the_folder_of_the_inputs_is_no_output_folder(crack_run: Run, photos: Path) -> None:
    before = {name: (photos / name).read_bytes() for name in listed(photos)}
    with pytest.raises(DataError, match="folder of the input"):
        label(crack_run[0], photos, photos)
    assert {name: (photos / name).read_bytes() for name in listed(photos)} == before


def test_two_inputs_never_share_an_output(crack_run: Run, photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "a.png") as picture:
        picture.convert("RGB").save(photos / "a.jpg")
    with pytest.raises(DataError, match="overwrite another file") as caught:
        label(crack_run[0], photos, tmp_path / "labels")
    assert "1 of 4" in caught.value.what and listed(tmp_path / "labels") == ["a.png", "b.png", "sub/c.png"]


def test_nothing_to_label_and_settings_out_of_range_are_refused(crack_run: Run, photos: Path, tmp_path: Path) -> None:
    for pattern in ("*.gif", "nowhere/x.png"):
        with pytest.raises(ConfigError, match="nothing to predict"):
            label(crack_run[0], photos / pattern, tmp_path / "labels")
    for override, words in (
        ("inference.overlap=1.5", "inference.overlap"),
        ("trainer.precision=half", "trainer.precision"),
        ("+trainer.device=3", "trainer.device"),
    ):
        with pytest.raises(ConfigError, match=words):
            label(crack_run[0], photos, tmp_path / "labels", override)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        label(crack_run[0], photos, tmp_path / "file" / "labels")


def test_a_volume_keeps_affine_shape_and_axis_order(
    ct_root: Path, cache_dir: Path, tmp_path: Path, write_nifti: Callable[..., Path]
) -> None:
    run_dir = tmp_path / "run"
    train_in(run_dir, *TINY, "data=lits", f"data.root={ct_root}", f"paths.cache_dir={cache_dir}")
    scans = tmp_path / "scans"
    for name in ("volume-1.nii.gz", "volume-2.nii.gz"):
        scans.mkdir(exist_ok=True)
        shutil.copy(ct_root / name, scans / name)
    turned = np.array([[0, -0.8, 0.1, 5], [0.7, 0, 0, -20], [0, 0.1, 3.0, 100], [0, 0, 0, 1.0]])
    write_nifti(
        scans / "turned.nii", np.random.default_rng(0).integers(-300, 300, (31, 40, 5)).astype(np.int16), turned
    )
    niftis = ["turned.nii.gz", "volume-1.nii.gz", "volume-2.nii.gz"]
    assert label(run_dir, scans, tmp_path / "out") == niftis
    for file in scans.iterdir():
        given, written = nib.load(file), nib.load(tmp_path / "out" / f"{file.name.removesuffix('.gz')}.gz")
        assert np.array_equal(given.affine, written.affine) and given.shape == written.shape
        assert written.get_data_dtype() == np.uint8 and set(np.unique(written.dataobj)) <= {0, 1, 2}

    one = scans / "turned.nii"
    sitk.WriteImage(sitk.ReadImage(str(scans / "volume-1.nii.gz")), str(scans / "same.mha"), True)
    write_series(scans / "sub" / "ct.2", nifti.read_volume(scans / "volume-1.nii.gz")[0][0])
    one.unlink()
    found = label(run_dir, scans, tmp_path / "all")
    assert found == ["same.mha", "sub/ct.2.nii.gz", "volume-1.nii.gz", "volume-2.nii.gz"]
    expected = nifti.read_mask(tmp_path / "all" / "volume-1.nii.gz")
    assert np.array_equal(itk.read_mask(tmp_path / "all" / "same.mha"), expected)
    assert np.array_equal(nifti.read_mask(tmp_path / "all" / "sub" / "ct.2.nii.gz"), expected)
    assert label(run_dir, scans / "sub" / "ct.2", tmp_path / "seg", "dicom=seg") == ["ct.2.dcm"]
    assert pydicom.dcmread(tmp_path / "seg" / "ct.2.dcm").FrameOfReferenceUID == FRAME
    with pytest.raises(ConfigError, match="dicom=rtstruct"):
        label(run_dir, scans, tmp_path / "seg", "dicom=rtstruct")


def test_a_raster_keeps_crs_transform_tiling_and_compression(
    scene_root: Path, cache_dir: Path, tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    run_dir = tmp_path / "run"
    train_in(run_dir, *TINY, "data=satellite", f"data.root={scene_root}", f"paths.cache_dir={cache_dir}")
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    shutil.copy(scene_root / "images" / "scene_01.tif", scenes)
    write_raster(scenes / "wide.tif", np.random.default_rng(0).integers(1, 3000, (4, 300, 600)).astype(np.uint16))
    write_raster(scenes / "three_bands.tif", np.ones((3, 40, 40), np.uint16))
    with pytest.raises(DataError, match="another number of channels"):
        label(run_dir, scenes, tmp_path / "out")
    assert listed(tmp_path / "out") == ["scene_01.tif", "wide.tif"]
    for name in ("scene_01.tif", "wide.tif"):
        with rasterio.open(scenes / name) as given, rasterio.open(tmp_path / "out" / name) as written:
            assert (given.crs, given.transform, given.shape) == (written.crs, written.transform, written.shape)
            assert written.count == 1 and written.dtypes == ("uint8",) and written.nodata == 255
            assert written.block_shapes == [(256, 256)] and written.compression.name == "deflate"
            assert np.array_equal(written.read(1) == 255, ~given.dataset_mask().astype(bool))


def test_inputs_are_found_once_and_named_below_their_common_folder(tmp_path: Path) -> None:
    for name in ("x/a.nii.gz", "x/y/b.tar", "z/.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = find_inputs(str(tmp_path), tmp_path / "out")
    assert files == [tmp_path / "x" / "a.nii.gz", tmp_path / "x" / "y" / "b.tar"]
    out = Path("out")
    assert list(name_outputs(files, out).values()) == [out / "a", out / "y" / "b"]
    here = Path(os.path.relpath(tmp_path))
    assert [file.resolve() for file in find_inputs(str(here), out)] == [file.resolve() for file in files]
