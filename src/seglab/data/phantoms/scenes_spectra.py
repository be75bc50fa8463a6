"""From the map of a scene phantom to reflectance: materials that overlap in colour between classes."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglab.data.phantoms.fields import FloatArray, smooth_noise
from seglab.data.phantoms.scenes_layout import BUILDING, FIELD, OTHER, ROAD, WATER, Layout

# Reflectance x 10000 in blue, green, red, nir; first the share of parcels made of it.
_MATERIALS: dict[int, tuple[tuple[float, tuple[int, int, int, int]], ...]] = {
    OTHER: (
        (0.45, (900, 1200, 1600, 2300)),  # bare soil
        (0.20, (1300, 1700, 2200, 2800)),  # dry, pale soil
        (0.25, (600, 850, 950, 1900)),  # heath and scrub
        (0.10, (900, 1000, 1100, 1400)),  # gravel, as grey as asphalt
    ),
    FIELD: (
        (0.40, (350, 750, 400, 4200)),  # cereal in leaf
        (0.25, (450, 900, 600, 3300)),  # grass
        (0.15, (550, 1200, 900, 3800)),  # rape in flower
        (0.12, (600, 850, 900, 2400)),  # young crop, soil shows through
        (0.08, (480, 620, 480, 1000)),  # flooded crop, dark as water
    ),
    WATER: (
        (0.70, (600, 600, 400, 250)),  # clear
        (0.30, (750, 950, 800, 600)),  # turbid
    ),
    BUILDING: (
        (0.45, (1000, 1150, 1900, 2500)),  # tiles, as red as soil
        (0.30, (1500, 1550, 1600, 1800)),  # concrete
        (0.10, (2800, 2900, 3000, 3200)),  # bright metal
        (0.15, (700, 700, 750, 900)),  # dark felt
    ),
    ROAD: (
        (0.65, (1000, 1050, 1100, 1350)),  # asphalt
        (0.35, (1150, 1450, 1800, 2400)),  # gravel track, as brown as soil
    ),
}
_SHADOW = 0.45  # of the light, left by the sky
_NOISE = 45.0


def draw_reflectance(rng: np.random.Generator, layout: Layout) -> NDArray[np.uint16]:
    """Draw the four bands of a scene.

    Args:
        rng: source of randomness.
        layout: what lies where.

    Returns:
        Reflectance x 10000 in blue, green, red, nir, (4, H, W), never 0, which is left to nodata.
    """
    shape = layout.labels.shape
    bands = _materials(rng, layout)
    bands *= 1 + 0.07 * smooth_noise(rng, shape, 3) + 0.05 * smooth_noise(rng, shape, 25)
    bands *= np.where(layout.shadow, _SHADOW, 1.0)
    bands = ndimage.gaussian_filter(bands, (0, 0.5, 0.5))  # a pixel sees its neighbours
    light = rng.uniform(0.8, 1.2)
    haze = rng.uniform(0, 250) * np.reshape((1.0, 0.7, 0.5, 0.2), (4, 1, 1))
    noise = _NOISE * rng.standard_normal(bands.shape)
    return np.asarray(np.clip(np.rint(bands * light + haze + noise), 1, 10_000), dtype=np.uint16)


def _materials(rng: np.random.Generator, layout: Layout) -> FloatArray:
    _, compact = np.unique(layout.parcel, return_inverse=True)
    compact = compact.reshape(layout.parcel.shape)
    n_parcels = int(compact.max()) + 1
    bands = np.zeros((4, *layout.labels.shape))
    for label, materials in _MATERIALS.items():
        shares = [share for share, _ in materials]
        spectra = np.array([spectrum for _, spectrum in materials], dtype=float)
        chosen = spectra[rng.choice(len(materials), size=n_parcels, p=shares)]
        chosen *= rng.uniform(0.85, 1.15, size=(n_parcels, 1)) * rng.uniform(0.95, 1.05, size=(n_parcels, 4))
        where = layout.labels == label
        bands[:, where] = chosen[compact[where]].T
    return bands.astype(np.float32)
