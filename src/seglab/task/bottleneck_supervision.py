"""Bottleneck supervision: the bottleneck on the image is pulled towards that of an encoding network on the mask."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.nets.bsunet import BSUNet, EncodingUNet
from seglab.task.label_encoding import encode_labels
from seglab.task.segmentation import SegmentationTask, TaskParts
from seglab.task.sizes import crop_to, pad_labels


class BottleneckSupervisionTask(SegmentationTask):
    """Bottleneck supervision: the run's loss plus the mean squared distance to a label map's bottleneck.

    The first stage trains an EncodingUNet on label maps (task=label_encoding); it is frozen here, and its bottleneck
    for the mask is the target of the BSUNet's bottleneck for the image. Source: Li and Tso 2018
    (https://arxiv.org/abs/1810.10331), who give neither weights nor the normalisation of the distance.

    Args:
        parts: network, loss, optimizer and what they need.
        loss_weight: of the run's loss on the output.
        bottleneck_weight: of the distance.

    Raises:
        ConfigError: another network than BSUNet, an encoding network that does not fit, or weights that mean nothing.
    """

    first_stage: ClassVar[str] = "model@first.model=encoding_unet task@first.task=label_encoding"
    first_labels_images: ClassVar[bool] = False

    def __init__(self, parts: TaskParts, *, loss_weight: float = 1.0, bottleneck_weight: float = 0.1) -> None:
        super().__init__(parts)
        if min(loss_weight, bottleneck_weight) < 0 or loss_weight + bottleneck_weight == 0:
            raise ConfigError(
                "the two losses cannot be weighed like this",
                given=f"task.loss_weight={loss_weight}, task.bottleneck_weight={bottleneck_weight}",
                allowed="numbers from 0 up, not both 0",
                fix="set task.loss_weight=1.0 task.bottleneck_weight=0.1",
            )
        self.loss_weight, self.bottleneck_weight = loss_weight, bottleneck_weight
        self._encoding: list[EncodingUNet] = []  # in a list: no part of the task's own weights

    def check_net(self) -> None:
        """Refuse a network without the bottleneck of BS U-Net.

        Raises:
            ConfigError: names the network that has it.
        """
        if not isinstance(self.net, BSUNet):
            raise ConfigError(
                f"{type(self.net).__name__} has no bottleneck that an encoding network could supervise",
                given="task=bottleneck_supervision",
                allowed="model=bsunet",
                fix="set model=bsunet, or task=segmentation",
            )

    def use_first(self, net: SegmentationNet) -> None:
        """Take the encoding network of the first stage and freeze it.

        Raises:
            ConfigError: another kind of network, or one of another width or for other label maps.
        """
        wanted = (self.spec.num_classes - 1, self.spec.spatial_dims, cast(BSUNet, self.net).encoder.out_channels)
        if not isinstance(net, EncodingUNet) or wanted != (net.in_channels, net.spatial_dims, net.encoder.out_channels):
            raise ConfigError(
                "the first stage is no encoding network for this BSUNet",
                given=f"{type(net).__name__}, {net.in_channels} channel(s) in, {net.spatial_dims} dimensions",
                allowed="EncodingUNet, {} channel(s) in, {} dimensions, {} channels at the bottleneck".format(*wanted),
                fix=f"set {self.first_stage}, and first.model.base_channels to the BSUNet's model.base_channels",
            )
        self._encoding = [net.eval().requires_grad_(requires_grad=False)]

    def on_fit_start(self) -> None:
        """Bring the encoding network to the device of the training."""
        self._encoding = [net.to(self.device) for net in self._encoding]

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The output's loss, its terms, and the distance under "bottleneck"."""
        image = self.padded(batch["image"])
        logits, feature = cast(BSUNet, self.net).forward_bottleneck(image)
        parts: dict[str, Tensor] = self.loss(
            crop_to(logits, batch["image"].shape[2:]), batch["mask"], batch.get("maps")
        )
        distance = F.mse_loss(feature.float(), self.target(pad_labels(batch["mask"], image.shape[2:])))
        total = self.loss_weight * parts["loss"] + self.bottleneck_weight * distance
        return {**parts, "loss": total, "bottleneck": distance}

    @torch.no_grad()
    def target(self, mask: Tensor) -> Tensor:
        """The encoding network's bottleneck for a mask (N, *spatial): (N, channels, *spatial / 32)."""
        (encoding,) = self._encoding
        labels = encode_labels(mask, self.spec.num_classes, class_axis=1)
        return encoding.forward_bottleneck(labels.to(self.dtype))[1].float()
