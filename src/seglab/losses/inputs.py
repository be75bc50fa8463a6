"""What every loss does first: refuse tensors that do not fit and bring logits to full precision."""

import torch
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.spec import IGNORE_INDEX


def full_precision(logits: Tensor, mask: Tensor) -> Tensor:
    """Check logits against their mask and cast half types up; float32 and float64 stay as they are.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> logits (N, K, *spatial).

    Raises:
        ShapeError: fewer than two classes, or sizes that differ.
    """
    if logits.ndim < 3 or logits.shape[1] < 2 or logits.shape[:1] + logits.shape[2:] != mask.shape:
        raise ShapeError(
            "logits and mask do not fit",
            given=f"logits {tuple(logits.shape)}, mask {tuple(mask.shape)}",
            allowed="logits (N, K, *spatial) with K >= 2, background included, and mask (N, *spatial)",
            fix="give a two-class problem two output channels, and pad image and mask alike",
        )
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def valid_pixels(mask: Tensor) -> Tensor:
    """Where the mask names a class: bool, the mask's shape."""
    return mask != IGNORE_INDEX


def require(is_fine: bool, argument: str, value: object, allowed: str) -> None:
    """Refuse a constructor argument out of its range.

    Args:
        is_fine: whether the value may stay.
        argument: name of the argument.
        value: what was given.
        allowed: the range, in words.

    Raises:
        ConfigError: when not `is_fine`.
    """
    if not is_fine:
        raise ConfigError(
            f"a loss cannot work with this {argument}",
            given=f"{argument}={value}",
            allowed=allowed,
            fix=f"set loss.terms.<name>.{argument} to a value in that range",
        )
