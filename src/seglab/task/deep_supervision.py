"""Deep supervision: every head of the network has a loss of its own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.task.segmentation import SegmentationTask, TaskParts
from seglab.task.sizes import crop_to


class DeepSupervisionTask(SegmentationTask):
    """Deep supervision: the run's loss on every head of the network, weighted; the last head is the output.

    Source: Lee et al. 2015 (https://arxiv.org/abs/1409.5185); UNet++ (https://arxiv.org/abs/1807.10165) weighs its four
    heads alike.

    Args:
        parts: network, loss, optimizer and what they need.
        head_weights: one weight per head, the output last; None weighs all alike. Only their ratios matter.

    Raises:
        ConfigError: a network with a single output, or another number of weights than heads.
    """

    def __init__(self, parts: TaskParts, *, head_weights: Sequence[float] | None = None) -> None:
        super().__init__(parts)
        weights = [1.0] * self.net.n_heads if head_weights is None else [float(weight) for weight in head_weights]
        if len(weights) != self.net.n_heads or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                "the heads cannot be weighed like this",
                given=f"task.head_weights={weights} for {self.net.n_heads} heads",
                allowed="one number from 0 up for each head, not all 0, the output last",
                fix="set task.head_weights=null to weigh all alike",
            )
        self.head_weights = [weight / sum(weights) for weight in weights]

    def check_net(self) -> None:
        """Refuse a network with a single output.

        Raises:
            ConfigError: names networks with several heads.
        """
        if self.net.n_heads < 2:
            raise ConfigError(
                f"{type(self.net).__name__} has no heads to supervise one by one",
                given=f"task=deep_supervision with {self.net.n_heads} head",
                allowed="networks with several heads, such as unetpp with deep_supervision=true",
                fix="set model=unetpp model.deep_supervision=true, or task=segmentation",
            )

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The weighted sum over heads; each head's own loss is called head_1, head_2, ..."""
        heads = self.net.forward_heads(self.padded(batch["image"]))
        size, maps = batch["image"].shape[2:], batch.get("maps")
        losses = [self.loss(crop_to(logits, size), batch["mask"], maps)["loss"] for logits in heads]
        total = torch.stack([weight * loss for weight, loss in zip(self.head_weights, losses, strict=True)]).sum()
        return {"loss": total, **{f"head_{number}": loss for number, loss in enumerate(losses, start=1)}}
