"""Augmentation beside albumentations, torchvision v2, kornia, MONAI and batchgeneratorsv2: the same set of changes.

pip install albumentations kornia monai torchvision batchgeneratorsv2   # into an environment of its own
OMP_NUM_THREADS=1 python benchmarks/augment.py

Each way turns an 8-bit RGB photo and its mask, in the layout that it likes best, into a float32 image that is
normalised and a mask, both ready for a batch: channels first in memory too. Where a library leaves that, a copy counts
with its time. Everything happens to every sample: both flips, rotation up to 20 degrees with scaling up to 1.25,
brightness, contrast, gamma, Gaussian blur and noise, and in half of the measurements an elastic deformation whose
displacements are smooth over about 32 pixels. The image is interpolated bilinearly, the mask from the nearest pixel;
borders are mirrored where the library can. The libraries define some changes differently, so the pictures are alike,
not equal: ours takes noise from a pool unless it says fresh, and elastic displacements from control points, as MONAI
does, where the others blur noise of every pixel. kornia works on batches of eight, the others on one sample.

One thread; a round measures each way in turn by the processor time of the process, and a ratio is the median over the
rounds of those within one round. The last line is {name: {value, goal, ok}}.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from runs import finish, table

from seglab.data.augment import Augment
from seglab.spec import DataSpec, Intensity

MEAN, STD = (0.48, 0.46, 0.40), (0.22, 0.22, 0.23)
OURS, FRESH = "seglab", "seglab, fresh noise"
DEGREES, SCALE, STEP_PX, SHIFT_PX, SIGMA, NOISE, BATCH = 20.0, 1.25, 32, 8.0, 0.8, 0.02, 8
LIKE_STEP = STEP_PX / 2
"""Standard deviation in pixels of a blur that makes noise about as smooth as splines of that step."""

Photo = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Image (H, W, 3) and mask (H, W)."""

Way = Callable[[], tuple[torch.Tensor, torch.Tensor]]
"""A sample of one photo, another with each call: (3, H, W) float32 and (H, W) integers; with kornia eight of them."""


def main() -> None:
    """Measure at 256 and 512 pixels, with and without elastic deformation; print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="sides of the photo in pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each way in each round")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    figures, rows = {}, []
    for size in given.sizes:
        for elastic in (False, True):
            times = measure(size, elastic, given.rounds, given.seconds)
            ratios = {name: median(np.divide(each, times[OURS])) for name, each in times.items()}
            title = f"{size}{' elastic' if elastic else ''}"
            rows += [[title, name, f"{1e3 * median(each):.2f}", f"{ratios[name]:.1f}"] for name, each in times.items()]
            figures |= judged(title, ratios, size, elastic)
    print(table(["case", "library", "ms per sample", "of seglab's time"], rows))
    print(f"{OURS} adds noise from a pool that all samples share; the others draw it for every pixel, as {FRESH} does")
    finish(figures)


def judged(title: str, ratios: dict[str, float], size: int, elastic: bool) -> dict[str, tuple[float, str, bool]]:
    """The goals: 4 times as fast as albumentations, 1.5 at 512 without elastic; 10 times the others at 256."""
    goals = {"albumentations": 1.5 if size == 512 and not elastic else 4.0}
    if size == 256:
        goals |= dict.fromkeys(("torchvision v2", "kornia", "MONAI", "batchgeneratorsv2"), 10.0)
    return {
        f"{title}: {name} / seglab": (round(ratios[name], 2), f">= {goal:g}", bool(ratios[name] >= goal))
        for name, goal in goals.items()
    }


def measure(size: int, elastic: bool, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Processor seconds per sample of each way in each round."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    photo = image, (image[..., 0] > 128).astype(np.uint8) + (image[..., 1] > 160)
    makers = {OURS: ours, FRESH: fresh, "albumentations": albumentations, "torchvision v2": torchvision}
    makers |= {"kornia": kornia, "MONAI": monai, "batchgeneratorsv2": batchgenerators}
    ways = {name: make(photo, elastic) for name, make in makers.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        check(name, way, photo)
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(clocked(way, seconds) / (BATCH if name == "kornia" else 1))
    return times


def clocked(way: Way, seconds: float) -> float:
    """Processor time per call, the median of as many calls as fit, three at least."""
    spent: list[float] = []
    while sum(spent) < seconds or len(spent) < 3:
        start = time.process_time()
        way()
        spent.append(time.process_time() - start)
    return median(spent)


def check(name: str, way: Way, photo: Photo) -> None:
    """Refuse to measure a way that returns something else than an augmented sample."""
    image, mask = way()
    size = photo[1].shape
    plain = (torch.from_numpy(photo[0]).movedim(2, 0) / 255 - column(MEAN)) / column(STD)
    is_right = image.shape[-3:] == (3, *size) and image.dtype == torch.float32 and bool(image.isfinite().all())
    is_right &= image.is_contiguous() and mask.is_contiguous()
    is_right &= mask.shape[-2:] == size and set(mask.unique().tolist()) <= {0, 1, 2}
    changed = float((image.reshape(-1, 3, *size)[0] - plain).abs().mean())
    moved = float((mask.reshape(-1, *size)[0] != torch.from_numpy(photo[1])).float().mean())
    if not is_right or min(changed, moved) < 0.1 or abs(float(image.mean())) > 2:
        raise SystemExit(
            f"{name} returned {tuple(image.shape)} {image.dtype}, changed {changed:.3f}, moved {moved:.3f}"
        )


def ours(photo: Photo, elastic: bool, *, pool: bool = True) -> Way:
    """Seglab, from channels first as the store keeps them."""
    off = dict.fromkeys(("turn", "coarse", "color", "hu_shift", "cutout"), 0.0)
    on = dict.fromkeys(("flip", "affine", "blur", "intensity", "noise"), 1.0)
    sizes = {"rotate_deg": DEGREES, "scale": SCALE - 1, "elastic_px": SHIFT_PX, "elastic_step_px": STEP_PX}
    augment = Augment(**off, **on, **sizes, elastic=float(elastic), blur_px=SIGMA, noise_pool=pool)
    stored = np.ascontiguousarray(photo[0].transpose(2, 0, 1))[:, None], photo[1][None]
    spec, rng = photo_spec(photo[1].shape), np.random.default_rng(0)

    def way() -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = augment(*stored, spec, rng)
        return image[:, 0], mask[0]

    return way


def fresh(photo: Photo, elastic: bool) -> Way:
    """Seglab with noise that is drawn anew for each pixel."""
    return ours(photo, elastic, pool=False)


def photo_spec(size: tuple[int, ...]) -> DataSpec:
    """What a data set of such photos says of itself."""
    return DataSpec(
        name="photos",
        kind="photo",
        spatial_dims=2,
        in_channels=3,
        class_names=("background", "thing", "other"),
        class_colors=((0, 0, 0),) * 3,
        mask_values=(0, 1, 2),
        has_background=True,
        patch_size=size,
        intensity=Intensity(tuple(255 * value for value in MEAN), tuple(255 * value for value in STD)),
    )


def albumentations(photo: Photo, elastic: bool) -> Way:
    """Albumentations on (H, W, 3) uint8 until its Normalize."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as aug

    bent = aug.ElasticTransform(alpha=130, sigma=LIKE_STEP, border_mode=cv2.BORDER_REFLECT, p=1)
    chain = aug.Compose(
        [
            aug.HorizontalFlip(p=1),
            aug.VerticalFlip(p=1),
            aug.Affine(
                rotate=(-DEGREES, DEGREES),
                scale=(1 / SCALE, SCALE),
                border_mode=cv2.BORDER_REFLECT,
                keep_ratio=True,
                p=1,
            ),
            *([bent] if elastic else []),
            aug.RandomBrightnessContrast(0.2, 0.2, p=1),
            aug.RandomGamma((80, 125), p=1),
            aug.GaussianBlur(sigma_limit=(0.3, SIGMA), blur_limit=0, p=1),
            aug.GaussNoise(std_range=(0, NOISE), p=1),
            aug.Normalize(MEAN, STD, p=1),
            aug.ToTensorV2(),
        ]
    )

    def way() -> tuple[torch.Tensor, torch.Tensor]:
        result = chain(image=photo[0], mask=photo[1])
        return result["image"].contiguous(), result["mask"]

    return way


def torchvision(photo: Photo, elastic: bool) -> Way:
    """The v2 of torchvision on uint8 tensors, float32 from the noise on; its affine fills borders."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    class Gamma(v2.Transform):
        """v2 has gamma as a function only."""

        def transform(self, item: Any, params: dict[str, Any]) -> Any:
            if not isinstance(item, tv_tensors.Image):
                return item
            return v2.functional.adjust_gamma(item, float(np.random.uniform(0.8, 1.25)))

    chain = v2.Compose(
        [
            v2.RandomHorizontalFlip(1),
            v2.RandomVerticalFlip(1),
            v2.RandomAffine(DEGREES, scale=(1 / SCALE, SCALE), interpolation=v2.InterpolationMode.BILINEAR),
            *([v2.ElasticTransform(alpha=230.0, sigma=LIKE_STEP)] if elastic else []),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            Gamma(),
            v2.GaussianBlur(5, (0.3, SIGMA)),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.GaussianNoise(sigma=NOISE),
            v2.Normalize(MEAN, STD),
        ]
    )
    image, mask = torch.from_numpy(photo[0]).movedim(2, 0).contiguous(), torch.from_numpy(photo[1])
    stored = tv_tensors.Image(image), tv_tensors.Mask(mask)

    def way() -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = chain(*stored)
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)

    return way


def kornia(photo: Photo, elastic: bool) -> Way:
    """Kornia on eight photos at once, which are brought to float32 within the measured time."""
    import kornia.augmentation as aug

    kernel = (63, 63)
    chain = aug.AugmentationSequential(
        aug.RandomHorizontalFlip(p=1),
        aug.RandomVerticalFlip(p=1),
        aug.RandomAffine(DEGREES, scale=(1 / SCALE, SCALE), padding_mode="reflection", p=1),
        *([aug.RandomElasticTransform(kernel, (LIKE_STEP, LIKE_STEP), (2.0, 2.0), p=1)] if elastic else []),
        aug.RandomBrightness((0.8, 1.2), p=1),
        aug.RandomContrast((0.8, 1.2), p=1),
        aug.RandomGamma((0.8, 1.25), p=1),
        aug.RandomGaussianBlur((5, 5), (0.3, SIGMA), p=1),
        aug.RandomGaussianNoise(std=NOISE, p=1),
        aug.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input", "mask"],
        extra_args={},
    )
    images = torch.stack([torch.from_numpy(photo[0]).movedim(2, 0)] * BATCH)
    masks = torch.stack([torch.from_numpy(photo[1])[None]] * BATCH)

    @torch.inference_mode()
    def way() -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = chain(images.float() / 255, masks.float())
        return image, mask[:, 0].round().to(torch.uint8)

    return way


def monai(photo: Photo, elastic: bool) -> Way:
    """MONAI on float32 tensors; its elastic deformation takes rotation and scaling along in one grid."""
    import monai.transforms as aug

    both, place = ["image", "mask"], {"prob": 1, "rotate_range": np.radians(DEGREES), "scale_range": SCALE - 1}
    modes = {"mode": ("bilinear", "nearest"), "padding_mode": "reflection"}
    bent = aug.Rand2DElasticd(both, spacing=STEP_PX, magnitude_range=(0, SHIFT_PX), **place, **modes)
    chain = aug.Compose(
        [
            aug.RandFlipd(both, prob=1, spatial_axis=0),
            aug.RandFlipd(both, prob=1, spatial_axis=1),
            bent if elastic else aug.RandAffined(both, **place, **modes),
            aug.RandShiftIntensityd("image", offsets=0.1, prob=1),
            aug.RandScaleIntensityd("image", factors=0.2, prob=1),
            aug.RandAdjustContrastd("image", gamma=(0.8, 1.25), prob=1),
            aug.RandGaussianSmoothd("image", sigma_x=(0.3, SIGMA), sigma_y=(0.3, SIGMA), prob=1),
            aug.RandGaussianNoised("image", std=NOISE, prob=1),
            aug.NormalizeIntensityd("image", subtrahend=MEAN, divisor=STD, channel_wise=True),
        ]
    )
    return from_floats(photo, lambda image, mask: tuple(chain({"image": image, "mask": mask}).values()))


def batchgenerators(photo: Photo, elastic: bool) -> Way:
    """batchgeneratorsv2, which nnU-Net trains with, on float32 tensors; its mirroring leaves a flip to chance."""
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    place = {"p_rotation": 1, "rotation": (-np.radians(DEGREES), np.radians(DEGREES)), "p_scaling": 1}
    place |= {"scaling": (1 / SCALE, SCALE), "p_synchronize_scaling_across_axes": 1, "mode_seg": "nearest"}
    size = photo[1].shape
    place |= {"elastic_deform_scale": LIKE_STEP / size[0], "elastic_deform_magnitude": SHIFT_PX / 2}
    borders = {"padding_mode_image": "reflection", "border_mode_seg": "reflection"}
    chain = ComposeTransforms(
        [
            SpatialTransform(size, 0, False, p_elastic_deform=float(elastic), **place, **borders),
            GaussianNoiseTransform((0, NOISE**2)),
            GaussianBlurTransform((0.3, SIGMA)),
            MultiplicativeBrightnessTransform((0.8, 1.2), synchronize_channels=True),
            ContrastTransform((0.8, 1.2), preserve_range=True, synchronize_channels=True),
            GammaTransform((0.8, 1.25), 0, True, 1, 0),
            MirrorTransform((0, 1)),
        ]
    )

    def augmented(image: torch.Tensor, mask: torch.Tensor) -> Sequence[torch.Tensor]:
        result = chain(image=image, segmentation=mask)
        return (result["image"] - column(MEAN)) / column(STD), result["segmentation"]

    return from_floats(photo, augmented)


def from_floats(photo: Photo, augmented: Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]) -> Way:
    """A way whose library works on (3, H, W) float32 from 0 to 1, which is made within the measured time."""
    stored, labels = torch.from_numpy(photo[0]).movedim(2, 0).contiguous(), torch.from_numpy(photo[1])[None]

    def way() -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = augmented(stored.float() / 255, labels)
        return torch.as_tensor(image).contiguous(), torch.as_tensor(mask)[0].to(torch.uint8)

    return way


def column(values: Sequence[float]) -> torch.Tensor:
    """(C, 1, 1) float32."""
    return torch.tensor(values)[:, None, None]


if __name__ == "__main__":
    main()
