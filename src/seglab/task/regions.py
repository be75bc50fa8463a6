"""Nested regions: a network with one decoder per region is trained region by region."""

from typing import Any, cast

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.nets.e1d3 import E1D3UNet, fuse_nested
from seglab.spec import IGNORE_INDEX
from seglab.task.segmentation import SegmentationTask
from seglab.task.sizes import crop_to


class RegionsTask(SegmentationTask):
    """Nested regions: the run's loss on each region's two logits, averaged over regions.

    Region r holds all classes from r up, so classes must be ordered from the outside in. The labels are the fusion of
    the regions. Source: Bukhari and Mohy-ud-Din 2021 (https://arxiv.org/abs/2110.02519).

    Args:
        parts: network, loss, optimizer and what they need.

    Raises:
        ConfigError: a network without decoders of its own for regions.
    """

    def check_net(self) -> None:
        """Refuse a network whose decoders are not those of regions, and classes that lie within each other otherwise.

        Raises:
            ConfigError: names networks that have them, or the regions of the data.
        """
        if not isinstance(self.net, E1D3UNet):
            raise ConfigError(
                f"{type(self.net).__name__} has no decoder for each region",
                given="task=regions",
                allowed="model=e1d3",
                fix="set model=e1d3, or task=segmentation",
            )
        names, regions = self.spec.class_names, self.spec.regions
        odd = [names[r] for r in range(1, len(regions)) if regions[r] != tuple(range(r, len(names)))]
        if odd:
            raise ConfigError(
                "the classes do not lie within each other one by one",
                given=f"{', '.join(odd)}: not all later classes lie within",
                allowed="task=regions with classes from the outside in, such as whole, core, enhancing",
                fix="set task=segmentation, whose scores count regions of any form",
            )

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The mean over regions; each region's own loss is called by its outermost class."""
        return self.region_losses(self.region_logits(batch["image"]), batch["mask"], batch.get("maps"))

    def validation_losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Fused logits of a batch of slices, photos or tiles, and the same losses as in training."""
        regions = self.region_logits(batch["image"])
        return fuse_nested(regions), self.region_losses(regions, batch["mask"], batch.get("maps"))

    def region_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of each region against the rest, outermost first: K - 1 times (N, 2, *spatial)."""
        regions = cast(E1D3UNet, self.net).forward_regions(self.padded(image))
        return [crop_to(logits, image.shape[2:]) for logits in regions]

    def region_losses(
        self, regions: list[Tensor], mask: Tensor, maps: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The loss of every region and, under "loss", their mean."""
        losses = {
            f"region_{self.spec.class_names[region]}": self.loss(logits, region_mask(mask, region), maps)["loss"]
            for region, logits in enumerate(regions, start=1)
        }
        return {"loss": torch.stack(list(losses.values())).mean(), **losses}


def region_mask(mask: Tensor, region: int) -> Tensor:
    """1 where the class is `region` or further in, 0 outside, 255 where ignored; the mask's shape."""
    return torch.where(mask == IGNORE_INDEX, mask, (mask >= region).to(mask.dtype))
