"""A phantom of crack photos: masonry, plaster and asphalt with cracks, and dark lines that are none."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglab.data.phantoms.cracks_lines import draw_crack, draw_wire
from seglab.data.phantoms.cracks_texture import draw_light, draw_surface
from seglab.data.phantoms.fields import BoolArray, FloatArray, smooth_noise

_PATCH_PX = 192
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_EVERY_WITHOUT_CRACK = 10  # patches; at most one of a photo, in varying corners

_README = """Synthetic photos, drawn by seglab.
images/NAME.png: RGB. masks/NAME.png: grey, 255 = crack. groups.csv: which patches come from one photo.
"""


def write(folder: Path, *, seed: int = 0, n_photos: int = 24) -> None:
    """Write ``images/*.png`` (RGB, 192x192), ``masks/*.png`` (0 or 255 = crack) and ``groups.csv`` (file, group).

    Every photo gives four patches, which share surface, colour and light; every tenth patch has no crack. A photo
    depends on the seed and its number only.

    Args:
        folder: existing or new folder to write into.
        seed: the same seed gives the same arrays in every process.
        n_photos: number of photos, at least 1.

    Raises:
        OSError: when the folder cannot be made or written.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    rows = ["file,group"]
    for number in range(n_photos):
        names = _write_photo(folder, np.random.default_rng([seed, number]), number)
        rows += [f"{name},photo_{number:02d}" for name in names]
    (folder / "groups.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_photo(folder: Path, rng: np.random.Generator, number: int) -> list[str]:
    size = 2 * _PATCH_PX
    surface = draw_surface(rng, size, number)
    light = draw_light(rng, size)
    depth = rng.uniform(0.42, 0.65)
    names = []
    for corner, (row, column) in enumerate(_CORNERS):
        window = (slice(row * _PATCH_PX, (row + 1) * _PATCH_PX), slice(column * _PATCH_PX, (column + 1) * _PATCH_PX))
        cracked = (number * len(_CORNERS) + corner) % _EVERY_WITHOUT_CRACK != 3
        image, mask = _draw_patch(rng, surface[window], light[window], depth if cracked else 0.0)
        names.append(f"photo_{number:02d}_{corner}.png")
        Image.fromarray(image).save(folder / "images" / names[-1])
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / names[-1])
    return names


def _draw_patch(
    rng: np.random.Generator, surface: FloatArray, light: FloatArray, depth: float
) -> tuple[NDArray[np.uint8], BoolArray]:
    coverage, mask = draw_crack(rng, _PATCH_PX)
    if depth == 0.0:
        mask = np.zeros_like(mask)
    uneven = 1 + 0.12 * smooth_noise(rng, coverage.shape, 4)
    colour = surface * (1 - np.clip(depth * uneven, 0, 0.9) * coverage)[..., None]
    if rng.random() < 0.4:
        colour = colour * (1 - rng.uniform(0.4, 0.75) * draw_wire(rng, _PATCH_PX))[..., None]
    sensor = 0.016 * rng.standard_normal(colour.shape)
    photo = colour * light[..., None] + sensor
    return np.rint(255 * np.clip(photo, 0, 1)).astype(np.uint8), mask
