"""Tanimoto similarity: how alike a probability map and a mask are, without a threshold."""

import torch
from torch import Tensor

from seglab.spec import IGNORE_INDEX


def tanimoto(probs: Tensor, mask: Tensor, index: int) -> float:
    """A.B / (|A|^2 + |B|^2 - A.B) of one class, over the pixels that are not ignored; 1 where both are empty.

    Source: Lou, Guan, Loew 2021, section 3.3 (https://arxiv.org/abs/2006.00414), where it is called accuracy. It equals
    the IoU where the probabilities are 0 and 1.

    Args:
        probs: (N, K, *spatial), probabilities of each class.
        mask: (N, *spatial), class or 255.
        index: of the class.
    """
    valid = mask != IGNORE_INDEX
    a, b = probs[:, index][valid].double(), (mask[valid] == index).double()
    both = torch.dot(a, b)
    union = torch.dot(a, a) + torch.dot(b, b) - both
    return float(both / union) if union > 0 else 1.0
