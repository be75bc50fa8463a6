"""Electron microscopy of neural tissue (ISBI-2012): a stack of slices with membranes, split in blocks of the stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.dealing import Held
from seglab.data.formats import photo
from seglab.data.phantoms import membranes
from seglab.data.photos import PhotoData
from seglab.data.plan import STEP
from seglab.data.splits import Splits, block_splits
from seglab.errors import ConfigError
from seglab.spec import Case, DataSpec


@dataclass(kw_only=True, eq=False, repr=False)
class EMData(PhotoData):
    """Electron microscopy slices: image/ and label/ of the same numbers, white is cell; split in blocks of the stack.

    Neighbouring slices show the same cells, so the last ones are the test, those before them the validation, and the
    first ones the training set.

    Args:
        size_px: length of the longer side that slices are brought to before anything else, images by area and masks by
            the nearest pixel; predictions are brought back. None keeps the size. The papers use 256.
    """

    size_px: int | None = 256

    dataset: ClassVar[str] = "em"
    image_folder = "image"
    mask_folder = "label"
    class_names = ("membrane", "cell")
    class_colors = ((0, 0, 0), (255, 255, 255))
    splits_in_blocks = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size_px is not None and self.size_px < STEP:
            raise ConfigError(
                "data.size_px is out of range",
                given=f"data.size_px={self.size_px}",
                allowed=f"null, or {STEP} pixels and more",
                fix="set data.size_px=256",
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the size."""
        return {**super().settings, "size_px": self.size_px}

    def write_phantom(self, folder: Path) -> None:
        """Cells with dark membranes that drift from slice to slice."""
        membranes.write(folder)

    def draw_splits(self, groups: Mapping[str, Held]) -> Splits:
        """Blocks of the stack in the order of the slices' numbers."""
        return block_splits(groups, val_fraction=self.val_fraction, test_fraction=self.test_fraction)

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a slice as grey values from 0 to 255: (1, 1, H, W)."""
        image = self._resized(photo.read_photo(file)[0, 0], cv2.INTER_AREA)[None, None]
        return image, np.ones(image.shape[1:], bool), (1.0, 1.0, 1.0)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read a mask: (1, H, W), 1 is cell."""
        return self._resized(super().read_mask(case)[0], cv2.INTER_NEAREST)[None]

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write a grey PNG of the slice's own size, 255 is cell."""
        height, width = photo.read_photo(like).shape[-2:]
        plane = cv2.resize(labels[0], (width, height), interpolation=cv2.INTER_NEAREST)
        return super().write_labels(plane[None].astype(np.uint8), like, target_stem, spec)

    def _resized(self, plane: NDArray[Any], how: int) -> NDArray[Any]:
        if self.size_px is None or max(plane.shape) == self.size_px:
            return plane
        height, width = (max(1, round(length * self.size_px / max(plane.shape))) for length in plane.shape)
        return cv2.resize(plane, (width, height), interpolation=how).astype(plane.dtype)
