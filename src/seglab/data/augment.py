"""Augmentation of image and mask together, on the normalised patch; in 3-D the affine map works in the slice plane."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Flips, rotation, scaling, brightness, contrast and noise.

    Args:
        flip: probability of a flip, per spatial axis.
        turn: probability of a quarter turn in the plane (square patches only).
        affine: probability of a rotation with scaling.
        rotate_deg: largest rotation angle, degrees.
        scale: largest relative change of size; 0.25 draws from 1/1.25 to 1.25.
        intensity: probability of a change of brightness and contrast, per channel group.
        brightness: largest shift, in standard deviations of the data.
        contrast: largest relative change of contrast.
        noise: largest standard deviation of added noise, in standard deviations of the data.

    Raises:
        ConfigError: a probability outside [0, 1] or a negative size.
    """

    flip: float = 0.5
    turn: float = 0.0
    affine: float = 0.5
    rotate_deg: float = 20.0
    scale: float = 0.25
    intensity: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.25
    noise: float = 0.1

    def __post_init__(self) -> None:
        for name in ("flip", "turn", "affine", "intensity"):
            _check_range(name, getattr(self, name), 1.0)
        for name in ("rotate_deg", "scale", "brightness", "contrast", "noise"):
            _check_range(name, getattr(self, name), math.inf)

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw one variant.

        Args:
            image: (C, *spatial) float32.
            mask: (*spatial) integers.
            rng: the only source of randomness.

        Returns:
            Image and mask of the same shapes; the mask holds no value it did not hold before.
        """
        image, mask = self._flip(image, mask, rng)
        if rng.random() < self.affine:
            angle = math.radians(rng.uniform(-self.rotate_deg, self.rotate_deg))
            zoom = math.exp(rng.uniform(-1, 1) * math.log1p(self.scale))
            image, mask = warp(image, mask, angle, zoom)
        if rng.random() < self.intensity:
            image = self._shade(image, rng)
        return image, mask

    def _flip(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        axes = [axis for axis in range(-mask.ndim, 0) if rng.random() < self.flip]
        turns = int(rng.integers(1, 4)) if rng.random() < self.turn and mask.shape[-1] == mask.shape[-2] else 0
        image, mask = torch.flip(image, axes), torch.flip(mask, axes)
        return torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))

    def _shade(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        gain = 1 + rng.uniform(-self.contrast, self.contrast)
        shift = rng.uniform(-self.brightness, self.brightness)
        sigma = rng.uniform(0, self.noise)
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        return image * gain + shift + noise * sigma


def warp(image: Tensor, mask: Tensor, angle: float, zoom: float) -> tuple[Tensor, Tensor]:
    """Rotate by `angle` (radians) and enlarge by `zoom` about the centre of the plane; borders are mirrored.

    Shape:
        image (C, *spatial), mask (*spatial) -> the same; the image bilinear, the mask by the nearest pixel.
    """
    height, width = mask.shape[-2:]
    cos, sin, aspect = math.cos(angle) / zoom, math.sin(angle) / zoom, height / width
    theta = torch.tensor([[[cos, -sin * aspect, 0.0], [sin / aspect, cos, 0.0]]])
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=False)  # (1, H, W, 2)
    planes = image.reshape(1, -1, height, width)  # (1, C * D, H, W)
    labels = mask.reshape(1, -1, height, width).float()
    image = F.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=False).view_as(image)
    labels = F.grid_sample(labels, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    return image, labels.view_as(mask).to(mask.dtype)


def _check_range(name: str, value: float, upper: float) -> None:
    if not 0 <= value <= upper:
        raise ConfigError(
            f"augment.{name} is out of range",
            given=f"{value}",
            allowed="0 to 1" if upper == 1 else "0 or more",
            fix=f"set augment.{name}=0 to switch it off",
        )
