"""Anybody's volumes, photos and rasters: read, refused and written without a class of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from dicom_writer import COLUMN_MM, ROW_MM, SLICE_MM, write_series
from PIL import Image

from seglab.data.channels import first_channels, sibling_files
from seglab.data.phantoms import ct
from seglab.data.photos import PhotosData
from seglab.data.rasters import RastersData
from seglab.data.volumes import VolumesData, standardised
from seglab.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
NESTED = {"background": 0, "whole": [1, 2, 4], "core": [1, 4], "enhancing": 4}
ALL_TRAIN = {"val_fraction": 0.0, "test_fraction": 0.0}
Write = Callable[..., Path]


def volumes(root: Path, **settings: Any) -> VolumesData:
    return VolumesData(**{"root": str(root), "cache_dir": str(root / ".cache"), "num_workers": 0} | settings)


def photos(root: Path, **settings: Any) -> PhotosData:
    return PhotosData(**{"root": str(root), "cache_dir": str(root / ".cache"), "num_workers": 0} | settings)


def rasters(root: Path, **settings: Any) -> RastersData:
    return RastersData(**{"root": str(root), "cache_dir": str(root / ".cache"), "num_workers": 0} | settings)


@pytest.fixture
def brain(tmp_path: Path, write_nifti: Write) -> Path:
    """Three cases of two modalities with values 0, 1, 2, 4; a mask lies in the axis order of its images."""
    mask = np.zeros((18, 17, 16), np.uint8)
    mask[4:14, 4:14, 4:14], mask[6:12, 6:12, 6:12], mask[8:10, 8:10, 8:10] = 2, 1, 4
    for number in range(3):
        for place, channel in enumerate(("t1", "t2")):
            values = np.random.default_rng([number, place]).integers(1, 900, mask.shape).astype(np.int16)
            write_nifti(tmp_path / f"p{number}" / f"p{number}_{channel}.nii.gz", values)
        write_nifti(tmp_path / f"p{number}" / f"p{number}_seg.nii.gz", mask)
    return tmp_path


BRAIN = {
    "images": "{case}/{case}_{channel}.*",
    "masks": "{case}/{case}_seg.*",
    "channels": ["t1", "t2"],
    "classes": NESTED,
}


def test_modalities_are_channels_and_classes_lie_within_each_other(brain: Path, tmp_path: Path) -> None:
    data = volumes(brain, dims=3, **BRAIN, **ALL_TRAIN).load()
    spec = data.spec
    assert (spec.in_channels, spec.channels) == (2, ("t1", "t2"))
    assert spec.regions == ((0,), (1, 2, 3), (2, 3), (3,)) and spec.mask_values == (0, 2, 1, 4)
    record = data.records["train"][0]
    assert record.class_pixels == (18 * 17 * 16 - 1000, 1000 - 216, 216 - 8, 8)
    files = sibling_files(brain / "p0" / "p0_t1.nii.gz", spec.channels)
    image, _, _ = data.read_images(files)
    assert image.shape == (2, 16, 17, 18) and not np.array_equal(image[0], image[1])
    assert np.array_equal(image[1], data.read_image(files[1])[0][0])
    written = data.write_labels(np.array(data.store.mask("p0")[:]), files[0], tmp_path / "out", spec)
    expected = nib.load(brain / "p0" / "p0_seg.nii.gz").get_fdata()
    assert np.array_equal(nib.load(written).get_fdata(), expected)


def test_modalities_of_another_size_or_place_are_refused(brain: Path, write_nifti: Write) -> None:
    write_nifti(brain / "p1" / "p1_t2.nii.gz", np.ones((18, 17, 15), np.int16))
    write_nifti(brain / "p2" / "p2_t2.nii.gz", np.ones((18, 17, 16), np.int16), np.diag([1.0, 1, 2, 1]))
    with pytest.raises(DataError) as caught:
        volumes(brain, **BRAIN).load()
    told = str(caught.value)
    assert "different sizes" in told and "p1_t2.nii.gz: 15x17x18" in told
    assert "p2_t2.nii.gz and its image" in told and "differ in spacing" in told


def test_a_changed_second_modality_is_read_again(brain: Path, write_nifti: Write) -> None:
    first = volumes(brain, **BRAIN, **ALL_TRAIN).load().store
    write_nifti(brain / "p1" / "p1_t2.nii.gz", np.full((18, 17, 16), 7, np.int16))
    second = volumes(brain, **BRAIN, **ALL_TRAIN).load().store
    entries = [{record.id: record.entry for record in store.records} for store in (first, second)]
    assert {case for case in entries[0] if entries[0][case] != entries[1][case]} == {"p1"}
    assert (second.image("p1")[1] == 7).all()


def test_series_are_cases_and_one_changed_slice_is_read_again(tmp_path: Path, write_nifti: Write) -> None:
    affine = np.diag([-COLUMN_MM, -ROW_MM, SLICE_MM, 1.0])
    affine[:3, 3] = 10.5, -20.25, 30.125  # of the writer, from LPS to RAS
    for number in range(3):
        values = np.random.default_rng(number).integers(-90, 90, (5, 17, 18)).astype(np.int16)
        write_series(tmp_path / "images" / f"p{number}", values)
        mask = (values > 0).astype(np.uint8).transpose(2, 1, 0)
        write_nifti(tmp_path / "masks" / f"p{number}.nii.gz", mask, affine)
    first = volumes(tmp_path, **ALL_TRAIN).load().store
    assert [record.class_pixels for record in first.records] == [
        (int((image[0] <= 0).sum()), int((image[0] > 0).sum())) for image in map(first.image, ("p0", "p1", "p2"))
    ]
    write_series(tmp_path / "other", np.full((5, 17, 18), 7, np.int16))
    names = sorted(file.name for file in (tmp_path / "other").iterdir())
    (tmp_path / "other" / names[2]).replace(tmp_path / "images" / "p1" / names[2])
    second = volumes(tmp_path, **ALL_TRAIN).load().store
    changed = [one.id for one, two in zip(first.records, second.records, strict=True) if one.entry != two.entry]
    assert changed == ["p1"] and np.count_nonzero((second.image("p1")[0] == 7).all(axis=(1, 2))) == 1


def test_standardised_channels_have_mean_0_and_deviation_1_where_there_is_tissue() -> None:
    values = np.array([[[0, 0, 3, 5, 7]]], np.int16)
    assert standardised(values)[0, 0, 2:] == pytest.approx([-1.2247449, 0, 1.2247449])
    assert not standardised(values)[0, 0, :2].any() and not standardised(np.full((1, 1, 3), 5)).any()


def test_the_fourth_axis_of_a_nifti_file_is_channels(tmp_path: Path, write_nifti: Write) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (16, 17, 18, 3)).astype(np.int16)
    affine = np.diag([-1.0, 1, 2, 1])
    image = write_nifti(tmp_path / "images" / "a.nii.gz", voxels, affine)
    mask = (voxels[..., 0] > 50).astype(np.uint8)
    write_nifti(tmp_path / "masks" / "a.nii.gz", mask, affine)
    data = volumes(tmp_path, **ALL_TRAIN).load()
    assert data.spec.in_channels == 3 and data.spec.channels == ()
    for channel in range(3):
        alone = write_nifti(tmp_path / f"{channel}.nii.gz", voxels[..., channel], affine)
        assert np.array_equal(data.store.image("a")[channel], data.read_image(alone)[0][0])
    written = nib.load(data.write_labels(np.array(data.store.mask("a")[:]), image, tmp_path / "out", data.spec))
    assert written.shape == mask.shape and np.array_equal(written.get_fdata(), mask)
    assert np.allclose(written.affine, affine)


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients as nnU-Net names them, with the liver's region around the tumour."""
    folder = tmp_path_factory.mktemp("nnunet")
    ct.write(folder, n_patients=3)
    for part, target in (("volume", "imagesTr/case_{}_0000.nii.gz"), ("segmentation", "labelsTr/case_{}.nii.gz")):
        for number in range(3):
            (folder / target.format(number)).parent.mkdir(exist_ok=True)
            (folder / f"{part}-{number}.nii.gz").rename(folder / target.format(number))
    labels = {"background": 0, "liver": [1, 2], "tumour": 2}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_a_folder_of_nnunet_needs_its_root_alone(nnunet: Path, cache_dir: Path) -> None:
    data = volumes(nnunet, cache_dir=str(cache_dir), window_hu=[-200, 250]).load()
    assert data.spec.class_names == ("background", "liver", "tumour") and data.spec.regions == ((0,), (1, 2), (2,))
    assert sorted(record.id for record in data.store.records) == ["case_0", "case_1", "case_2"]
    assert {len(groups) for groups in data.splits.values()} == {1} and data.spec.intensity.low == -200


def test_declared_classes_win_over_those_of_dataset_json(nnunet: Path, cache_dir: Path) -> None:
    data = volumes(nnunet, cache_dir=str(cache_dir), classes={"background": 0, "liver": [1, 2]}, **ALL_TRAIN).load()
    assert data.spec.class_names == ("background", "liver") and data.spec.regions == ()


def test_a_table_decides_the_split_and_its_columns_stay_with_the_case(tmp_path: Path, write_crack: Any) -> None:
    write_crack(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = [("a", "train", "x"), ("b", "val", "x"), ("c", "test", "y"), ("d", "train", "z")]
    lines = [f"images/{name}.png,masks/{name}.png,{split},{site}" for name, split, site in rows]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(["image,mask,split,site", *lines]))
    data = photos(tmp_path, table="cases.csv").load()
    assert data.splits == {"train": ("a", "d"), "val": ("b",), "test": ("c",)}
    assert {record.id: dict(record.metadata) for record in data.store.records}["c"] == {"site": "y"}
    table.write_text(table.read_text().replace("a.png,train", "a.png,test").replace(",y", ",w"))
    again = photos(tmp_path, table="cases.csv").load()
    assert again.splits["test"] == ("a", "c") and again.store.folder == data.store.folder
    assert {record.id: record.metadata["site"] for record in again.store.records}["c"] == "w"


def test_a_split_in_the_folders_decides_too(tmp_path: Path, write_crack: Any) -> None:
    for place, split in enumerate(("train", "val", "test")):  # each photo is drawn from its number in the list
        write_crack(tmp_path / split, *(f"x{number}.png" for number in range(2 * place)), "a.png", "b.png")
        for file in (tmp_path / split).rglob("x*.png"):
            file.unlink()
    data = photos(tmp_path, images="{split}/images/{case}.*", masks="{split}/masks/{case}.*").load()
    assert data.splits["val"] == ("val-a", "val-b") and [len(data.records[name]) for name in data.splits] == [2, 2, 2]


def test_photos_with_values_palettes_and_grey_saved_as_rgb(tmp_path: Path, write_picture: Write) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[:5], mask[5:8] = 3, 7
    for name in ("grey", "rgb", "palette"):
        write_picture(tmp_path / "images" / f"{name}.jpg", np.full((20, 24, 3), 90, np.uint8))
    write_picture(tmp_path / "masks" / "grey.png", mask)
    write_picture(tmp_path / "masks" / "rgb.png", np.stack([mask] * 3, axis=-1))
    palette = Image.fromarray(mask)
    palette.putpalette([value for index in range(8) for value in (9 * index, 200, 30)])
    palette.save(tmp_path / "masks" / "palette.png")
    data = photos(tmp_path, classes={"rest": 0, "a": 3, "b": {"value": 7, "color": "FF0000"}}, **ALL_TRAIN).load()
    assert {record.class_pixels for record in data.store.records} == {(12 * 24, 5 * 24, 3 * 24)}
    labels = np.array(data.store.mask("grey"))
    written = Image.open(data.write_labels(labels, tmp_path / "images" / "grey.jpg", tmp_path / "out", data.spec))
    assert np.array_equal(np.asarray(written), mask) and written.convert("RGB").getpixel((0, 6)) == (255, 0, 0)


def test_photos_without_declared_classes_are_black_and_white_or_say_what_to_declare(
    tmp_path: Path, write_picture: Write
) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[:4] = 1
    write_picture(tmp_path / "images" / "a.png", np.full((20, 24, 3), 90, np.uint8))
    write_picture(tmp_path / "masks" / "a.png", mask)
    with pytest.raises(
        DataError, match=r"would lose its foreground[\s\S]*data\.classes='\{background: 0, foreground: 1\}'"
    ):
        photos(tmp_path).load()
    data = photos(tmp_path, classes={"background": 0, "foreground": 1}, **ALL_TRAIN).load()
    assert data.store.records[0].class_pixels == (16 * 24, 4 * 24) and data.mask_values == (0, 1)
    write_picture(tmp_path / "masks" / "a.png", mask * 255)
    assert photos(tmp_path, **ALL_TRAIN).load().store.records[0].class_pixels == (16 * 24, 4 * 24)


def test_a_value_is_ignored_beside_classes_that_nobody_declared(
    tmp_path: Path, write_picture: Write, write_raster: Write
) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[:4], mask[4:6] = 255, 128
    write_picture(tmp_path / "images" / "a.png", np.full((20, 24, 3), 90, np.uint8))
    write_picture(tmp_path / "masks" / "a.png", mask)
    assert photos(tmp_path, ignore=[128], **ALL_TRAIN).load().store.records[0].class_pixels == (14 * 24, 4 * 24)
    write_raster(tmp_path / "scene.tif", np.full((2, 20, 24), 7, np.uint16))
    mask[:4], mask[6:7] = 1, 255
    write_raster(tmp_path / "truth.tif", mask[None], nodata=255)
    (tmp_path / "cases.csv").write_text("image,mask\nscene.tif,truth.tif\n")
    how = {"table": "cases.csv", "ignore": [128], **ALL_TRAIN}
    assert rasters(tmp_path, **how).load().store.records[0].class_pixels == (13 * 24, 4 * 24)


def test_masks_in_colours_and_a_colour_that_is_ignored(tmp_path: Path, write_picture: Write) -> None:
    mask = np.zeros((20, 24, 3), np.uint8)
    mask[:, :6], mask[:, 6:10] = (0, 0, 255), (0, 255, 0)
    write_picture(tmp_path / "images" / "a.png", np.full((20, 24, 3), 90, np.uint8))
    write_picture(tmp_path / "masks" / "a.png", mask)
    classes = {"water": {"color": "0000FF"}, "land": {"color": "00FF00"}}
    for make in (photos, rasters):
        with pytest.raises(DataError, match=r"colours that no class has[\s\S]*#000000 \(280 pixels\)"):
            make(tmp_path, classes=classes, **ALL_TRAIN).load()
        data = make(tmp_path, classes=classes, ignore=["000000"], has_background=False, **ALL_TRAIN).load()
        assert data.store.records[0].class_pixels == (120, 80) and not data.spec.has_background


def test_rasters_of_two_files_are_joined_as_bands_on_one_grid(tmp_path: Path, write_raster: Write) -> None:
    for part, n_bands in (("optical", 3), ("radar", 2)):
        write_raster(tmp_path / f"s1_{part}.tif", np.full((n_bands, 16, 20), n_bands, np.uint16), nodata=0)
    mask = np.full((1, 16, 20), 5, np.uint8)
    mask[0, :2], mask[0, 2:4] = 9, 200
    write_raster(tmp_path / "s1_mask.tif", mask, nodata=200)
    how = {"images": "{case}_{channel}.tif", "masks": "{case}_mask.tif", "channels": ["optical", "radar"]}
    data = rasters(tmp_path, classes={"field": 5, "water": 9}, **how, **ALL_TRAIN).load()
    record = data.store.records[0]
    assert record.shape == (5, 1, 16, 20) and record.class_pixels == (12 * 20, 2 * 20)
    written = data.write_labels(np.array(data.store.mask("s1")), tmp_path / "s1_optical.tif", tmp_path / "o", data.spec)
    with rasterio.open(written) as opened:
        assert set(np.unique(opened.read(1))) == {5, 9, 255} and opened.nodata == 255
    write_raster(tmp_path / "s1_radar.tif", np.ones((2, 16, 20), np.uint16), west=500_005.0)
    with pytest.raises(DataError, match=r"s1_radar\.tif does not lie on the grid of"):
        rasters(tmp_path, classes={"field": 5, "water": 9}, **how, **ALL_TRAIN).load()


def test_a_class_whose_value_is_nodata_is_refused_when_it_was_declared(tmp_path: Path, write_raster: Write) -> None:
    write_raster(tmp_path / "images" / "a.tif", np.full((2, 16, 16), 7, np.uint16))
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[0, :4], mask[0, 4:6] = 255, 1
    write_raster(tmp_path / "masks" / "a.tif", mask, nodata=255)
    with pytest.raises(DataError, match="declares a class value as nodata"):
        rasters(tmp_path, classes={"other": 0, "house": [1, 255]}, **ALL_TRAIN).load()
    assert rasters(tmp_path, **ALL_TRAIN).load().store.records[0].class_pixels == (160, 32)
    write_raster(tmp_path / "masks" / "a.tif", mask)
    assert rasters(tmp_path, **ALL_TRAIN).load().store.records[0].class_pixels == (160, 96)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"table": "a.csv", "images": "*.png"}, "described twice"),
        ({"table": "a.csv", "masks": "*.png"}, "described twice"),
        ({"channels": ["a", "b"]}, "do not fit each other"),
        ({"classes": {"a": 0}}, "too few"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_any_file(
    settings: dict, fault: str, tmp_path: Path
) -> None:
    for make in (volumes, photos, rasters):
        with pytest.raises(ConfigError, match=fault):
            make(tmp_path, **settings)
    with pytest.raises(ConfigError, match="no masks in colours"):
        volumes(tmp_path, classes={"a": {"color": "0000FF"}, "b": {"color": "00FF00"}})


def test_the_files_of_a_case_are_found_from_its_first_and_stand_for_one_input(tmp_path: Path) -> None:
    names = ("x_0000.nii.gz", "x_0001.nii.gz", "y_0000.nii.gz")
    files = [tmp_path / name for name in names]
    for file in files:
        file.write_bytes(b"x")
    channels = ("0000", "0001")
    assert sibling_files(files[0], channels) == tuple(files[:2]) and sibling_files(files[0], ()) == (files[0],)
    assert first_channels(files, channels) == [files[0], files[2]] and first_channels(files, ()) == files
    with pytest.raises(DataError, match=r"no y_0001\.nii\.gz"):
        sibling_files(files[2], channels)
    with pytest.raises(DataError, match="'0000' is not in the name"):
        sibling_files(tmp_path / "z.nii.gz", channels)


PHANTOMS = [
    (
        photos,
        {"classes": {"a": 0, "b": [1, 2], "c": 2}, "images": "{split}/{case}.jpg", "masks": "{split}/{case}_m.png"},
    ),
    (photos, {"classes": {"a": {"color": "0000FF"}, "b": {"color": "00FF00"}}}),
    (photos, {"classes": {"background": 0, "nucleus": "1-65535"}, "masks": "instances/{case}.*"}),
    (rasters, {"classes": {"a": 0, "b": "1-255"}}),
    (rasters, {"classes": {"a": 0, "b": {"value": 255}}, "images": "{group}/*.tif", "masks": "m/{group}_{case}.tif"}),
    (rasters, {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "settings"), [*PHANTOMS, (volumes, BRAIN)])
def test_a_phantom_is_named_and_coded_as_the_data_is_described(
    make: Callable[..., Any], settings: dict, tmp_path: Path
) -> None:
    data = make(tmp_path, **settings, **({} if "images" in settings and "split" in settings["images"] else ALL_TRAIN))
    data.root = "phantom"
    data.load()
    seen = np.sum([record.class_pixels for record in data.store.records], axis=0)
    assert seen.all() and len(data.store.records) >= 8


REAL = [
    (photos, "crack", {}, 182, 0.04),
    (photos, "em", {"images": "image/*.png", "masks": "label/{case}.png"}, 30, 0.78),
    (photos, "nuclei", {"masks": "instances/{case}.*", "classes": {"background": 0, "nucleus": "1-65535"}}, 130, 0.13),
    (volumes, "lits", {"images": "volume-{case}.*", "masks": "segmentation-{case}.*"}, 2, 0.05),
]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is missing")
@pytest.mark.parametrize(("make", "folder", "settings", "n_cases", "share"), REAL)
def test_real_folders_are_described_in_one_line(
    make: Callable[..., Any], folder: str, settings: dict, n_cases: int, share: float, tmp_path: Path
) -> None:
    data = make(SHARED / folder, cache_dir=str(tmp_path), **settings, **ALL_TRAIN).load()
    pixels = np.sum([record.class_pixels for record in data.store.records], axis=0)
    assert len(data.store.records) == n_cases and pixels[1] / pixels.sum() == pytest.approx(share, abs=0.03)
