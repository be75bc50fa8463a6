"""Which metrics a case is scored by: named families, chosen by the kind of data, each with the metrics it brings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.components import Mask
from seglab.errors import ConfigError
from seglab.metrics.boundary import boundary_iou
from seglab.metrics.lesions import lesions
from seglab.metrics.report import foreground
from seglab.metrics.surface import box_of_both, check_pair, diagonal, surface_distances
from seglab.metrics.thin import thin_scores
from seglab.spec import IGNORE_INDEX, Kind

FAMILIES = ("surface", "boundary", "thin", "lesions", "calibration")

DEFAULTS: Mapping[Kind, tuple[str, ...]] = {
    "volume": ("surface", "lesions", "calibration"),
    "photo": ("surface", "boundary", "thin", "calibration"),
    "raster": ("boundary", "calibration"),
}
"""What is measured of each kind of data unless others are asked for."""

TOLERANCE: Mapping[Kind, float] = {"volume": 2.0, "photo": 2.0, "raster": 2.0}
"""Of the surface Dice: mm in volumes, pixels elsewhere."""

UNIT: Mapping[Kind, str] = {"volume": "mm", "photo": "px", "raster": "px"}


@dataclass(frozen=True)
class CaseMetrics:
    """Scores of a whole case by the chosen families, for each foreground class that truth or prediction holds.

    Volumes are measured in mm. Photos and rasters are measured in pixels. Ignored pixels belong to no class. A class
    in neither mask has no row: what that means is said once, in `seglab.metrics.cases`.

    Args:
        families: names out of `FAMILIES`; calibration is measured elsewhere, as it needs probabilities.
        kind: of the data.
        class_names: index is the class.
        has_background: class 0 is background and is not measured.
        regions: classes that count as each class; empty when each counts alone.
        tolerance: of the surface Dice, in mm or pixels; None for 2.

    Raises:
        ConfigError: an unknown family.
    """

    families: tuple[str, ...]
    kind: Kind
    class_names: tuple[str, ...]
    has_background: bool
    regions: tuple[tuple[int, ...], ...] = ()
    tolerance: float | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown:
            raise ConfigError(
                "there are no such metrics",
                given=f"metrics=[{','.join(self.families)}]",
                allowed=", ".join(FAMILIES),
                fix=f"set metrics=[{','.join(DEFAULTS[self.kind])}], or leave it out for these",
            )

    def __call__(self, pred: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: Sequence[float]) -> dict[str, float]:
        """Measure a case in its own grid.

        Args:
            pred: (D, H, W) labels; D is 1 for photos and rasters.
            truth: the same shape, class or 255.
            spacing: distance of neighbouring pixels along each axis as read; only volumes use it.

        Returns:
            <metric>/<class> for each class that truth or prediction holds.

        Raises:
            ShapeError: shapes that differ.
        """
        check_pair(pred, truth, spacing)
        steps = tuple(spacing) if self.kind == "volume" else (1.0, 1.0)
        if self.kind != "volume":
            pred, truth = pred[0], truth[0]
        farthest = diagonal(truth.shape, steps)
        row: dict[str, float] = {}
        for index in foreground(len(self.class_names), has_background=self.has_background):
            box = box_of_both(pred, truth, partial(self._mask, index=index))
            own, true = self._mask(pred[box], index), self._mask(truth[box], index)
            own &= truth[box] != IGNORE_INDEX
            if own.any() or true.any():
                scores = self._scores(own, true, steps, farthest)
                row |= {f"{metric}/{self.class_names[index]}": value for metric, value in scores}
        return row

    def _mask(self, labels: NDArray[np.uint8], index: int) -> Mask:
        found: Mask = np.isin(labels, self.regions[index]) if self.regions else labels == index
        return found

    def _scores(self, pred: Mask, truth: Mask, spacing: tuple[float, ...], farthest: float) -> list[tuple[str, float]]:
        makers: dict[str, Callable[..., Mapping[str, Any]]] = {
            "surface": lambda own, true, steps: self._surface(own, true, steps, farthest),
            "boundary": lambda own, true, steps: {"boundary_iou": boundary_iou(own, true, steps, farthest)},
            "thin": thin_scores,
            "lesions": lambda *masks: lesions(*masks).scores,
        }
        chosen = [makers[name] for name in self.families if name in makers]
        return [(metric, float(value)) for make in chosen for metric, value in make(pred, truth, spacing).items()]

    def _surface(self, pred: Mask, truth: Mask, spacing: tuple[float, ...], farthest: float) -> dict[str, float]:
        found = surface_distances(pred, truth, spacing, farthest)
        tolerance = TOLERANCE[self.kind] if self.tolerance is None else self.tolerance
        return {"hd": found.hd, "hd95": found.hd95, "assd": found.assd, "nsd": found.nsd(tolerance)}
