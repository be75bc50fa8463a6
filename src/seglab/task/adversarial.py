"""Adversarial training: a discriminator learns to tell predictions from masks, the network learns to deceive it."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from seglab.errors import ConfigError
from seglab.nets.patchgan import PatchDiscriminator
from seglab.spec import IGNORE_INDEX
from seglab.task.segmentation import SegmentationTask, TaskParts


class AdversarialTask(SegmentationTask):
    """Adversarial training: the run's loss plus a PatchGAN's verdict on the predicted label map.

    Both players move in one step of one optimizer: the network's part of the loss passes through a detached copy of the
    discriminator's weights, the discriminator's part through detached predictions, so that each gradient reaches its
    own player. One optimizer keeps clipping, accumulation, mixed precision, resume and DDP as they are. Sources: Luc et
    al. 2016 (https://arxiv.org/abs/1611.08408) for segmentation, Isola et al. 2017 (https://arxiv.org/abs/1611.07004)
    for the discriminator.

    Args:
        parts: network, loss, optimizer and what they need.
        weight: of the verdict in the network's loss.
        lr_factor: learning rate of the discriminator as a multiple of the optimizer's.
        base_channels: width of the discriminator.
        n_layers: strided layers of the discriminator.

    Raises:
        ConfigError: a negative weight, a learning rate that is none, or a patch too small for the discriminator.
    """

    def __init__(
        self,
        parts: TaskParts,
        *,
        weight: float = 0.01,
        lr_factor: float = 0.1,
        base_channels: int = 32,
        n_layers: int = 3,
    ) -> None:
        super().__init__(parts)
        smallest = 2 ** (n_layers + 2)
        if weight < 0 or lr_factor <= 0 or min(self.spec.patch_size) < smallest:
            raise ConfigError(
                "the discriminator cannot be trained like this",
                given=f"task.weight={weight}, task.lr_factor={lr_factor}, patch {list(self.spec.patch_size)}",
                allowed=f"weight from 0 up, lr_factor above 0, and for n_layers={n_layers} patches from {smallest} px",
                fix="set task.weight=0.01 task.lr_factor=0.1 task.n_layers=2, or a larger data.patch_size",
            )
        self.weight, self.lr_factor = weight, lr_factor
        self.discriminator = PatchDiscriminator(
            in_channels=self.spec.in_channels + self.spec.num_classes,
            spatial_dims=self.spec.spatial_dims,
            base_channels=base_channels,
            n_layers=n_layers,
        )

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The sum of both players' losses, the run's terms, and "generator" and "discriminator"."""
        logits, mask = self(batch["image"]), batch["mask"]
        parts: dict[str, Tensor] = self.loss(logits, mask, batch.get("maps"))
        probs = logits.float().softmax(dim=1)
        generator = self.generator_loss(batch["image"], probs, mask)
        discriminator = self.discriminator_loss(batch["image"], probs, mask)
        total = parts["loss"] + self.weight * generator + discriminator
        return {**parts, "loss": total, "generator": generator, "discriminator": discriminator}

    def generator_loss(self, image: Tensor, probs: Tensor, mask: Tensor) -> Tensor:
        """How badly the predictions pass for masks; its gradient reaches the network only."""
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        verdict = functional_call(self.discriminator, frozen, (joined(image, probs, mask),))
        return F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))

    def discriminator_loss(self, image: Tensor, probs: Tensor, mask: Tensor) -> Tensor:
        """How badly masks and predictions are told apart; its gradient reaches the discriminator only."""
        truth = F.one_hot(mask.masked_fill(mask == IGNORE_INDEX, 0), probs.shape[1]).movedim(-1, 1).to(probs)
        real = self.discriminator(joined(image, truth, mask))
        fake = self.discriminator(joined(image, probs.detach(), mask))
        is_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        return (is_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))) / 2

    def parameter_groups(self) -> Iterable[Any]:
        """Both players, each with its learning rate."""
        lr = self.make_optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"]
        return [
            {"params": list(self.net.parameters())},
            {"params": list(self.discriminator.parameters()), "lr": lr * self.lr_factor},
        ]


def joined(image: Tensor, label_map: Tensor, mask: Tensor) -> Tensor:
    """Image and label map side by side, the label map blank where the mask is ignored: (N, C + K, *spatial)."""
    return torch.cat([image, label_map.masked_fill((mask == IGNORE_INDEX).unsqueeze(1), 0.0)], dim=1)
