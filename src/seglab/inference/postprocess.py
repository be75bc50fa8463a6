"""What is done to the labels of a whole case: a threshold, small parts removed, holes filled, the largest part kept."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglab.components import Mask, components, fill_holes
from seglab.errors import ConfigError
from seglab.inference.cases import CasePredictor, Part, TensorCase

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Steps:
    """What is done to one class, in this order.

    Args:
        fill_holes: background that the class encloses becomes the class.
        min_size: components below this size become background, in mm3 for volumes, in pixels elsewhere.
        largest: all but the largest component become background.
    """

    fill_holes: bool = False
    min_size: float = 0.0
    largest: bool = False

    def __call__(self, mask: Mask, pixel_size: float = 1.0) -> Mask:
        """A new mask of the class.

        Args:
            mask: (H, W) or (D, H, W) bool; it is not changed.
            pixel_size: what a pixel counts.
        """
        mask = fill_holes(mask) if self.fill_holes else mask.copy()
        if not (self.min_size or self.largest):
            return mask
        parts = components(mask)
        chosen = parts.sizes * pixel_size >= self.min_size
        if self.largest and len(chosen):
            chosen &= np.arange(len(chosen)) == parts.sizes.argmax()
        return parts.select(chosen)


@dataclass(frozen=True)
class Postprocess:
    """Steps by class, and the threshold of the foreground where there is one class beside background.

    Args:
        threshold: probability from which a pixel is foreground; None for the likeliest class.
        steps: by class.
    """

    threshold: float | None = None
    steps: Mapping[int, Steps] = field(default_factory=dict)

    def labels_of(self, part: Part) -> Tensor:
        """Labels (d, h, W) of a part of a case; with a threshold the part must hold probabilities."""
        if self.threshold is None or part.probs is None:
            return part.labels
        return (part.probs[1] >= self.threshold).view(torch.uint8)

    def __call__(self, labels: Labels, pixel_size: float = 1.0) -> Labels:
        """Labels of a whole case after all steps; other classes are never overwritten.

        Args:
            labels: (D, H, W); they are not changed.
            pixel_size: mm3 of a voxel for volumes, 1 elsewhere.

        Returns:
            A new array.
        """
        done = labels.copy()
        flat = done[0] if len(done) == 1 else done  # a photo has no neighbours in depth
        for index, steps in self.steps.items():
            mask = flat == index
            kept = steps(mask, pixel_size)
            flat[mask & ~kept] = 0
            flat[kept & (flat == 0)] = index
        return done

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is the way back."""
        return {
            "threshold": self.threshold,
            "steps": {str(index): asdict(steps) for index, steps in self.steps.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Postprocess":
        """Rebuild from `to_dict`.

        Raises:
            ConfigError: something else.
        """
        try:
            steps = {int(index): Steps(**given) for index, given in values["steps"].items()}
            return cls(None if values["threshold"] is None else float(values["threshold"]), steps)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                "the postprocessing of the run cannot be read",
                given=f"{type(error).__name__}: {error}",
                allowed='{"threshold": null, "steps": {"1": {"fill_holes": true, "min_size": 0, "largest": false}}}',
                fix="have it chosen anew by python src/evaluate.py run=<run> postprocess=auto, or delete it",
            ) from error


def label_case(
    predictor: CasePredictor,
    image: Tensor,
    postprocess: Postprocess | None = None,
    pixel_size: float = 1.0,
    on_part: Callable[[Part], None] | None = None,
) -> Tensor:
    """Labels of a case in memory, after its postprocessing.

    Args:
        predictor: of the network.
        image: (C, D, H, W), normalised.
        postprocess: what is done to the labels; None for nothing.
        pixel_size: mm3 of a voxel for volumes, 1 elsewhere.
        on_part: sees each part of the case with its probabilities.

    Returns:
        (D, H, W) uint8 on the device of `image`.
    """
    if on_part is None and postprocess is None:
        return predictor.labels(image)
    post = postprocess or Postprocess()
    labels = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
    for part in predictor.parts(TensorCase(image), probs=on_part is not None or post.threshold is not None):
        labels[slice(*part.depth), slice(*part.height)] = post.labels_of(part)
        if on_part is not None:
            on_part(part)
    if not post.steps:
        return labels
    return torch.from_numpy(post(labels.cpu().numpy(), pixel_size)).to(image.device)
