from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.crack import CrackData, read_groups
from seglab.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "crack"
WriteCrack, WritePicture = Callable[..., None], Callable[..., Path]


def crack(root: Path, **settings: object) -> CrackData:
    return CrackData(**{"root": str(root), "cache_dir": str(root / "cache"), "num_workers": 0} | settings)


def test_png_jpg_bmp_and_tif_lie_side_by_side(tmp_path: Path, write_crack: WriteCrack) -> None:
    write_crack(tmp_path, "a.png", "b.jpg", "c.bmp", "d.tif", "E.JPEG")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    data = crack(tmp_path).load()
    assert [record.id for record in data.store.records] == ["E", "a", "b", "c", "d"]
    assert {record.class_pixels for record in data.store.records} == {(20 * 21, 20 * 3)}
    assert {record.shape for record in data.store.records} == {(3, 1, 20, 24)}


def test_a_photo_taken_upright_and_its_mask_stay_aligned(tmp_path: Path, write_picture: WritePicture) -> None:
    stored = np.full((20, 30, 3), 200, np.uint8)
    stored[2:5, 25:29] = 0
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    for part, array in (("images", stored), ("masks", (stored[:, :, 0] < 100).astype(np.uint8) * 255)):
        write_picture(tmp_path / part / "a.png", array, exif=exif)
    data = crack(tmp_path, val_fraction=0.0, test_fraction=0.0).load()
    image, mask = data.store.image("a")[0, 0], data.store.mask("a")[0]
    assert image.shape == mask.shape == (30, 20)
    assert np.array_equal(image < 100, mask == 1) and mask[25:29, 15:18].all() and mask.sum() == 12


def test_a_rotated_photo_with_an_unrotated_mask_is_refused(tmp_path: Path, write_picture: WritePicture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write_picture(tmp_path / "images" / "a.jpg", np.zeros((20, 30, 3), np.uint8), exif=exif)
    write_picture(tmp_path / "masks" / "a.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match="image 1x30x20, mask 1x20x30"):
        crack(tmp_path).load()


def test_grey_and_transparent_photos_become_rgb(tmp_path: Path, write_picture: WritePicture) -> None:
    grey = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24)
    color = np.stack([grey, grey // 2, grey // 4, np.full_like(grey, 9)], axis=-1)
    write_picture(tmp_path / "images" / "grey.png", grey)
    write_picture(tmp_path / "images" / "rgba.png", color)
    for name in ("grey", "rgba"):
        write_picture(tmp_path / "masks" / f"{name}.png", np.zeros((20, 24), np.uint8))
    store = crack(tmp_path, val_fraction=0.0, test_fraction=0.0).load().store
    assert np.array_equal(store.image("grey")[:, 0], np.stack([grey] * 3))
    assert np.array_equal(store.image("rgba")[:, 0], color[:, :, :3].transpose(2, 0, 1))


@pytest.mark.parametrize("header", ["file,photo\n", "image;name,group\n", "", "\ufeffFile , Photo , note\n"])
def test_groups_are_read_with_any_header(header: str, tmp_path: Path) -> None:
    rows = "a_1.png,A\nimages/a_2.jpg, A ,late\nb_1,B\n\n"
    (tmp_path / "groups.csv").write_text(header + rows, encoding="utf-8")
    images = [Path(name) for name in ("a_1.png", "a_2.jpg", "b_1.png")]
    assert read_groups(tmp_path / "groups.csv", images) == {"a_1.png": "A", "a_2.jpg": "A", "b_1.png": "B"}


def test_without_groups_every_image_is_a_photo(tmp_path: Path) -> None:
    assert read_groups(tmp_path / "groups.csv", [Path("x/a.png"), Path("b.jpg")]) == {"a.png": "a", "b.jpg": "b"}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"file,photo\na.png,A\n", r"groups\.csv gives no group[\s\S]*groups\.csv: b\.png"),
        (b"a.png,A\nb.png,\n", r"gives no group[\s\S]*b\.png"),
        (b"a.png,A\nb.png,B\nb.png,A\n", r"two groups, for 1 image[\s\S]*b\.png"),
        (b"a.png;A\nb.png;B\n", r"for 2 image\(s\)[\s\S]*a row|one row"),
        (b"a.png,\xe4\nb.png,B\n", r"groups\.csv cannot be read[\s\S]*UTF-8"),
    ],
)
def test_groups_that_leave_a_photo_out_or_double_are_refused(
    content: bytes, fault: str, tmp_path: Path, write_crack: WriteCrack
) -> None:
    write_crack(tmp_path, "a.png", "b.png")
    (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(DataError, match=fault):
        crack(tmp_path).load()


def test_declared_mask_values_mean_crack_and_others_are_refused(tmp_path: Path, write_picture: WritePicture) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[0, :3], mask[1, :5] = 1, 2
    write_picture(tmp_path / "images" / "a.png", np.zeros((20, 24, 3), np.uint8))
    write_picture(tmp_path / "masks" / "a.png", mask)
    settings = {"val_fraction": 0.0, "test_fraction": 0.0}
    with pytest.raises(DataError, match=r"a\.png[\s\S]*data\.foreground_values"):
        crack(tmp_path, **settings).load()
    with pytest.raises(DataError, match=r"neither foreground nor background[\s\S]*2 \(5 pixels\)"):
        crack(tmp_path, foreground_values=[1], **settings).load()
    both = crack(tmp_path, foreground_values=[1, 2], **settings).load()
    assert both.store.records[0].class_pixels == (20 * 24 - 8, 8)


def test_a_mask_of_another_size_is_named_and_never_resized(
    tmp_path: Path, write_crack: WriteCrack, write_picture: WritePicture
) -> None:
    write_crack(tmp_path, "a.png", "b.png")
    write_picture(tmp_path / "masks" / "b.png", np.zeros((10, 12), np.uint8))
    with pytest.raises(DataError, match=r"masks.b\.png has another size[\s\S]*image 1x20x24, mask 1x10x12"):
        crack(tmp_path).load()


def test_photos_and_masks_without_partner_are_named(tmp_path: Path, write_crack: WriteCrack) -> None:
    write_crack(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "masks" / "a.png").unlink()
    (tmp_path / "images" / "c.png").unlink()
    with pytest.raises(DataError, match=r"1 images without mask \(.*a\.png\), 1 masks without image \(.*c\.png\)"):
        crack(tmp_path).load()


def test_a_missing_or_empty_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing[\s\S]*data\.root=phantom"):
        crack(tmp_path / "none").load()
    with pytest.raises(DataError, match=r"no photo under[\s\S]*an empty folder[\s\S]*data\.root=phantom"):
        crack(tmp_path).load()


def test_patches_of_one_photo_stay_together(crack_root: Path, cache_dir: Path) -> None:
    data = crack(crack_root, cache_dir=str(cache_dir)).load()
    photos = {split: {record.group for record in data.records[split]} for split in ("train", "val", "test")}
    assert sum(map(len, photos.values())) == len(set.union(*photos.values())) == 8
    assert sum(len(data.records[split]) for split in photos) == 32


def test_labels_are_written_as_black_and_white(crack_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    data = crack(crack_root, cache_dir=str(cache_dir)).load()
    record = data.store.records[0]
    mask = np.array(data.store.mask(record.id))
    written = data.write_labels(mask, Path(record.image_file), tmp_path / "photo.of.1", data.spec)
    assert written.name == "photo.of.1.png"
    assert np.array_equal(np.asarray(Image.open(written)), np.asarray(Image.open(record.mask_file)))


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/crack is missing")
def test_the_real_photos_are_split_without_a_leak(tmp_path: Path) -> None:
    data = crack(SHARED, cache_dir=str(tmp_path)).load()
    photo_of = {record.id: record.id.rpartition("_")[0] for record in data.store.records}
    photos = [{photo_of[record.id] for record in data.records[split]} for split in ("train", "val", "test")]
    assert len(data.store.records) == 182 and sum(map(len, photos)) == len(set.union(*photos))
    shares = [len(data.records[split]) / 182 for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.65, 0.15, 0.2], abs=0.06)
