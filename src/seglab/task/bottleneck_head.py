"""Bottleneck head: the deepest level predicts a coarse label map beside the output."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.errors import ConfigError
from seglab.nets.bottleneck_head_unet import BottleneckHeadUNet
from seglab.spec import IGNORE_INDEX
from seglab.task.segmentation import SegmentationTask, TaskParts
from seglab.task.sizes import crop_to, pad_labels


class BottleneckHeadTask(SegmentationTask):
    """Bottleneck head: the run's loss on the output plus cross-entropy of a coarse label map from the bottleneck.

    Source: Zahra, Ali, Siddique 2020 (https://arxiv.org/abs/2005.05218), whose loss of the output is L1 (loss=l1). The
    paper gives neither the weight nor the coarse target; here each cell's target is its commonest class.

    Args:
        parts: network, loss, optimizer and what they need.
        weight: of the head's cross-entropy.
        soft: compare with the shares of the classes in a cell instead of the commonest one.

    Raises:
        ConfigError: a network without such a head, or a negative weight.
    """

    def __init__(self, parts: TaskParts, *, weight: float = 1.0, soft: bool = False) -> None:
        super().__init__(parts)
        if weight < 0:
            raise ConfigError(
                "the head cannot have this weight",
                given=f"task.weight={weight}",
                allowed="numbers from 0 up",
                fix="set task.weight=1.0",
            )
        self.weight, self.soft = weight, soft

    def check_net(self) -> None:
        """Refuse a network without a head at its bottleneck.

        Raises:
            ConfigError: names networks that have one.
        """
        if not isinstance(self.net, BottleneckHeadUNet):
            raise ConfigError(
                f"{type(self.net).__name__} has no head at its bottleneck",
                given="task=bottleneck_head",
                allowed="model=bottleneck_head_unet",
                fix="set model=bottleneck_head_unet, or task=segmentation",
            )

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The output's loss, its terms, and the head's cross-entropy under "bottleneck"."""
        image = self.padded(batch["image"])
        logits, coarse = cast(BottleneckHeadUNet, self.net).forward_auxiliary(image)
        parts: dict[str, Tensor] = self.loss(
            crop_to(logits, batch["image"].shape[2:]), batch["mask"], batch.get("maps")
        )
        shares, valid = class_shares(pad_labels(batch["mask"], image.shape[2:]), coarse.shape)
        target = shares if self.soft else F.one_hot(shares.argmax(dim=1), shares.shape[1]).movedim(-1, 1).to(shares)
        per_cell = -(target * coarse.float().log_softmax(dim=1)).sum(dim=1)  # (N, *cells)
        head = (per_cell * valid).sum() / valid.sum().clamp_min(1)
        return {**parts, "loss": parts["loss"] + self.weight * head, "bottleneck": head}


def class_shares(mask: Tensor, cells: torch.Size) -> tuple[Tensor, Tensor]:
    """Share of each class among the pixels of a cell that are not ignored.

    Args:
        mask: (N, *spatial).
        cells: shape of the coarse logits, (N, K, *cells).

    Returns:
        (N, K, *cells), which sums to 1 over classes, and (N, *cells), whether the cell has any such pixel.
    """
    valid = mask != IGNORE_INDEX
    one_hot = F.one_hot(mask.masked_fill(~valid, 0), cells[1]).movedim(-1, 1).float() * valid.unsqueeze(1)
    step = [length // n for length, n in zip(mask.shape[1:], cells[2:], strict=True)]
    pool = F.avg_pool2d if mask.ndim == 3 else F.avg_pool3d
    pooled: Tensor = pool(one_hot, step)  # (N, K, *cells)
    total = pooled.sum(dim=1, keepdim=True)
    return pooled / total.clamp_min(torch.finfo(pooled.dtype).tiny), total[:, 0] > 0
