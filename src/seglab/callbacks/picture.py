"""Pictures of predictions: input, truth, prediction and errors side by side, one row per case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seglab.spec import IGNORE_INDEX, DataSpec

COLUMNS = ("input", "truth", "prediction", "errors")
HIT, EXTRA, MISSED = (60, 180, 75), (230, 60, 50), (65, 120, 240)
ERRORS = {0: "right or ignored", 1: "hit (TP)", 2: "extra (FP)", 3: "missed (FN)"}
LEGEND = "errors: green = hit, red = predicted but not there, blue = missed"
MARGIN, CELL = 6, 320


@dataclass(frozen=True)
class Example:
    """One case, or one slice of it, to be shown.

    Args:
        case: name.
        image: (C, H, W) network input.
        mask: (H, W) true labels.
        pred: (H, W) predicted labels.
        z: number of the slice in its case; None for a case of one.
    """

    case: str
    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    pred: NDArray[np.uint8]
    z: int | None = None


def draw(examples: Sequence[Example], spec: DataSpec) -> Image.Image:
    """Draw one row per example with a header and a legend."""
    font = ImageFont.load_default(14)
    row_height = CELL + 2 * MARGIN + 16
    size = (len(COLUMNS) * (CELL + MARGIN) + MARGIN, 28 + len(examples) * row_height + 24)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        pen.text((MARGIN + column * (CELL + MARGIN), 6), title, fill="black", font=font)
    for row, example in enumerate(examples):
        top = 28 + row * row_height
        for column, cell in enumerate(cells(example, spec)):
            sheet.paste(_fitted(cell), (MARGIN + column * (CELL + MARGIN), top))
        pen.text((MARGIN, top + CELL + 2), example.case, fill="black", font=font)
    classes = ", ".join(spec.class_names[1 if spec.has_background else 0 :])
    pen.text((MARGIN, size[1] - 20), f"{LEGEND}   classes: {classes}", fill="black", font=font)
    return sheet


def cells(example: Example, spec: DataSpec) -> list[NDArray[np.uint8]]:
    """The four pictures of an example, each (H, W, 3) uint8."""
    image = to_rgb(example.image, spec)
    truth, pred = (paint(image, labels, spec) for labels in (example.mask, example.pred))
    return [image, truth, pred, errors(image, example, spec)]


def to_rgb(image: NDArray[np.float32], spec: DataSpec) -> NDArray[np.uint8]:
    """Show network input: photos and rasters in colour, volumes as the grey middle slice."""
    n_bands = spec.in_channels // spec.n_slices
    first = (spec.n_slices // 2) * n_bands if len(image) == spec.in_channels else 0  # a whole case has no neighbours
    middle = image[first : first + n_bands]
    stored = middle * np.array(spec.intensity.std[:n_bands])[:, None, None]
    stored = stored + np.array(spec.intensity.mean[:n_bands])[:, None, None]
    bands = stored[:3] if n_bands == 3 else stored[2::-1] if n_bands > 3 else np.repeat(stored[:1], 3, axis=0)
    low, high = _shown_range(bands, spec)
    scaled = np.clip((bands - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.ascontiguousarray(scaled.transpose(1, 2, 0).astype(np.uint8))


def _shown_range(bands: NDArray[np.float64], spec: DataSpec) -> tuple[float, float]:
    """Black and white point: the HU window, 0 to 255 for photos, else the darkest and brightest percent."""
    if spec.intensity.low is not None and spec.intensity.high is not None:
        return spec.intensity.low, spec.intensity.high
    if spec.kind == "photo":
        return 0.0, 255.0
    return float(np.percentile(bands, 1)), float(np.percentile(bands, 99))


def paint(image: NDArray[np.uint8], labels: NDArray[np.uint8], spec: DataSpec) -> NDArray[np.uint8]:
    """Lay the class colours over the picture; background and ignored pixels stay as they are."""
    painted = image.copy()
    for index in range(1 if spec.has_background else 0, spec.num_classes):
        _blend(painted, labels == index, spec.class_colors[index])
    return painted


def errors(image: NDArray[np.uint8], example: Example, spec: DataSpec) -> NDArray[np.uint8]:
    """Hits, extra and missed pixels; a confusion of two foreground classes counts as extra."""
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    found = error_labels(example, spec)
    for value, color in enumerate((HIT, EXTRA, MISSED), start=1):
        _blend(grey, found == value, color, 0.85)
    return grey


def error_labels(example: Example, spec: DataSpec) -> NDArray[np.uint8]:
    """(H, W) labels as in ERRORS; a confusion of two foreground classes counts as extra."""
    counted = example.mask != IGNORE_INDEX
    floor = 0 if spec.has_background else -1
    true, pred = example.mask.astype(int), example.pred.astype(int)
    found = np.zeros(true.shape, np.uint8)
    found[counted & (true == pred) & (true > floor)] = 1
    found[counted & (true != pred) & (true > floor)] = 3
    found[counted & (true != pred) & (pred > floor)] = 2
    return found


def mean_dice(example: Example, spec: DataSpec) -> float:
    """Mean Dice of what is shown over its foreground classes; NaN where there are none."""
    counted = example.mask != IGNORE_INDEX
    values = []
    for index in range(1 if spec.has_background else 0, spec.num_classes):
        true, pred = (counted & (labels == index) for labels in (example.mask, example.pred))
        if both := int(true.sum() + pred.sum()):
            values.append(2 * int((true & pred).sum()) / both)
    return sum(values) / len(values) if values else float("nan")


def _fitted(cell: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(cell)
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)


def _blend(
    picture: NDArray[np.uint8], where: NDArray[np.bool_], color: tuple[int, int, int], opacity: float = 0.6
) -> None:
    picture[where] = ((1 - opacity) * picture[where] + opacity * np.array(color)).astype(np.uint8)
