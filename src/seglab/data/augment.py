"""Augmentation of image and mask together: what is drawn, and in which order it is applied to a stored sample.

Geometry first, as one map with one interpolation (augmentation/motion.py), then what optics and scanner do (optics.py),
then the values (values.py), then noise. 8-bit images take the same way in compiled loops (warp.py, develop.py), where
values become a table of 256 entries that normalises as well.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglab.data.augmentation.motion import SAME, Motion, linear_map, n_controls
from seglab.data.augmentation.optics import SILENCE, Noise, blur, coarsen, cut_out, draw_noise
from seglab.data.augmentation.stacks import Change
from seglab.data.augmentation.values import Shade, color_matrix, recolor
from seglab.errors import ConfigError
from seglab.spec import DataSpec

FOLDS_ABOVE = 2.05
"""Control points that move at most their distance divided by this fold nothing (Choi and Lee 2000: 2.0464 in 2-D)."""

CHANCES = ("flip", "turn", "affine", "elastic", "coarse", "blur", "intensity", "color", "hu_shift", "noise", "cutout")
SIZES = (
    *("rotate_deg", "scale", "shear_deg", "translate", "elastic_px", "blur_px"),
    *("brightness", "contrast", "gamma", "saturation", "hue_deg", "channel_gain", "shift_hu", "noise_std"),
)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation of training samples, in 2-D and 3-D; all is drawn from the generator that comes with the call.

    In 3-D the affine and elastic maps, blur and loss of resolution work in the slice plane. Borders are mirrored.

    Args:
        flip: probability of a flip, per spatial axis.
        turn: probability of a quarter turn in the plane (square patches only).
        affine: probability of rotation, scaling, shear and translation.
        rotate_deg: largest rotation angle, degrees.
        scale: largest relative change of size; 0.25 draws from 1/1.25 to 1.25.
        shear_deg: largest shear angle, degrees.
        translate: largest translation, as a share of the patch.
        elastic: probability of an elastic deformation by cubic B-splines.
        elastic_px: largest displacement of a control point along each axis, pixels.
        elastic_step_px: distance of the control points, pixels.
        coarse: probability of a loss of resolution.
        coarsest: largest factor of that loss; 2 halves the resolution.
        blur: probability of a Gaussian blur.
        blur_px: largest standard deviation of the blur, pixels.
        intensity: probability of a change of brightness, contrast and gamma.
        brightness: largest shift, in standard deviations of the data.
        contrast: largest relative change of contrast.
        gamma: largest relative change of the exponent; 0.5 draws from 1/1.5 to 1.5. It bends the range of 8 bits, of
            the HU window, or of three standard deviations about the mean, and nothing beyond.
        color: probability of a change of saturation and hue (photos with three channels) or of the gain of each
            channel (rasters); volumes have no colour.
        saturation: largest relative change of saturation.
        hue_deg: largest turn of the hue, degrees.
        channel_gain: largest relative change of a channel.
        hu_shift: probability of a shift of all values of a CT within its HU window; other data has no such window.
        shift_hu: largest shift, HU.
        noise: probability of added Gaussian noise.
        noise_std: its largest standard deviation, in standard deviations of the data.
        noise_pool: take the noise from a shared pool at random places, 10 times faster; false draws it anew.
        cutout: probability of boxes that are set to the mean of the data; the mask keeps what they hide.
        cutout_boxes: largest number of boxes.
        cutout_size: largest side of a box, as a share of the patch.

    Raises:
        ConfigError: a probability outside [0, 1], a negative size, or a deformation that would fold.
    """

    flip: float = 0.5
    turn: float = 0.0
    affine: float = 0.5
    rotate_deg: float = 20.0
    scale: float = 0.25
    shear_deg: float = 0.0
    translate: float = 0.0
    elastic: float = 0.0
    elastic_px: float = 8.0
    elastic_step_px: int = 32
    coarse: float = 0.1
    coarsest: float = 2.0
    blur: float = 0.1
    blur_px: float = 1.0
    intensity: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.25
    gamma: float = 0.25
    color: float = 0.2
    saturation: float = 0.3
    hue_deg: float = 10.0
    channel_gain: float = 0.1
    hu_shift: float = 0.2
    shift_hu: float = 20.0
    noise: float = 0.5
    noise_std: float = 0.1
    noise_pool: bool = True
    cutout: float = 0.0
    cutout_boxes: int = 4
    cutout_size: float = 0.25

    def __post_init__(self) -> None:
        for name in (*CHANCES, "cutout_size"):
            _check_range(name, getattr(self, name), 0, 1)
        for name in SIZES:
            _check_range(name, getattr(self, name), 0, math.inf)
        for name in ("coarsest", "cutout_boxes", "elastic_step_px"):
            _check_range(name, getattr(self, name), 1, math.inf)
        if self.elastic > 0 and self.elastic_px * FOLDS_ABOVE > self.elastic_step_px:
            raise ConfigError(
                "the elastic deformation would fold the image",
                given=f"augment.elastic_px={self.elastic_px} with control points each {self.elastic_step_px} pixels",
                allowed=f"at most {self.elastic_step_px / FOLDS_ABOVE:.1f} pixels",
                fix=f"set augment.elastic_step_px={math.ceil(self.elastic_px * FOLDS_ABOVE)}",
            )

    def __call__(
        self, image: NDArray[Any], mask: NDArray[np.uint8], spec: DataSpec, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one variant of a sample as it is stored.

        Args:
            image: (C, D, H, W) stored values; D are slices, in 2-D those that become channels.
            mask: (D, H, W), in 2-D of one slice.
            spec: dimensions, kind and intensity of the data.
            rng: the only source of randomness.

        Returns:
            Image (C, D, H, W) float32, normalised, and mask of the same sizes; the mask holds no value it did not hold
            before, and what was given is left as it was.
        """
        cv2.setNumThreads(0)  # the loader's processes share out the cores already
        motion, (factor, blur_px) = self._motion(mask.shape, spec, rng), self._optics(rng)
        shade, matrix = self._shade(spec, rng), self._mixing(image, spec, rng)
        noise = self._noise(image.size, rng)
        optics: list[Change] = [partial(coarsen, factor=factor)] if factor > 1 else []
        if image.dtype == np.uint8:
            from seglab.data.augmentation.develop import develop  # numba takes a moment to import

            image, labels = motion.move(image, mask, optics)
            is_early = matrix is None  # else colours are mixed between table and noise
            values = develop(image, shade.table(spec.intensity), blur_px, noise if is_early else SILENCE)
            noise = SILENCE if is_early else noise
        else:
            optics += [partial(blur, sigma=blur_px)] if blur_px else []
            image, labels = motion.move(image, mask, optics)
            values = shade(image, spec.intensity)
        if matrix is not None:
            recolor(values, matrix, spec.intensity)
        noise.add_to(values)
        if _happens(self.cutout, rng):
            n_boxes = int(rng.integers(1, self.cutout_boxes + 1))
            cut_out(values, n_boxes, self.cutout_size, rng, is_deep=spec.spatial_dims == 3)
        return torch.from_numpy(values), torch.from_numpy(labels)

    def _motion(self, shape: tuple[int, ...], spec: DataSpec, rng: np.random.Generator) -> Motion:
        height, width = shape[-2:]
        flips = tuple(_happens(self.flip, rng) for _ in range(spec.spatial_dims))
        turns = int(rng.integers(1, 4)) if height == width and _happens(self.turn, rng) else 0
        linear, shift, bend = SAME, (0.0, 0.0), None
        if _happens(self.affine, rng):
            linear = linear_map(
                angle=math.radians(_draw(self.rotate_deg, rng)),
                zoom=_ratio(self.scale, rng),
                shear=math.radians(_draw(self.shear_deg, rng)),
            )
            shift = _draw(self.translate, rng) * width, _draw(self.translate, rng) * height
        if self.elastic_px and _happens(self.elastic, rng):
            grid = [n_controls(length, self.elastic_step_px) for length in (height, width)]
            bend = rng.uniform(-self.elastic_px, self.elastic_px, (2, *grid))
        return Motion(
            size=(height, width),
            flips=(False, False, False)[spec.spatial_dims :] + flips,
            turns=turns,
            linear=linear,
            shift=shift,
            bend=bend,
            step=self.elastic_step_px,
        )

    def _optics(self, rng: np.random.Generator) -> tuple[float, float]:
        """Factor of a loss of resolution, 1 for none, and standard deviation of a blur, 0 for none."""
        factor = rng.uniform(1, self.coarsest) if self.coarsest > 1 and _happens(self.coarse, rng) else 1.0
        sigma = self.blur_px * rng.uniform(0.3, 1) if self.blur_px and _happens(self.blur, rng) else 0.0
        return factor, sigma

    def _shade(self, spec: DataSpec, rng: np.random.Generator) -> Shade:
        shifted = spec.kind == "volume" and spec.intensity.low is not None and spec.intensity.high is not None
        hu = _draw(self.shift_hu, rng) if shifted and _happens(self.hu_shift, rng) else 0.0
        gains: tuple[float, ...] = ()
        if spec.kind == "raster" and _happens(self.color, rng):
            gains = tuple(_factor(self.channel_gain, rng) for _ in spec.intensity.mean)
        if not _happens(self.intensity, rng):
            return Shade(hu=hu, gains=gains)
        gamma, contrast, shift = _ratio(self.gamma, rng), _factor(self.contrast, rng), _draw(self.brightness, rng)
        return Shade(hu=hu, gains=gains, gamma=gamma, contrast=contrast, brightness=shift)

    def _mixing(self, image: NDArray[Any], spec: DataSpec, rng: np.random.Generator) -> NDArray[np.float64] | None:
        """How the colours of a photo are mixed: 3x3."""
        if not (_photo_in_color(image, spec) and _happens(self.color, rng)):
            return None
        return color_matrix(_factor(self.saturation, rng), math.radians(_draw(self.hue_deg, rng)))

    def _noise(self, size: int, rng: np.random.Generator) -> Noise:
        if not _happens(self.noise, rng):
            return SILENCE
        return draw_noise(size, rng.uniform(0, self.noise_std), rng, from_pool=self.noise_pool)


def load_loops() -> None:
    """Compile or load the loops of 8-bit images, which takes processes that fork afterwards no second of their own."""
    from seglab.data.augmentation.develop import develop
    from seglab.data.augmentation.warp import warp

    pixel, nowhere = np.zeros((1, 1, 1), np.uint8), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    warp(pixel, pixel, (1, 1, 1, 1), nowhere)
    develop(pixel[None], np.zeros((1, 256), np.float32))


def _happens(chance: float, rng: np.random.Generator) -> bool:
    return chance > 0 and rng.random() < chance


def _draw(largest: float, rng: np.random.Generator) -> float:
    """Evenly from -largest to largest."""
    return largest * (2 * rng.random() - 1)


def _factor(largest: float, rng: np.random.Generator) -> float:
    return 1 + _draw(largest, rng)


def _ratio(largest: float, rng: np.random.Generator) -> float:
    """Evenly in the logarithm from 1 / (1 + largest) to 1 + largest."""
    return math.exp(_draw(math.log1p(largest), rng))


def _photo_in_color(image: NDArray[Any], spec: DataSpec) -> bool:
    return spec.kind == "photo" and len(image) == 3


def _check_range(name: str, value: float, lower: float, upper: float) -> None:
    if not lower <= value <= upper:
        raise ConfigError(
            f"augment.{name} is out of range",
            given=f"augment.{name}={value}",
            allowed=f"{lower} or more" if upper == math.inf else f"{lower} to {upper}",
            fix=f"set augment.{name}={lower}, which changes nothing",
        )
