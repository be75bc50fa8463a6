"""From an image of any size to one that a network takes, and back."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.spec import IGNORE_INDEX


def memory_layout(spatial_dims: int) -> torch.memory_format:
    """The channels-last layout of 2-D or 3-D images."""
    return torch.channels_last_3d if spatial_dims == 3 else torch.channels_last


def pad_to(image: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge to `size` evenly on both sides by mirroring; where the image is too short to mirror, by its border.

    Shape:
        (N, C, *spatial) -> (N, C, *size).
    """
    margins = [wanted - length for wanted, length in zip(size, image.shape[2:], strict=True)]
    if not any(margins):
        return image
    pad = [part for margin in reversed(margins) for part in (margin // 2, margin - margin // 2)]
    fits = all(margin - margin // 2 < length for margin, length in zip(margins, image.shape[2:], strict=True))
    return F.pad(image, pad, mode="reflect" if fits else "replicate")


def crop_to(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the centre of `size` out of (N, K, *spatial), the counterpart of `pad_to`."""
    for axis, length in enumerate(size, start=2):
        logits = logits.narrow(axis, (logits.shape[axis] - length) // 2, length)
    return logits


def pad_labels(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge a mask as `pad_to` does its image; what is added counts nowhere.

    Shape:
        (N, *spatial) -> (N, *size).
    """
    margins = [wanted - length for wanted, length in zip(size, mask.shape[1:], strict=True)]
    pad = [part for margin in reversed(margins) for part in (margin // 2, margin - margin // 2)]
    return F.pad(mask, pad, value=IGNORE_INDEX)
