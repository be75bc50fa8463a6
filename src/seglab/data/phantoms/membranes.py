"""A phantom of serial electron microscopy: cells with dark membranes that drift from slice to slice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from seglab.data.phantoms.fields import BoolArray, FloatArray, smooth_noise

_SIDE_PX = 256
_N_CELLS = 60
_DRIFT_PX = 2.5  # of a cell from one slice to the next
_HALF_WIDTH_PX = (1.0, 2.5)  # of a membrane; it varies over the slice


def write(folder: Path, *, seed: int = 0, n_slices: int = 20) -> None:
    """Write ``image/N.png`` (grey, 256x256) and ``label/N.png`` (0 membrane, 255 cell) of one stack.

    Args:
        folder: existing or new folder to write into.
        seed: the same seed gives the same arrays in every process.
        n_slices: slices of the stack, at least 1.

    Raises:
        OSError: when the folder cannot be made or written.
    """
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-0.1 * _SIDE_PX, 1.1 * _SIDE_PX, (_N_CELLS, 2))
    for number in range(n_slices):
        image, is_cell = _draw_slice(rng, centres)
        Image.fromarray(image).save(folder / "image" / f"{number}.png")
        Image.fromarray(is_cell.astype(np.uint8) * 255).save(folder / "label" / f"{number}.png")
        centres += rng.normal(0, _DRIFT_PX, centres.shape)


def _draw_slice(rng: np.random.Generator, centres: NDArray[np.float64]) -> tuple[NDArray[np.uint8], BoolArray]:
    shape = (_SIDE_PX, _SIDE_PX)
    bent = [axis + 3.0 * smooth_noise(rng, shape, 12) for axis in np.indices(shape)]  # so that no wall is straight
    pixels: FloatArray = np.stack(bent, axis=-1)  # (H, W, 2)
    distances, _ = cKDTree(centres).query(pixels, k=2)
    to_wall = (distances[..., 1] - distances[..., 0]) / 2
    thin, thick = _HALF_WIDTH_PX
    half_width = np.clip((thin + thick) / 2 + smooth_noise(rng, shape, 20), thin, thick)
    is_cell = to_wall > half_width
    bright = 0.68 + 0.05 * smooth_noise(rng, shape, 2) - 0.45 * np.clip(half_width + 1 - to_wall, 0, 1)
    organelles = (smooth_noise(rng, shape, 4) > 2.0) & (to_wall > half_width + 3)  # dark, and no membrane
    bright = np.where(organelles, 0.38, bright) + 0.05 * rng.standard_normal(shape)
    return np.rint(255 * np.clip(bright, 0, 1)).astype(np.uint8), is_cell
