"""A picture of what the network will be shown: sixteen samples of the first epoch, with the outlines of their masks."""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from seglab.data.dataset import PatchDataset
from seglab.data.module import SegmentationData
from seglab.spec import IGNORE_INDEX, DataSpec, Intensity

SIDE = 4
"""Samples in a row and in a column."""

CELL, MARGIN = 256, 4
IGNORED = (128, 128, 128)


def preview(data: SegmentationData, file: Path) -> None:
    """Draw sixteen training samples as PNG, augmented as `data` says and the same ones as a training would see.

    Each class is outlined in its colour, what is ignored in grey. A volume shows the slice with most foreground.

    Args:
        data: loaded.
        file: to write; its folder is made.
    """
    dataset = data.train_dataloader().dataset
    if not isinstance(dataset, PatchDataset):
        raise TypeError(f"training samples come from {type(dataset).__name__}, not from a PatchDataset")
    step = CELL + MARGIN
    sheet = np.full((SIDE * step + MARGIN, SIDE * step + MARGIN, 3), 255, np.uint8)
    for number in range(SIDE * SIDE):
        epoch, index = divmod(number, len(dataset))
        sample = dataset[epoch, index]
        top, left = MARGIN + number // SIDE * step, MARGIN + number % SIDE * step
        cell = cell_of(sample["image"], sample["mask"], data.spec)
        top, left = top + (CELL - cell.shape[0]) // 2, left + (CELL - cell.shape[1]) // 2
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(file, format="PNG", optimize=True)


def cell_of(image: torch.Tensor, mask: torch.Tensor, spec: DataSpec) -> NDArray[np.uint8]:
    """One sample as a picture, its longer side `CELL` pixels: (H, W, 3).

    Args:
        image: network input, (C, H, W) or (C, D, H, W).
        mask: (H, W) or (D, H, W).
        spec: of the data.
    """
    values, labels = image.numpy(), mask.numpy().astype(np.uint8)
    if spec.spatial_dims == 3:
        foreground = (labels > 0) & (labels != IGNORE_INDEX)
        fullest = int(foreground.sum(axis=(1, 2)).argmax())
        values, labels = values[:, fullest], labels[fullest]
    scale = CELL / max(labels.shape)
    size = max(1, round(labels.shape[1] * scale)), max(1, round(labels.shape[0] * scale))
    picture: NDArray[np.uint8] = np.empty((*size[::-1], 3), np.uint8)
    cv2.resize(shown(values, spec), size, picture, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    outlines = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    for label, color in [*enumerate(spec.class_colors), (IGNORE_INDEX, IGNORED)]:
        if label > 0 or not spec.has_background:
            contours, _ = cv2.findContours((outlines == label).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, color, 1)
    return picture


def shown(values: NDArray[np.float32], spec: DataSpec) -> NDArray[np.uint8]:
    """Network input as it was stored: three channels in colour, bands 3, 2, 1 of rasters, else grey; (H, W, 3).

    Args:
        values: (C, H, W); of stacked slices the middle one is shown.
        spec: of the data.
    """
    n_bands = spec.in_channels // spec.n_slices
    first = spec.n_slices // 2 * n_bands
    bands = [0, 1, 2] if n_bands == 3 else [2, 1, 0] if n_bands > 3 else [0, 0, 0]
    mean, std = (np.array(numbers)[bands, None, None] for numbers in (spec.intensity.mean, spec.intensity.std))
    low, high = black_and_white(spec.intensity, bands, spec.kind)
    stored = values[first : first + n_bands][bands] * std + mean
    scaled = np.clip((stored - low) / (high - low), 0, 1) * 255
    return np.ascontiguousarray(scaled.transpose(1, 2, 0).astype(np.uint8))


def black_and_white(
    intensity: Intensity, bands: list[int], kind: str
) -> tuple[NDArray[np.float64] | float, NDArray[np.float64] | float]:
    """Stored values that are shown black and white, the same for all samples, so that brightness can be compared."""
    if intensity.low is not None and intensity.high is not None:
        return intensity.low, intensity.high
    if kind == "photo":
        return 0.0, 255.0
    mean, reach = (np.array(numbers)[bands, None, None] for numbers in (intensity.mean, intensity.std))
    return mean - 2 * reach, mean + 2 * reach
