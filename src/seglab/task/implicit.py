"""Implicit training: a network that decodes points learns from a few points of each patch."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.inference.points import sample_points
from seglab.nets.implicit_unet import ImplicitUNet
from seglab.task.ranks import derive_seed
from seglab.task.segmentation import SegmentationTask, TaskParts
from seglab.task.sizes import pad_labels


class ImplicitTask(SegmentationTask):
    """Implicit training: the run's loss on points, half anywhere and half near boundaries; coarse-to-fine inference.

    Points near boundaries are drawn more often than they occur, and are not weighed back. A patch is the network's
    unit: its coordinates are relative, so larger images are always covered by windows of the patch size. Source: Naval
    Marimont and Tarroni 2022 (https://arxiv.org/abs/2206.15217); ratios and refinement are ours.

    Args:
        parts: network, loss, optimizer and what they need.
        n_points: points of each patch.
        coarse_to_fine: refine a coarse grid where its corners differ or are unsure, instead of decoding every pixel.

    Raises:
        ConfigError: a network that does not decode points, or too few of them.
    """

    def __init__(self, parts: TaskParts, *, n_points: int = 16384, coarse_to_fine: bool = True) -> None:
        super().__init__(parts)
        if n_points < 2:
            raise ConfigError(
                "a patch needs points to learn from",
                given=f"task.n_points={n_points}",
                allowed="integers from 2 up",
                fix="set task.n_points=16384",
            )
        self.n_points, self.coarse_to_fine = n_points, coarse_to_fine

    @property
    def window(self) -> Sequence[int]:
        """Windows are as large as patches."""
        return self.spec.patch_size

    def check_net(self) -> None:
        """Refuse a network that does not decode points.

        Raises:
            ConfigError: names the network that does.
        """
        if not isinstance(self.net, ImplicitUNet):
            raise ConfigError(
                f"{type(self.net).__name__} does not decode points",
                given="task=implicit",
                allowed="model=implicit_unet",
                fix="set model=implicit_unet, or task=segmentation",
            )

    def logits(self, image: Tensor) -> Tensor:
        """Logits of an image of a size that the network takes; coarse to fine outside of training."""
        if self.training or not self.coarse_to_fine:
            return super().logits(image)
        logits, _ = cast(ImplicitUNet, self.net).predict_coarse_to_fine(image.contiguous(memory_format=self.layout))
        return logits

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The run's loss on points: logits (N, K, P) against labels (N, P)."""
        net, image = cast(ImplicitUNet, self.net), self.padded(batch["image"])
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, self.current_epoch, self.global_step, self.global_rank)
        )
        mask = pad_labels(batch["mask"], image.shape[2:])
        points, labels = sample_points(mask, self.n_points, generator=generator)
        logits = net.decode(net.encode(image), points).movedim(-1, 1)  # (N, P, K) -> (N, K, P)
        return self.loss(logits, labels)  # type: ignore[no-any-return]

    def validation_losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of a batch of slices, photos or tiles by windows, and the loss of all their pixels."""
        logits = torch.stack([self.sliding_window(image, self, window=self.window) for image in batch["image"]])
        return logits, self.loss(logits, batch["mask"], batch.get("maps"))
