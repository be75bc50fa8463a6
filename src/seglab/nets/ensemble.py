"""Ensemble: several trained networks label together, by the mean of their probabilities."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.nets.base import Faithfulness, SegmentationNet


class Ensemble(SegmentationNet):
    """Several trained networks as one, for 2-D or 3-D images; returns the logarithm of their mean probability.

    The softmax of these logits is the mean of the members' softmaxes, so what asks a network for labels or for
    probabilities need not know that it is an ensemble. Members that were trained on images normalised otherwise, as
    folds of a cross-validation are, get the image as they know it.

    Args:
        members: networks for the same channels, classes and dimensions.
        scales: for each member and channel, what the image is multiplied by.
        shifts: for each member and channel, what is added then.

    Shape:
        image (N, C, *spatial) -> logits (N, K, *spatial).

    Raises:
        ConfigError: no members, or members that do not fit together.
    """

    paper: ClassVar[str] = "https://arxiv.org/abs/1612.01474"
    faithfulness: ClassVar[Faithfulness] = "reference"
    scales: Tensor
    shifts: Tensor

    def __init__(
        self,
        members: Sequence[SegmentationNet],
        *,
        scales: Sequence[Sequence[float]],
        shifts: Sequence[Sequence[float]],
    ) -> None:
        kinds = {(net.in_channels, net.num_classes, net.spatial_dims) for net in members}
        if len(kinds) != 1:
            raise ConfigError(
                "these networks cannot label together",
                given=f"(channels, classes, dimensions) {', '.join(map(str, sorted(kinds))) or 'of no network'}",
                allowed="one or more networks of equal channels, classes and dimensions",
                fix="join runs that were trained on the same data",
            )
        ((in_channels, num_classes, spatial_dims),) = kinds
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        self.members = nn.ModuleList(members)
        columns = (-1, 1, in_channels, *[1] * spatial_dims)
        self.register_buffer("scales", torch.tensor(scales).view(columns))
        self.register_buffer("shifts", torch.tensor(shifts).view(columns))

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest size that every member takes; members whose sizes never meet are asked a hundred times at most."""
        wanted = tuple(size)
        for _ in range(100):
            sizes = [tuple(net.input_size_for(wanted)) for net in self.members]  # type: ignore[operator]  # a network
            if all(each == wanted for each in sizes):
                break
            wanted = tuple(map(max, zip(*sizes, strict=True)))
        return wanted

    def forward(self, image: Tensor) -> Tensor:
        """Logits whose softmax is the mean of the members' softmaxes."""
        self.check_axes(image)
        probs = [
            net(image * scale + shift).float().softmax(dim=1)
            for net, scale, shift in zip(self.members, self.scales, self.shifts, strict=True)
        ]
        mean = torch.stack(probs).mean(dim=0)
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
