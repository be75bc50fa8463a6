"""Photos that must be refused or repaired: a wall with a crack, its mask, and their spoilers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from entry import HTML, Bad, Change, Odd, cut, flips, holds, is_folder, is_link, lacks
from PIL import Image

PHOTO, MASK = "images/wall.png", "masks/wall.png"
QUARTER_TURN = 6


def crack() -> tuple[np.ndarray, np.ndarray]:
    """Grey values with texture, and where the crack is."""
    mask = np.zeros((24, 32), np.uint8)
    mask[:, 8:16], mask[4:8, 16:28] = 255, 255
    grey = np.random.default_rng(0).integers(90, 200, mask.shape, dtype=np.uint8)
    grey[mask > 0] //= 3
    return grey, mask


def save(root: Path, name: str, picture: Any, **options: Any) -> None:
    """Write an array or a picture."""
    (root / name).parent.mkdir(exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(root / name, **options)


def colour() -> np.ndarray:
    """The wall with three different channels."""
    return np.stack([crack()[0], crack()[0] // 2, 255 - crack()[0]], axis=-1)


def wall(root: Path) -> None:
    """The good twin in colour."""
    save(root, PHOTO, colour())
    save(root, MASK, crack()[1])


def grey_wall(root: Path) -> None:
    """The good twin whose three channels are equal."""
    save(root, PHOTO, Image.fromarray(crack()[0]).convert("RGB"))
    save(root, MASK, crack()[1])


def wall_as(suffix: str, **options: Any) -> Change:
    """The good twin in another format."""

    def twin(root: Path) -> None:
        save(root, f"images/wall{suffix}", colour(), **options)
        save(root, MASK, crack()[1])

    return twin


def listed(root: Path) -> None:
    """The good twin with groups.csv."""
    wall(root)
    save(root, "images/other.png", colour())
    save(root, "masks/other.png", crack()[1])
    (root / "groups.csv").write_text("file,photo\nwall.png,a\nother.png,b\n")


def photo(change: Callable[[], Any], **options: Any) -> Change:
    """Write another photo."""
    return lambda root: save(root, PHOTO, change(), **options)


def mask(change: Callable[[np.ndarray], Any], **options: Any) -> Change:
    """Write another mask."""
    return lambda root: save(root, MASK, change(crack()[1]), **options)


def exif(orientation: int) -> dict[str, Any]:
    """Options that write an orientation."""
    tags = Image.Exif()
    tags[274] = orientation
    return {"exif": tags}


def turned(root: Path) -> None:
    """Store both as a camera does that was held upright: pixels turned, a tag tells how to turn them back."""
    save(root, PHOTO, np.rot90(colour()).copy(), **exif(QUARTER_TURN))
    save(root, MASK, np.rot90(crack()[1]).copy(), **exif(QUARTER_TURN))


def turned_photo(root: Path) -> None:
    """Tell that the photo has to be turned, which the mask does not."""
    save(root, PHOTO, colour(), **exif(QUARTER_TURN))


def palette(colors: list[tuple[int, int, int]]) -> Callable[[np.ndarray], Image.Image]:
    """The mask as indices into colours."""

    def change(array: np.ndarray) -> Image.Image:
        picture = Image.fromarray((array > 0).astype(np.uint8))
        picture.putpalette([channel for color in colors for channel in color])
        return picture

    return change


def several(format_name: str) -> Change:
    """Write two pictures into one file."""

    def change(root: Path) -> None:
        second = [Image.fromarray(255 - colour())]
        Image.fromarray(colour()).save(root / PHOTO, format=format_name, save_all=True, append_images=second)

    return change


def huge(root: Path) -> None:
    """Announce 400 megapixels in a small file."""
    Image.new("1", (20000, 20000)).save(root / PHOTO, optimize=True)


def deep(root: Path) -> None:
    """Store the grey photo with 16 bits."""
    save(root, PHOTO, crack()[0].astype(np.uint16) * 257)


def deep_colour(root: Path) -> None:
    """Store the colour photo with 16 bits a channel."""
    cv2.imwrite(str(root / PHOTO), colour()[..., ::-1].astype(np.uint16) * 257)


def rows(*lines: str) -> Change:
    """Write other rows into groups.csv."""
    return holds("groups.csv", "\n".join(("file,photo", *lines)).encode())


def link_to_text(root: Path) -> None:
    """Link the name of a photo to a web page."""
    (root / "page").write_bytes(HTML)
    is_link(PHOTO, str(root / "page"))(root)


def soft(array: np.ndarray) -> np.ndarray:
    """The mask as a probability."""
    return cv2.GaussianBlur(array, (0, 0), 6)


def spots(array: np.ndarray) -> np.ndarray:
    """The mask with a third value."""
    array[0, 0] = 128
    return array


PHOTOS = [
    Bad("png cut to 99 %", wall, cut(PHOTO, 0.99), PHOTO, "cannot be decoded"),
    Bad("png cut to 60 %", wall, cut(PHOTO, 0.6), PHOTO, "cannot be decoded"),
    Bad("jpg cut to two thirds", wall_as(".jpg"), cut("images/wall.jpg", 0.66), "images/wall.jpg", "cannot be decoded"),
    Bad("bmp cut", wall_as(".bmp"), cut("images/wall.bmp", 0.9), "images/wall.bmp", "cannot be decoded"),
    Bad("tif cut", wall_as(".tif"), cut("images/wall.tif", 0.9), "images/wall.tif", "cannot be decoded"),
    Bad("mask png cut", wall, cut(MASK, 0.8), MASK, "cannot be decoded"),
    Bad("byte flipped in png", wall, flips(PHOTO, 0.5), PHOTO, "cannot be decoded"),
    Bad("zero bytes in a photo", wall, holds(PHOTO, b""), PHOTO, r"empty \(0 bytes\)"),
    Bad("web page under the name of a photo", wall, holds(PHOTO, HTML), PHOTO, "cannot be decoded"),
    Bad("folder under the name of a photo", wall, is_folder(PHOTO), PHOTO, "folder, not a file"),
    Bad("photo is a link to nowhere", wall, is_link(PHOTO, "gone"), PHOTO, "does not exist"),
    Bad("photo is a link to a text", wall, link_to_text, PHOTO, "cannot be decoded"),
    Bad(
        "gif under the name of a png", wall, photo(lambda: Image.fromarray(crack()[0]), format="GIF"), PHOTO, "decoded"
    ),
    Bad("webp under the name of a png", wall, photo(colour, format="WEBP"), PHOTO, "cannot be decoded"),
    Bad("animated png", wall, several("PNG"), PHOTO, "more than one picture"),
    Bad("tiff of two pages", wall, several("TIFF"), PHOTO, "more than one picture"),
    Bad(
        "CMYK",
        wall_as(".jpg"),
        lambda root: save(root, "images/wall.jpg", Image.new("CMYK", (32, 24))),
        "wall.jpg",
        "mode CMYK",
    ),
    Bad(
        "floating point tiff",
        wall_as(".tif"),
        lambda root: save(root, "images/wall.tif", Image.new("F", (32, 24))),
        "wall.tif",
        "mode F",
    ),
    Bad("400 megapixels in 50 KB", wall, huge, PHOTO, "too many pixels"),
    Bad("photo turned by EXIF, mask not", wall, turned_photo, MASK, "another size"),
    Bad("mask of another size", wall, mask(lambda a: a[:-1]), MASK, "another size"),
    Bad("mask of half the size", wall, mask(lambda a: a[::2, ::2].copy()), MASK, "another size"),
    Bad("mask of zeros and ones", wall, mask(lambda a: a // 255), MASK, "lose its foreground"),
    Bad("mask of three codes", wall, mask(spots), MASK, "look like codes"),
    Bad("dark palette mask", wall, mask(palette([(0, 0, 0), (128, 0, 0)])), MASK, "lose its foreground"),
    Bad("probabilities as a mask", wall, mask(soft), MASK, "neither black nor white"),
    Bad("photo as a mask", wall, mask(lambda a: crack()[0]), MASK, "black nor white|lose its"),
    Bad("16-bit mask of zeros and ones", wall, mask(lambda a: (a // 255).astype("u2")), MASK, "lose its foreground"),
    Bad("photo without mask", wall, lacks(MASK), PHOTO, "1 images without mask"),
    Bad("mask without photo", listed, lacks(PHOTO), MASK, "has no image"),
    Bad("no photo at all", wall, lacks(PHOTO), "images", "no photo"),
    Bad(
        "two photos of one name",
        wall,
        lambda root: save(root, "images/wall.jpg", colour()),
        "images/wall.jpg",
        "more than one file",
    ),
    Bad("photo that groups.csv leaves out", listed, rows("wall.png,a"), "other.png", "gives no group"),
    Bad("photo in two groups", listed, rows("wall.png,a", "wall.png,b", "other.png,b"), "wall.png", "two groups"),
    Bad(
        "groups.csv that is no text", listed, holds("groups.csv", b"\xff\xfe\x00w\x00a"), "groups.csv", "cannot be read"
    ),
    Odd("both turned by EXIF", wall, turned),
    Odd("grey photo", grey_wall, photo(lambda: crack()[0])),
    Odd("grey photo with alpha", grey_wall, photo(lambda: Image.fromarray(crack()[0]).convert("LA"))),
    Odd("photo with alpha", wall, photo(lambda: np.dstack([colour(), 0 * crack()[0] + 7]))),
    Odd("palette photo", grey_wall, photo(lambda: Image.fromarray(crack()[0]).convert("P"))),
    Odd("16-bit grey photo", grey_wall, deep),
    Odd("16-bit colour photo", wall, deep_colour),
    Odd("jpg mask", wall, mask(lambda a: a, format="JPEG", quality=75)),
    Odd("palette mask in black and white", wall, mask(palette([(0, 0, 0), (255, 255, 255)]))),
    Odd("one-bit mask", wall, mask(lambda a: a > 0)),
    Odd("mask in RGBA", wall, mask(lambda a: Image.fromarray(a).convert("RGBA"))),
]
"""Each with what the report must say."""
