"""Windows of one value, such as nodata or the air around a body, predicted once for each value."""

import torch
from torch import Tensor

from seglab.inference.network import Predict

SAMPLE = 7
"""Every SAMPLE-th pixel is looked at first: hardly a window with content passes, and few bytes are read."""

REMEMBERED = 2
"""Constant windows whose logits are kept between batches."""


def once_for_constant(predict: Predict) -> Predict:
    """Predict that remembers the logits of windows that hold one value per channel.

    The logits are the network's own: nothing is assumed about what such a window shows.

    Args:
        predict: the network on windows of one size.
    """
    known: dict[tuple[float, ...], Tensor] = {}

    def remembering(batch: Tensor) -> Tensor:
        """Compute the windows that hold more than one value, and one of each value."""
        values = [only_value(window) for window in batch]
        while len(known) > REMEMBERED:
            known.pop(next(iter(known)))
        wanted = [i for i, value in enumerate(values) if value is None or value not in (*known, *values[:i])]
        if len(wanted) == len(batch) and not any(values):
            return predict(batch)
        found = iter(predict(batch[wanted]) if wanted else ())
        logits = []
        for index, value in enumerate(values):
            answer = next(found) if index in wanted else known[value]  # type: ignore[index]  # it is no None
            if value is not None and value not in known:
                known[value] = answer.clone()
            logits.append(answer)
        return torch.stack(logits)

    return remembering


def only_value(window: Tensor) -> tuple[float, ...] | None:
    """The value of each channel of (C, *window) where it is the only one, else None."""
    flat = window.flatten(1)
    for pixels in (flat[:, ::SAMPLE], flat):
        if not bool((pixels == pixels[:, :1]).all()):
            return None
    return tuple(flat[:, 0].tolist())
