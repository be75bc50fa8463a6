"""Cascaded U-Nets (Christ et al. 2016, https://arxiv.org/abs/1610.02177), here around any two networks.

The paper's first U-Net finds the liver in a CT slice, its second the tumours inside the liver that the first has found;
Li and Tso 2018 (https://arxiv.org/abs/1810.10331) take the same two steps. Our reconstruction keeps the steps and joins
them by the chain rule of probability.

Differs from the paper: the second network sees the whole image with the first's probability beside it, not a crop at
the first's mask, so no hard decision stands between the two; both train together from one loss; no conditional random
field at the end; 3-D by the same rules.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import concat
from seglab.nets.inner import WrapperNet, build_inner


class Cascade(WrapperNet):
    """Cascade for 2-D and 3-D images (Christ et al. 2016): an organ first, then what lies in it; returns logits.

    The logits are log-probabilities, so their softmax is their exponential. With o for the organ, all classes from 1
    up, and x for the image:

        log p(0) = log p_first(not o | x)
        log p(k) = log p_first(o | x) + log p_second(k | o, x),  k >= 1

    Hence no class inside the organ wins where the first network gives the background more than half.

    The second network's input is the image and p_first(o | x). That probability is detached: the second network reads
    it but does not shape it. Under cross-entropy the two then train as if apart, the first on organ against
    background, the second on the pixels of the organ, like the paper's. A loss that mixes classes, such as Dice, still
    moves both, through the sum above.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits, at least 3: background, organ, and what lies in the organ.
        spatial_dims: 2 or 3.
        first: builds the network for background and organ, called with in_channels, num_classes=2 and spatial_dims.
        second: builds the network for the classes of the organ, called with in_channels + 1, num_classes - 1 and
            spatial_dims.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes that both networks take.

    Raises:
        ConfigError: fewer than 3 classes, or networks that cannot be built or do not keep the size of the image.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1610.02177"
    faithfulness = "reconstruction"
    min_classes = 3

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        first: Callable[..., SegmentationNet],
        second: Callable[..., SegmentationNet],
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        self.first = build_inner(
            "Cascade", "first", first, in_channels=in_channels, num_classes=2, spatial_dims=spatial_dims
        )
        self.second = build_inner(
            "Cascade",
            "second",
            second,
            in_channels=in_channels + 1,
            num_classes=num_classes - 1,
            spatial_dims=spatial_dims,
        )
        self.size_multiple = math.lcm(self.first.size_multiple, self.second.size_multiple)

    @property
    def n_heads(self) -> int:
        """The side outputs of both networks, and the main output."""
        return self.first.n_heads + self.second.n_heads - 1

    def forward(self, image: Tensor) -> Tensor:
        """Log-probabilities of an image; shapes as in the class."""
        self.check_input(image)
        organ = F.log_softmax(self.first(image), dim=1)  # (N, 2, *spatial)
        inside = F.log_softmax(self.second(with_organ(image, organ)), dim=1)  # (N, num_classes - 1, *spatial)
        return chain_rule(organ, inside)

    def forward_heads(self, image: Tensor) -> list[Tensor]:
        """Every side output of a network chained with the main output of the other, then both main outputs.

        Shape:
            image (N, in_channels, *spatial) -> n_heads times (N, num_classes, *spatial).
        """
        self.check_input(image)
        *early, organ = [F.log_softmax(head, dim=1) for head in self.first.forward_heads(image)]
        heads = self.second.forward_heads(with_organ(image, organ))
        insides = [F.log_softmax(head, dim=1) for head in heads]
        return [chain_rule(side, insides[-1]) for side in early] + [chain_rule(organ, inside) for inside in insides]

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size that both networks take and whose output covers `size`."""
        wanted = super().input_size_for(size)
        for net in (self.first, self.second):  # some have a smallest size besides their multiple
            wanted = super().input_size_for(net.input_size_for(wanted))
        return wanted


def with_organ(image: Tensor, organ: Tensor) -> Tensor:
    """The second network's input: the image and the probability of the organ, a constant for the gradient.

    Args:
        image: as the first network saw it.
        organ: log-probabilities of background and organ.

    Shape:
        image (N, C, *spatial), organ (N, 2, *spatial) -> (N, C + 1, *spatial).
    """
    return concat(image, organ[:, 1:].detach().exp())


def chain_rule(organ: Tensor, inside: Tensor) -> Tensor:
    """Log-probabilities of all classes.

    Args:
        organ: log-probabilities of background and organ.
        inside: log-probabilities of the classes of the organ, given that the pixel lies in it.

    Shape:
        organ (N, 2, *spatial), inside (N, K - 1, *spatial) -> (N, K, *spatial).
    """
    return concat(organ[:, :1], organ[:, 1:] + inside)
