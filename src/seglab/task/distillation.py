"""Distillation: a small network learns from the soft labels of a large one."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.losses.distillation import DistillationLoss
from seglab.nets.base import SegmentationNet
from seglab.task.segmentation import SegmentationTask, TaskParts
from seglab.task.sizes import crop_to, pad_to


class DistillationTask(SegmentationTask):
    """Distillation: the run's loss on the mask plus T^2 times the cross-entropy with a teacher's softened output.

    The teacher is the network of the first stage, frozen and in eval mode; it sees each augmented image anew. With
    hard_weight=0 the student learns from the teacher alone, with soft_weight=0 from the mask alone. Source: Mangalam
    and Salzmann 2018 (https://arxiv.org/abs/1812.00249), who do not give the mixing weight.

    Args:
        parts: network, loss, optimizer and what they need.
        temperature: T, which softens both outputs; the paper's 5.
        hard_weight: of the run's loss.
        soft_weight: of the distillation loss.
        kind: "ce" as in the paper, or "kl".

    Raises:
        ConfigError: weights that mean nothing, or a teacher for other data.
    """

    first_stage: ClassVar[str] = "model@first.model=unet first.model.base_channels=64"

    def __init__(
        self,
        parts: TaskParts,
        *,
        temperature: float = 5.0,
        hard_weight: float = 1.0,
        soft_weight: float = 1.0,
        kind: Literal["ce", "kl"] = "ce",
    ) -> None:
        super().__init__(parts)
        if min(hard_weight, soft_weight) < 0 or hard_weight + soft_weight == 0:
            raise ConfigError(
                "hard and soft labels cannot be weighed like this",
                given=f"task.hard_weight={hard_weight}, task.soft_weight={soft_weight}",
                allowed="numbers from 0 up, not both 0",
                fix="set task.hard_weight=1.0 task.soft_weight=1.0",
            )
        self.hard_weight, self.soft_weight = hard_weight, soft_weight
        self.soft_loss = DistillationLoss(temperature=temperature, kind=kind)
        self._teacher: list[SegmentationNet] = []  # in a list: no part of the task's own weights

    def use_first(self, net: SegmentationNet) -> None:
        """Take the teacher and freeze it.

        Raises:
            ConfigError: a teacher with other channels, classes or dimensions.
        """
        sizes = [(each.in_channels, each.num_classes, each.spatial_dims) for each in (net, self.net)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                "the teacher was trained for other data",
                given="{} channels, {} classes, {} dimensions".format(*sizes[0]),
                allowed="{} channels, {} classes, {} dimensions".format(*sizes[1]),
                fix="name another run in first.run, or leave it out to have a teacher trained",
            )
        self._teacher = [net.eval().requires_grad_(requires_grad=False)]

    def on_fit_start(self) -> None:
        """Bring the teacher to the device of the training."""
        self._teacher = [net.to(self.device).to(memory_format=self.layout) for net in self._teacher]

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The sum, the hard loss with its terms, and the soft loss under "soft"."""
        logits = self(batch["image"])
        parts: dict[str, Tensor] = self.loss(logits, batch["mask"], batch.get("maps"))
        soft: Tensor = self.soft_loss(logits, self.teach(batch["image"]), batch["mask"])
        total = self.hard_weight * parts["loss"] + self.soft_weight * soft
        return {**parts, "loss": total, "hard": parts["loss"], "soft": soft}

    @torch.no_grad()
    def teach(self, image: Tensor) -> Tensor:
        """The teacher's logits of a batch, in the image's size: (N, K, *spatial)."""
        (teacher,) = self._teacher
        size = image.shape[2:]
        return crop_to(teacher(pad_to(image, teacher.input_size_for(size)).contiguous(memory_format=self.layout)), size)
