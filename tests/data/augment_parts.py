"""What the tests of augmentation share: specs of each kind, an augmentation without anything, and labelled samples."""

from typing import Any

import numpy as np

from seglab.data.augment import CHANCES, Augment
from seglab.spec import DataSpec, Intensity

PHOTO = Intensity((120.0, 110.0, 100.0), (50.0, 45.0, 60.0))
CT = Intensity((20.0,), (90.0,), -200.0, 250.0)
BANDS = Intensity((900.0, 1100.0, 700.0, 2500.0, 40.0), (300.0, 250.0, 200.0, 900.0, 7.0))


def only(**chosen: Any) -> Augment:
    """Nothing but what is named."""
    return Augment(**dict.fromkeys(CHANCES, 0.0) | chosen)


def spec_of(kind: str, intensity: Intensity, dims: int = 2, n_slices: int = 1) -> DataSpec:
    return DataSpec(
        name=kind,
        kind=kind,  # type: ignore[arg-type]
        spatial_dims=dims,  # type: ignore[arg-type]
        in_channels=len(intensity.mean) * n_slices,
        class_names=("background", "thing", "part"),
        class_colors=((0, 0, 0), (255, 0, 0), (0, 255, 0)),
        mask_values=(0, 1, 2),
        has_background=True,
        patch_size=(32,) * dims,
        intensity=intensity,
        n_slices=n_slices,
    )


SPECS = {
    "photo": spec_of("photo", PHOTO),
    "raster": spec_of("raster", BANDS),
    "ct slice": spec_of("volume", CT),
    "ct stack": spec_of("volume", CT, n_slices=5),
    "ct volume": spec_of("volume", CT, dims=3),
}
DTYPES = {"photo": np.uint8, "raster": np.uint16}


def sample(name: str, height: int = 40, width: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray, DataSpec]:
    """Stored values of a kind, read-only as a mapped file is, with a mask of 0, 1, 2 and 255."""
    spec, rng = SPECS[name], np.random.default_rng(seed)
    depth = 6 if spec.spatial_dims == 3 else 1
    low, high = {"photo": (0, 256), "raster": (0, 3000)}.get(name, (-201, 252))
    shape = (len(spec.intensity.mean), depth if spec.spatial_dims == 3 else spec.n_slices, height, width)
    image = rng.integers(low, high, shape).astype(DTYPES.get(name, np.int16))
    mask = np.zeros((depth, height, width), np.uint8)
    mask[:, 3:13, 5:11], mask[:, 5:8, 6:8], mask[:, -4:] = 1, 2, 255
    for array in (image, mask):
        array.setflags(write=False)
    return image, mask, spec


def painted(mask: np.ndarray, name: str, value: int = 100) -> np.ndarray:
    """An image that shows where the mask is 1, in the type of its kind, in all channels."""
    channels = len(SPECS[name].intensity.mean)
    return np.repeat((mask == 1)[None] * value, channels, axis=0).astype(DTYPES.get(name, np.int16))
