"""One weight per class: from the configuration to a tensor, to the number of classes, to the pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.losses.inputs import require, valid_pixels


def weight_tensor(argument: str, values: Sequence[float] | None) -> Tensor | None:
    """Weights as a float32 tensor (K,); None stays None.

    Raises:
        ConfigError: no weights, negative ones or only zeros.
    """
    if values is None:
        return None
    require(min(values, default=-1.0) >= 0 and sum(values) > 0, argument, list(values), "numbers from 0 up, not all 0")
    return torch.tensor(values, dtype=torch.float32)


def fitting_weights(argument: str, weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Weights in the type and on the device of the logits (N, K, *spatial).

    Raises:
        ConfigError: another number of weights than classes.
    """
    if weights is None:
        return None
    if len(weights) != logits.shape[1]:
        raise ConfigError(
            "the weights do not fit the classes",
            given=f"{len(weights)} values of {argument}, {logits.shape[1]} classes",
            allowed="one weight per class, background first",
            fix=f"set loss.terms.<name>.{argument} to {logits.shape[1]} numbers, or to null",
        )
    return weights.to(logits)


def pixel_weights(mask: Tensor, weights: Tensor) -> Tensor:
    """The weight of each pixel's class, 0 where the mask is ignored: mask (N, *spatial), weights (K,)."""
    valid = valid_pixels(mask)
    return weights[mask.masked_fill(~valid, 0)] * valid  # (N, *spatial)


def total_weight(mask: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of all pixels' weights, or the number of pixels without weights; 1 in place of 0."""
    if weights is None:
        return valid_pixels(mask).sum().clamp_min(1)
    total = pixel_weights(mask, weights).sum()
    return torch.where(total > 0, total, 1.0)
