import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seglab.data.formats import photo, photo_labels
from seglab.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_dubai = pytest.mark.skipif(
    not (SHARED / "satellite/dubai").is_dir(), reason="shared/data/satellite/dubai missing"
)
needs_crack = pytest.mark.skipif(not (SHARED / "crack").is_dir(), reason="shared/data/crack is missing")
needs_nuclei = pytest.mark.skipif(not (SHARED / "nuclei").is_dir(), reason="shared/data/nuclei is missing")

BLACK, RED, BLUE = (0, 0, 0), (200, 0, 0), (0, 0, 200)
DUBAI = {
    (0xE2, 0xA9, 0x29): 0,
    (0x84, 0x29, 0xF6): 1,
    (0x6E, 0xC1, 0xE4): 2,
    (0x3C, 0x10, 0x98): 3,
    (0xFE, 0xDD, 0x3A): 4,
    (0x9B, 0x9B, 0x9B): 255,
}
GREY = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)


def save(path: Path, values: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def palette_file(path: Path, indices: np.ndarray, colors: list[tuple[int, int, int]]) -> Path:
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette([channel for color in colors for channel in color])
    picture.save(path)
    return path


def textured(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(suffix, mode) for suffix in (".png", ".tif") for mode in ("L", "LA", "RGB", "RGBA", "P")]
    + [(".bmp", mode) for mode in ("L", "RGB", "RGBA", "P")],
)
def test_grey_alpha_and_palette_become_the_same_rgb(suffix: str, mode: str, tmp_path: Path) -> None:
    image = photo.read_photo(save(tmp_path / f"a{suffix}", GREY, mode))
    assert image.shape == (3, 1, 2, 3) and image.dtype == np.uint8
    assert all(np.array_equal(channel[0], GREY) for channel in image)


def test_colours_keep_their_channel_and_alpha_is_dropped(tmp_path: Path) -> None:
    transparent = np.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], np.uint8)
    assert photo.read_photo(save(tmp_path / "a.png", transparent))[:, 0, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_one_bit_photo_becomes_black_and_white(tmp_path: Path) -> None:
    assert photo.read_photo(save(tmp_path / "a.png", GREY > 127))[0, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_keeps_all_bits_and_full_scale_is_255(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 4095, 65535]], np.uint16)
    image = photo.read_photo(save(tmp_path / f"a{suffix}", values))
    assert image.dtype == np.float32 and image.shape == (3, 1, 1, 5)
    assert np.array_equal(np.rint(image * 257), np.broadcast_to(values, (3, 1, 1, 5)))
    assert image.max() == 255


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colours_keep_all_bits_and_their_order(channels: int, suffix: str, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 65536, (7, 9, channels)).astype(np.uint16)
    bgr = rgb[..., [2, 1, 0, 3][:channels]]
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), bgr)
    image = photo.read_photo(tmp_path / f"a{suffix}")
    assert np.array_equal(np.rint(image[:, 0] * 257).astype(np.uint16), rgb[..., :3].transpose(2, 0, 1))


@pytest.mark.parametrize("turn", range(1, 9))
def test_16_bit_colours_are_turned_upright_like_8_bit_ones(turn: int, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    tags = Image.Exif()
    tags[274] = turn
    flat = photo.read_photo(save(tmp_path / "a.png", rgb, exif=tags))
    _, content = cv2.imencode(".png", rgb[..., ::-1].astype(np.uint16) * 257)
    chunk = b"eXIf" + tags.tobytes().removeprefix(b"Exif\0\0")
    content = content.tobytes()
    size, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "b.png").write_bytes(content[:33] + size + chunk + check + content[33:])  # behind the header
    assert np.array_equal(photo.read_photo(tmp_path / "b.png"), flat)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation_6_turns_image_and_mask_alike(suffix: str, tmp_path: Path) -> None:
    values = np.zeros((32, 48), np.uint8)
    values[:16, :16] = 255  # top left as stored
    exif = Image.Exif()
    exif[274] = 6  # stored top left is the upright top right
    tag = {"tiffinfo": {274: 6}} if suffix == ".tif" else {"exif": exif}
    path = save(tmp_path / f"a{suffix}", values, **tag)
    image, mask = photo.read_photo(path), photo_labels.read_binary_mask(path)
    assert image.shape == (3, 1, 48, 32) and mask.shape == (1, 48, 32)
    assert np.array_equal(image[0] > 127, mask == 1)
    assert mask[0, :16, 16:].all() and mask.sum() == 256


@pytest.mark.parametrize("share", [0.2, 0.66, 0.97])
@pytest.mark.parametrize("suffix", photo.SUFFIXES)
def test_a_cut_file_is_refused(share: float, suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", textured())
    photo.read_photo(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="cannot be decoded"):
        photo.read_photo(path)


def test_a_changed_byte_in_a_png_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", textured())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded"):
        photo.read_photo(path)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"<html>404</html>", "cannot be decoded")])
def test_what_is_no_picture_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        photo.read_photo(tmp_path / "a.png")


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "CMYK"), ("a.tif", "CMYK"), ("a.tif", "LAB"), ("a.tif", "F")])
def test_other_colour_models_are_refused(name: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.new(mode, (8, 8)).save(path)
    with pytest.raises(DataError, match=f"mode {mode}"):
        photo.read_photo(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_several_pictures_in_one_file_are_refused(suffix: str, tmp_path: Path) -> None:
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="2 pictures"):
        photo.read_photo(tmp_path / f"a{suffix}")


def test_a_gif_under_another_name_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be decoded"):
        photo.read_photo(tmp_path / "a.png")


def test_the_first_picture_of_a_phones_multi_picture_jpeg_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(textured()), Image.fromarray(GREY).convert("RGB")
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert photo.read_photo(tmp_path / "a.jpg").shape == (3, 1, 64, 64)


def test_more_pixels_than_the_limit_are_refused_and_pillows_own_limit_is_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo, "MAX_PIXELS", 6)
    before = Image.MAX_IMAGE_PIXELS
    photo.read_photo(save(tmp_path / "a.png", GREY))
    with pytest.raises(DataError, match="8x8"):
        photo.read_photo(save(tmp_path / "b.png", np.zeros((8, 8), np.uint8)))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_png_that_announces_400_megapixels_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="20000x20000"):
        photo.read_photo(tmp_path / "a.png")


def disk(size: int = 96) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return (((rows - size / 2) ** 2 + (columns - size / 2) ** 2) < (size / 3) ** 2).astype(np.uint8)


@pytest.mark.parametrize("suffix", photo.SUFFIXES)
def test_a_black_and_white_mask_is_read_from_every_format(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"m{suffix}", disk() * 255)
    assert np.array_equal(photo_labels.read_binary_mask(path)[0], disk())


def test_binary_masks_in_grey_rgb_palette_bits_and_16_bits_are_equal(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{mode}.png", disk() * 255, mode) for mode in ("L", "LA", "RGB", "RGBA", "1")]
    files.append(palette_file(tmp_path / "p.png", disk(), [BLACK, (255, 255, 255)]))
    files.append(palette_file(tmp_path / "q.png", 1 - disk(), [(255, 255, 255), BLACK]))
    files.append(save(tmp_path / "w.png", disk().astype(np.uint16) * 65535))
    assert all(np.array_equal(photo_labels.read_binary_mask(file)[0], disk()) for file in files)


@pytest.mark.parametrize("value", [1, 38, 127])
def test_a_mask_that_would_vanish_is_refused_and_told_what_to_set(value: int, tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", disk() * np.uint8(value))
    with pytest.raises(DataError, match=rf"values 0, {value}\n[\s\S]*set data.foreground_values=\[{value}\]"):
        photo_labels.read_binary_mask(path)
    assert np.array_equal(photo_labels.read_binary_mask(path, (value,))[0], disk())


@pytest.mark.parametrize("value", [0, 255])
def test_an_all_black_and_an_all_white_mask_are_legal(value: int, tmp_path: Path) -> None:
    mask = photo_labels.read_binary_mask(save(tmp_path / "m.png", np.full((4, 4), value, np.uint8)))
    assert mask.shape == (1, 4, 4) and np.unique(mask).tolist() == [value // 255]


@pytest.mark.parametrize("codes", [(0, 1, 255), (0, 128, 255), (0, 1, 2)])
def test_lossless_codes_are_refused_unless_declared(codes: tuple[int, ...], tmp_path: Path) -> None:
    values = np.array([codes * 4], np.uint8)
    path = save(tmp_path / "m.png", values)
    with pytest.raises(DataError, match="set data"):
        photo_labels.read_binary_mask(path)
    assert photo_labels.read_binary_mask(path, codes[1:]).tolist() == [[[0, 1, 1] * 4]]


def test_a_photo_given_as_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither black nor white"):
        photo_labels.read_binary_mask(save(tmp_path / "m.jpg", textured()))


def test_declared_values_are_exact_and_others_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 1, 2, 2, 9]], np.uint8))
    with pytest.raises(DataError, match=r"m\.png[\s\S]*9 \(1 pixels\)"):
        photo_labels.read_binary_mask(path, (1, 2))
    assert photo_labels.read_binary_mask(path, (1, 2, 9)).tolist() == [[[0, 1, 1, 1, 1]]]


def test_black_can_be_the_foreground(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 255]], np.uint8))
    assert photo_labels.read_binary_mask(path, (0,)).tolist() == [[[1, 0]]]


@pytest.mark.parametrize("reader", ["rgb", "rgba", "palette"])
def test_colour_masks_give_the_same_classes_however_they_are_stored(reader: str, tmp_path: Path) -> None:
    classes = np.array([[2, 0, 1], [1, 1, 2]], np.uint8)
    colors = [BLUE, BLACK, RED]
    path = tmp_path / "m.png"
    if reader == "palette":
        palette_file(path, 2 - classes, colors[::-1])  # other indices, same colours
    else:
        save(path, np.array(colors, np.uint8)[classes], reader.upper())
    assert np.array_equal(photo_labels.read_color_mask(path, {BLUE: 0, BLACK: 1, RED: 2})[0], classes)
    assert np.array_equal(photo_labels.read_color_mask(path, {RED: 255, BLUE: 0, BLACK: 0})[0], classes // 2 * 255)


def test_unknown_colours_are_named_with_their_counts(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[RED, BLUE, BLUE, BLACK]], np.uint8))
    with pytest.raises(DataError, match=r"m\.png[\s\S]*#0000C8 \(2 pixels\), #C80000 \(1 pixels\)"):
        photo_labels.read_color_mask(path, {BLACK: 0})


def test_a_16_bit_file_is_no_colour_or_index_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 3]], np.uint16))
    for read in (photo_labels.read_index_mask, lambda file: photo_labels.read_color_mask(file, {BLACK: 0})):
        with pytest.raises(DataError, match="mode I;16"):
            read(path)


def test_an_index_mask_gives_grey_values_or_palette_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2]], np.uint8)
    for path in (save(tmp_path / "g.png", indices), palette_file(tmp_path / "p.png", indices, [RED, BLUE, BLACK])):
        assert photo_labels.read_index_mask(path).tolist() == [[[0, 1, 2]]]
    with pytest.raises(DataError, match="mode RGB"):
        photo_labels.read_index_mask(save(tmp_path / "c.png", np.zeros((2, 2, 3), np.uint8)))


def test_two_classes_are_written_as_grey_and_read_back(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.png"
    photo_labels.write_labels(disk()[None], target, mask_values=(0, 255), colors=(BLACK, RED))
    assert Image.open(target).mode == "L" and np.array_equal(photo_labels.read_binary_mask(target)[0], disk())


def test_more_classes_are_written_as_palette_whose_index_is_the_class(tmp_path: Path) -> None:
    labels = np.array([[[0, 1, 2]]], np.uint8)
    photo_labels.write_labels(labels, tmp_path / "a.png", mask_values=(0, 1, 2), colors=(BLACK, RED, BLUE))
    assert np.array_equal(photo_labels.read_index_mask(tmp_path / "a.png"), labels)
    assert np.array_equal(photo_labels.read_color_mask(tmp_path / "a.png", {BLACK: 0, RED: 1, BLUE: 2}), labels)


@pytest.mark.parametrize(("name", "top", "n_colors"), [("a.jpg", 1, 3), ("a.png", 3, 3), ("a.png", 1, 2)])
def test_labels_that_cannot_be_written_leave_no_file(name: str, top: int, n_colors: int, tmp_path: Path) -> None:
    labels = np.full((1, 2, 2), top, np.uint8)
    with pytest.raises(DataError, match="cannot be written"):
        photo_labels.write_labels(labels, tmp_path / name, mask_values=(0, 1, 2), colors=(BLACK, RED, BLUE)[:n_colors])
    assert not list(tmp_path.iterdir())


def test_an_unwritable_target_leaves_no_file_behind(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError):
        photo_labels.write_labels(disk()[None], tmp_path / "taken.png", mask_values=(0, 255), colors=(BLACK, RED))
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


@needs_dubai
@pytest.mark.parametrize("tile", ["Tile 1", "Tile 2"])
def test_dubai_masks_hold_known_colours_as_palette_and_as_rgb(tile: str) -> None:
    path = sorted((SHARED / "satellite/dubai" / tile / "masks").glob("*.png"))[0]
    assert (Image.open(path).mode == "P") == (tile == "Tile 2")
    found = np.unique(photo_labels.read_color_mask(path, DUBAI))
    assert len(found) > 1 and set(found.tolist()) <= set(DUBAI.values())


@needs_dubai
def test_the_largest_dubai_mask_with_black_is_refused_quickly_and_read_when_black_is_ignored() -> None:
    (path,) = (SHARED / "satellite/dubai/Tile 8/masks").glob("*part_003.png")
    with pytest.raises(DataError, match="#000000"):
        photo_labels.read_color_mask(path, DUBAI)
    start = time.perf_counter()
    mask = photo_labels.read_color_mask(path, {**DUBAI, BLACK: 255})
    assert (mask == 255).any() and time.perf_counter() - start < 5


@needs_crack
def test_crack_masks_are_read_without_declared_values() -> None:
    shares = [
        photo_labels.read_binary_mask(path).mean() for path in sorted((SHARED / "crack/masks").glob("*.png"))[:20]
    ]
    assert 0 < np.mean(shares) < 0.2


@needs_nuclei
def test_instance_numbers_in_16_bits_are_refused_as_a_two_class_mask() -> None:
    path = sorted((SHARED / "nuclei/instances").iterdir())[0]
    with pytest.raises(DataError, match="would lose its foreground"):
        photo_labels.read_binary_mask(path)
