"""A mask file for each class of a case: found, refused where one is missing or does not fit, laid over each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from seglab.data.photos import PhotosData
from seglab.data.rasters import RastersData
from seglab.data.survey import survey
from seglab.data.volumes import VolumesData
from seglab.errors import ConfigError, DataError

Write = Callable[..., Path]
ORGANS = {"liver": "{case}/liver.*", "tumour": "{case}/tumour.*"}
SIZE = (18, 17, 16)


def volumes(root: Path, **settings: Any) -> VolumesData:
    given = {"images": "{case}/ct.*", "masks": ORGANS, "val_fraction": 0.0, "test_fraction": 0.0}
    return VolumesData(**{"root": str(root), "cache_dir": str(root / ".cache"), "num_workers": 0} | given | settings)


@pytest.fixture
def organs(tmp_path: Path, write_nifti: Write) -> Path:
    """Two cases; a tumour of 0 and 255 lies half within the liver."""
    for number in range(2):
        values = np.random.default_rng(number).integers(1, 900, SIZE).astype(np.int16)
        write_nifti(tmp_path / f"p{number}" / "ct.nii.gz", values)
        write_nifti(tmp_path / f"p{number}" / "liver.nii.gz", box(4, 10))
        write_nifti(tmp_path / f"p{number}" / "tumour.nii.gz", box(8, 12) * 255)
    return tmp_path


def box(first: int, end: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[first:end, first:end, first:end] = 1
    return mask


def told(data: Any) -> list[tuple[str, str, str]]:
    return [(found.severity, found.what, found.value) for found in survey(data.prepared, data)]


def test_the_last_class_wins_and_what_classes_share_is_noted(organs: Path, tmp_path: Path) -> None:
    data = volumes(organs).load()
    assert data.class_names == ("background", "liver", "tumour") and data.spec.mask_values == (0, 1, 2)
    assert [record.class_pixels[1:] for record in data.store.records] == [(6**3 - 2**3, 4**3)] * 2
    assert ("note", "shares pixels with a later class", "8 pixels of liver become tumour") in told(data)
    turned = volumes(organs, masks=dict(reversed(ORGANS.items()))).load()
    assert turned.class_names == ("background", "tumour", "liver")
    assert [record.class_pixels[1:] for record in turned.store.records] == [(4**3 - 2**3, 6**3)] * 2


def test_a_class_that_later_ones_hide_is_warned_of_and_an_empty_file_is_no_class(
    organs: Path, write_nifti: Write
) -> None:
    write_nifti(organs / "p0" / "tumour.nii.gz", box(3, 12))
    write_nifti(organs / "p1" / "tumour.nii.gz", box(0, 0))
    data = volumes(organs).load()
    assert [record.class_pixels[1:] for record in data.store.records] == [(0, 9**3), (6**3, 0)]
    assert [value for _, what, value in told(data) if what == "is hidden by later classes"] == ["liver"]


def test_a_table_has_a_column_for_each_class(organs: Path) -> None:
    rows = [f"p{n},p{n}/ct.nii.gz,p{n}/liver.nii.gz,p{n}/tumour.nii.gz" for n in (0, 1)]
    (organs / "cases.csv").write_text("\n".join(["case,image,liver,lesion", *rows]))
    listed = volumes(organs, images=None, table="cases.csv", masks={"liver": "liver", "tumour": "lesion"}).load()
    found, wanted = listed.store.records, volumes(organs).load().store.records
    assert listed.class_names == ("background", "liver", "tumour")
    assert [record.class_pixels for record in found] == [record.class_pixels for record in wanted]


def test_a_changed_file_of_a_class_is_read_again(organs: Path, write_nifti: Write) -> None:
    first = volumes(organs).load().store.records
    write_nifti(organs / "p1" / "tumour.nii.gz", box(8, 11))
    second = volumes(organs).load().store.records
    assert [one.entry == other.entry for one, other in zip(first, second, strict=True)] == [True, False]
    assert second[1].class_pixels[2] == 3**3


def test_a_case_without_the_file_of_a_class_is_refused(organs: Path) -> None:
    (organs / "p1" / "tumour.nii.gz").unlink()
    with pytest.raises(DataError, match=r"p1/ct\.nii\.gz has no mask"):
        volumes(organs).load()


def test_files_of_another_place_size_or_value_are_refused_all_at_once(organs: Path, write_nifti: Write) -> None:
    write_nifti(organs / "p0" / "tumour.nii.gz", box(8, 12), np.diag([1.0, 1, 2, 1]))
    write_nifti(organs / "p1" / "tumour.nii.gz", box(8, 12) * 7)
    with pytest.raises(DataError) as caught:
        volumes(organs).load()
    assert "tumour.nii.gz and its image" in str(caught.value) and "differ in spacing" in str(caught.value)
    assert "p1/tumour.nii.gz holds mask values that no class has" in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"masks": {}}, {"masks": {"background": "a/{case}.*"}}, {"classes": {"background": 0, "liver": 1}}]
)
def test_classes_that_are_described_twice_or_not_at_all_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        volumes(tmp_path, **settings)


def test_photos_have_a_picture_for_each_class(tmp_path: Path, write_picture: Write) -> None:
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (32, 40, 3)).astype(np.uint8)
        write_picture(tmp_path / "images" / f"p{number}.png", noise)
        for place, name in enumerate(("crack", "rust")):
            mask = np.zeros((32, 40), np.uint8)
            mask[: 8 + place, place * 8 : place * 8 + 8] = 255
            write_picture(tmp_path / name / f"p{number}.png", mask)
    given = {"root": str(tmp_path), "cache_dir": str(tmp_path / ".cache"), "num_workers": 0, "val_fraction": 0.0}
    masks = {"crack": "crack/{case}.png", "rust": "rust/{case}.png"}
    data = PhotosData(**given, test_fraction=0.0, masks=masks).load()
    assert [record.class_pixels[1:] for record in data.store.records] == [(64, 72)] * 3
    write_picture(tmp_path / "rust" / "p1.png", np.zeros((32, 41), np.uint8))
    with pytest.raises(DataError, match="different sizes"):
        PhotosData(**given, test_fraction=0.0, masks=masks).load()


def write_tif(file: Path, bands: np.ndarray, nodata: int | None = None) -> None:
    file.parent.mkdir(exist_ok=True)
    size = dict(zip(("count", "height", "width"), bands.shape, strict=True))
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 46e5)}
    with rasterio.open(file, "w", driver="GTiff", dtype=bands.dtype, nodata=nodata, **size, **place) as sink:
        sink.write(bands)


def test_rasters_have_a_geotiff_for_each_class_whose_zeros_are_data(tmp_path: Path) -> None:
    write_tif(tmp_path / "images" / "a.tif", np.random.default_rng(0).integers(1, 900, (3, 32, 40)).astype(np.uint16))
    water, wood = np.zeros((2, 1, 32, 40), np.uint8)
    water[0, :8], wood[0, :, :10], wood[0, -1] = 1, 1, 255
    write_tif(tmp_path / "water" / "a.tif", water)
    write_tif(tmp_path / "wood" / "a.tif", wood, nodata=255)
    given = {"root": str(tmp_path), "cache_dir": str(tmp_path / ".cache"), "num_workers": 0, "patch_size": [16, 16]}
    given |= {"masks": {"water": "water/{case}.tif", "wood": "wood/{case}.tif"}}
    data = RastersData(**given, val_fraction=0.0, test_fraction=0.0).load()
    assert data.store.records[0].class_pixels == (23 * 30, 8 * 30, 31 * 10), "and the last row counts nowhere"
    write_tif(tmp_path / "water" / "a.tif", water, nodata=0)
    with pytest.raises(DataError, match="nodata"):
        RastersData(**given).load()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [VolumesData, PhotosData, RastersData])
def test_phantoms_are_drawn_with_a_file_for_each_class(kind: Any, tmp_path: Path) -> None:
    masks = {"first": "first/{case}.*", "second": "second/{case}.*"}
    data = kind(root="phantom", cache_dir=str(tmp_path), num_workers=0, masks=masks).load()
    pixels = np.sum([record.class_pixels for record in data.store.records], axis=0)
    assert data.class_names == ("background", "first", "second") and pixels.all()
