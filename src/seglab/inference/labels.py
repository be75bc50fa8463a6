"""From logits to classes, many times faster on a CPU than argmax over the class axis."""

import torch
from torch import Tensor

from seglab.errors import ShapeError


def labels_from_logits(logits: Tensor) -> Tensor:
    """Class of the largest logit; of equal ones the first, as argmax does.

    A running maximum reads memory in its own order, which argmax across a far axis does not. NaN is never the larger
    of two values here.

    Args:
        logits: (N, K, *spatial), 1 <= K <= 255.

    Returns:
        (N, *spatial) uint8 on the same device.

    Raises:
        ShapeError: no class axis, or more classes than a uint8 mask can name.
    """
    if logits.ndim < 2 or not 1 <= logits.shape[1] <= 255:
        raise ShapeError(
            "logits cannot be turned into labels",
            given=f"logits of shape {tuple(logits.shape)}",
            allowed="(N, K, *spatial) with 1 to 255 classes K",
            fix="pass a batch of logits, image[None] for a single one",
        )
    if logits.shape[1] == 2:
        return (logits[:, 1] > logits[:, 0]).view(torch.uint8)
    best = logits[:, 0]
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for index in range(1, logits.shape[1]):
        is_larger = (logits[:, index] > best).view(torch.uint8)
        labels = torch.maximum(labels, is_larger.mul_(index))  # index grows; a masked fill takes ten times as long
        best = torch.maximum(best, logits[:, index])
    return labels
