"""What is odd with a case that can be read is noticed with its file, and its good twin says nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import Affine

from seglab.data import doubts
from seglab.data.crack import CrackData
from seglab.data.findings import Finding, notice, noticing
from seglab.data.headers import Header, height_mm, notice_zeros, read_header
from seglab.data.lits import LitsData
from seglab.data.preparation import read_sample
from seglab.spec import Case

FILE = Path("mask.nii.gz")


def noticed(look: Callable[[], None]) -> list[tuple[str, str, str]]:
    with noticing() as found:
        look()
    return [(each.severity, each.what, each.value) for each in found]


def body() -> tuple[np.ndarray, np.ndarray]:
    """A CT of water in air, (1, D, H, W), and a liver in it."""
    rng = np.random.default_rng(0)
    image = rng.normal(-1000, 15, (1, 6, 40, 40)).astype(np.int16)
    image[0, :, 8:32, 8:32] += 1000
    mask = np.zeros(image.shape[1:], np.uint8)
    mask[:4, 10:20, 12:22] = 1
    image[0][mask == 1] += 80
    return image, mask


def test_a_notice_reaches_the_block_once_and_a_warning_without_one_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def tell() -> None:
        notice("note", FILE, "is odd", value="1", fix="nothing")

    assert noticed(lambda: [tell(), tell()][0]) == [("note", "is odd", "1")]
    tell()
    notice("warning", FILE, "is strange", value="2", fix="look")
    assert "is odd" not in caplog.text and "mask.nii.gz is strange: 2; look" in caplog.text


def test_a_mask_in_air_is_noticed_and_one_in_the_body_is_not() -> None:
    image, mask = body()
    classes = ("background", "liver")
    assert noticed(lambda: doubts.in_air(image[0], mask, FILE, classes)) == []
    shifted = np.roll(mask, 22, axis=2)
    ((severity, what, value),) = noticed(lambda: doubts.in_air(image[0], shifted, FILE, classes))
    assert (severity, what) == ("warning", "marks a class in air") and "of liver lies below -950 HU" in value


def test_padding_is_noted_and_air_is_not() -> None:
    image, _ = body()
    assert doubts.looks_like_hu(image) and noticed(lambda: doubts.padding(np.maximum(image, -1024), FILE)) == []
    image[:, :, :4] = -3024
    assert noticed(lambda: doubts.padding(image, FILE)) == [
        ("note", "is padded below the range of HU", "-3024 in 10% of the voxels")
    ]


def test_constant_images_and_channels_are_noticed() -> None:
    image = np.random.default_rng(0).integers(0, 9, (3, 1, 8, 8))
    assert noticed(lambda: doubts.constant_channels(image, FILE)) == []
    image[1] = 7
    assert noticed(lambda: doubts.constant_channels(image, FILE)) == [
        ("warning", "has channels without content", "channel 2: 7")
    ]
    (found,) = noticed(lambda: doubts.constant_channels(np.zeros((1, 1, 4, 4)), FILE))
    assert found[1] == "is the same value everywhere"


def test_empty_full_and_ignored_masks_are_told_apart() -> None:
    def of(mask: np.ndarray, has_background: bool = True) -> list[tuple[str, str]]:
        return [each[:2] for each in noticed(lambda: doubts.shares(mask, FILE, has_background=has_background))]

    half = np.array([[[0, 1]]], np.uint8)
    assert of(half) == []
    assert of(half * 0) == [("note", "holds no foreground")]
    assert of(half * 0 + 1) == [("warning", "holds no background")]
    assert of(half * 0, has_background=False) == of(half * 0 + 1, has_background=False) == []
    assert of(np.array([[[0, 1, 255]]], np.uint8)) == [("note", "has pixels that count in no loss and no metric")]


def test_a_mask_explains_its_image_best_as_it_is_and_its_mirror_image_when_mirrored() -> None:
    image, mask = body()
    right = doubts.fit_of(image, mask, (-200, 250))
    assert right.own > right.best
    wrong = doubts.fit_of(image, mask[:, ::-1], (-200, 250))
    assert wrong.turn == "with reversed rows" and wrong.best == pytest.approx(right.own)
    assert doubts.explained(np.array([[[1.0, 1, 3, 3]]]), np.array([[[0, 0, 1, 1]]], np.uint8)) == pytest.approx(1)
    assert doubts.explained(np.array([[[1.0, 3, 1, 3]]]), np.array([[[0, 0, 1, 1]]], np.uint8)) == 0


def test_zeros_are_doubted_only_where_nothing_marks_them_as_nodata() -> None:
    image = np.ones((2, 1, 10, 10), np.uint16)
    image[:, :, :2] = 0
    placed = Header(affine=((10, 0, 0), (0, -10, 0)))
    valid = np.ones((1, 10, 10), bool)
    assert [each[2] for each in noticed(lambda: notice_zeros(image, valid, placed, FILE))] == ["20.0% of the pixels"]
    brain = Header(affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), orientation="RAS")
    for header in (Header(affine=placed.affine, nodata=0.0), Header(), brain):
        assert noticed(lambda header=header: notice_zeros(image, valid, header, FILE)) == []


def test_headers_are_read_and_survive_json(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    header = read_header(write_raster(tmp_path / "a.tif", np.zeros((2, 4, 6), np.uint16), nodata=9), "raster")
    assert (header.stored, header.shape, header.crs, header.nodata) == ("uint16", (4, 6), "EPSG:32633", 9.0)
    assert header.affine is not None and Affine(*header.affine[0], *header.affine[1]).a == 10
    assert Header.from_dict(header.to_dict()) == header
    Image.new("P", (6, 4)).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png", "photo") == Header("P", (4, 6))


def test_a_slice_lies_where_its_affine_says_whatever_the_axes() -> None:
    straight = Header(shape=(4, 5, 6), affine=tuple(map(tuple, np.diag([1.0, 1, 3, 1]))))
    assert height_mm(straight, 2) == 6
    upside_down = np.diag([1.0, 1, -3, 1])
    upside_down[2, 3] = 15  # the last slice in the file is the lowest one
    assert height_mm(Header(shape=(4, 5, 6), affine=tuple(map(tuple, upside_down))), 2) == 6
    assert height_mm(Header(), 0) is None


def test_repairs_of_photos_and_masks_are_noted(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    rng, tags = np.random.default_rng(0), Image.Exif()
    tags[274] = 3
    Image.fromarray(rng.integers(0, 255, (24, 24, 4), dtype=np.uint8)).save(tmp_path / "images/a.png", exif=tags)
    mask = np.zeros((24, 24), np.uint8)
    mask[8:16] = 255
    Image.fromarray(mask).save(tmp_path / "masks/a.bmp", "jpeg", quality=95)
    case = Case("a", tmp_path / "images/a.png", tmp_path / "masks/a.bmp", "a")
    sample = read_sample(CrackData(root=str(tmp_path), cache_dir=str(tmp_path)), case)
    assert {(each.file, each.what) for each in sample.findings} == {
        ("image", "is turned upright"),
        ("image", "loses its alpha channel"),
        ("mask", "is a JPEG mask, whose edges are blurred"),
        ("mask", "is named like another format"),
    }


def test_other_axes_of_a_mask_and_a_lost_header_are_told(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    image, mask = body()
    voxels, labels = image[0].transpose(2, 1, 0), mask.transpose(2, 1, 0)
    volume = write_nifti(tmp_path / "volume-1.nii", voxels)
    flipped = np.diag([1.0, -1, 1, 1])
    flipped[1, 3] = voxels.shape[1] - 1
    other = write_nifti(tmp_path / "segmentation-1.nii", labels[:, ::-1].copy(), flipped)
    data = LitsData(root=str(tmp_path), cache_dir=str(tmp_path))
    sample = read_sample(data, Case("volume-1", volume, other, "1"))
    told = {each.what: each for each in sample.findings}
    assert told["has an identity affine, as if the header was lost"].severity == "warning"
    axes = told["stores its axes in another order than its image"]
    assert isinstance(axes, Finding) and (axes.file, axes.value) == ("mask", "mask RPS, image RAS")
