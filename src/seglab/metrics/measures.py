"""What every metric of a case is: its definition in one line, its unit, and whether more of it is better."""

from dataclasses import dataclass
from typing import Literal

from seglab.metrics.report import METRICS

Unit = Literal["", "length", "content", "px"]
"""Nothing, mm or px, ml or px, always px."""


@dataclass(frozen=True)
class Measure:
    """A metric of a case.

    Args:
        text: definition.
        unit: of its values.
        better: higher or lower values; "zero" for differences.
    """

    text: str
    unit: Unit = ""
    better: Literal["higher", "lower", "zero"] = "higher"


MEASURES: dict[str, Measure] = {
    **{name: Measure(text) for name, text in METRICS.items()},
    "volume_difference": Measure("Volume or area of the prediction less that of the truth", "content", "zero"),
    "hd": Measure("Hausdorff distance of the surfaces", "length", "lower"),
    "hd95": Measure("95th percentile of the surface distances, the larger of both directions", "length", "lower"),
    "assd": Measure("Average symmetric surface distance", "length", "lower"),
    "nsd": Measure("Surface Dice: share of both surfaces within the tolerance of the other one"),
    "boundary_iou": Measure("IoU of what lies within 2 % of the image's diagonal of the contours"),
    "cldice": Measure("Centre line Dice: harmonic mean of the shares of each centre line in the other mask"),
    "f1_0px": Measure("F1 of pixels with no tolerance, the Dice"),
    "f1_2px": Measure("F1 of pixels that may be off by 2 px"),
    "f1_5px": Measure("F1 of pixels that may be off by 5 px"),
    "length_difference": Measure("Length of the centre lines of the prediction less that of the truth", "px", "zero"),
    "width_difference": Measure("Mean width of the prediction less that of the truth", "px", "zero"),
    "lesion_f1": Measure("F1 of lesions, matched one to one from an IoU of 0.1"),
    "lesion_dice": Measure("Mean Dice of the true lesions with the predicted ones matched to them; 0 where missed"),
    "ece": Measure("Expected calibration error of the probabilities, 15 bins", "", "lower"),
    "brier": Measure("Brier score of the probabilities, summed over classes", "", "lower"),
}
"""By name, in the order of tables."""

SIZES = ("small", "medium", "large")
"""Of lesions: below 10, from 10 and from 20 mm or pixels in diameter."""

OF_ALL_CLASSES = ("ece", "brier")
"""Metrics that are of a case and of no single class."""
