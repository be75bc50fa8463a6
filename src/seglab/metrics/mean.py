"""A weighted mean that comes out the same to the last digit, however ranks share its terms."""

import math
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric


class ExactMean(Metric):
    """Weighted mean over batches and ranks, rounded once at the end, so that the order of the terms changes nothing.

    A running sum rounds at every step: two ranks and one would differ in the last digits.
    """

    is_differentiable: bool | None = False
    higher_is_better: bool | None = None
    full_state_update: bool | None = False

    terms: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("terms", [], dist_reduce_fx="cat")

    def update(self, value: Tensor, weight: int) -> None:
        """Add a term.

        Args:
            value: scalar.
            weight: such as the samples of a batch.
        """
        term = torch.stack([value.detach().float(), value.new_tensor(weight, dtype=torch.float32)])
        cast(list[Tensor], self.terms).append(term[None])  # (1, 2)

    def compute(self) -> Tensor:
        """The mean in float64; NaN without terms."""
        rows = [self.terms] if isinstance(self.terms, Tensor) else self.terms  # one tensor once ranks have been joined
        pairs = [(value * weight, weight) for row in rows for value, weight in row.cpu().double().tolist()]  # exact
        total = math.fsum(weight for _, weight in pairs)
        return torch.tensor(math.fsum(term for term, _ in pairs) / total if total else math.nan, dtype=torch.float64)
