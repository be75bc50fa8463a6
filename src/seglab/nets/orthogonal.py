"""2.5-D segmentation, a family of the survey of Siddique et al. 2021 (https://arxiv.org/abs/2011.01118).

Our reconstruction. The survey gives the mechanism, three orthogonal 2-D networks whose answers are fused, and no
layout. Ours wraps any 2-D network: it labels all slices of a volume along each of the three axes, and the three answers
for a voxel are fused, by their mean or by a learned 1-wide convolution that starts as the mean.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import check_choice, concat
from seglab.nets.inner import WrapperNet, build_inner

N_AXES = 3


class OrthogonalFusion(WrapperNet):
    """Orthogonal fusion for 3-D images (Siddique et al. 2021): three 2-D networks see all slices; returns logits.

    The slices of an axis are a batch of their own for the 2-D network, so its memory grows with the volume, and a batch
    norm in it sees N times as many images as there are slices. Networks are in the order of the axes they slice:
    across D (they see H, W), across H (D, W) and across W (D, H).

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 3.
        plane: builds a 2-D network, called with in_channels, num_classes and spatial_dims=2.
        fusion: "mean" of the logits, or "learned" for a 1-wide convolution of them that starts as the mean.
        shared: whether one network sees the slices of all axes; fit for isotropic voxels.

    Shape:
        image (N, in_channels, D, H, W) -> logits (N, num_classes, D, H, W); the network takes (D, H), (D, W), (H, W).

    Raises:
        ConfigError: two dimensions, an unknown fusion, or a network that cannot be built or does not keep its size.
        ShapeError: from `forward`, names the size to pad to.
    """

    supported_dims = (3,)
    paper = "https://arxiv.org/abs/2011.01118"
    faithfulness = "reconstruction"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 3,
        plane: Callable[..., SegmentationNet],
        fusion: str = "mean",
        shared: bool = False,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_choice("OrthogonalFusion", "fusion", fusion, ("mean", "learned"))
        self.planes = nn.ModuleList(
            build_inner(
                "OrthogonalFusion", "plane", plane, in_channels=in_channels, num_classes=num_classes, spatial_dims=2
            )
            for _ in range(1 if shared else N_AXES)
        )
        self.mix = mean_conv(num_classes) if fusion == "learned" else None
        self.size_multiple = self.net_of(0).size_multiple

    @property
    def n_heads(self) -> int:
        """Number of outputs of the 2-D network."""
        return self.net_of(0).n_heads

    def net_of(self, axis: int) -> SegmentationNet:
        """The network that sees the slices across an axis."""
        return self.planes[axis % len(self.planes)]  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor:
        """Fused logits of a volume; shapes as in the class."""
        self.check_input(image)
        views = [as_volume(self.net_of(axis)(as_slices(image, axis)), axis, len(image)) for axis in range(N_AXES)]
        return self.fuse(views)

    def forward_heads(self, image: Tensor) -> list[Tensor]:
        """Every output of the 2-D networks, each fused over the axes in the same way, the main output last.

        Shape:
            image (N, in_channels, D, H, W) -> n_heads times (N, num_classes, D, H, W).
        """
        self.check_input(image)
        views = [
            [as_volume(head, axis, len(image)) for head in self.net_of(axis).forward_heads(as_slices(image, axis))]
            for axis in range(N_AXES)
        ]
        return [self.fuse(heads) for heads in zip(*views, strict=True)]

    def fuse(self, views: Sequence[Tensor]) -> Tensor:
        """One answer from those of the three axes.

        Shape:
            3 times (N, num_classes, D, H, W) -> (N, num_classes, D, H, W).
        """
        if self.mix is None:
            return torch.stack(list(views)).mean(dim=0)
        return self.mix(concat(*views))  # type: ignore[no-any-return]

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest size whose three planes the 2-D network takes and that covers `size`."""
        depth, height, width = size
        height, width = self.net_of(0).input_size_for((height, width))
        depth, width = self.net_of(1).input_size_for((depth, width))
        depth, height = self.net_of(2).input_size_for((depth, height))
        return depth, height, width


def as_slices(image: Tensor, axis: int) -> Tensor:
    """All slices across an axis as a batch: (N, C, D, H, W) -> (N * size of the axis, C, *the other two)."""
    return image.movedim(axis + 2, 1).flatten(0, 1)


def as_volume(slices: Tensor, axis: int, n: int) -> Tensor:
    """The way back: (n * size of the axis, K, *the other two) -> (n, K, D, H, W)."""
    return slices.reshape(n, -1, *slices.shape[1:]).movedim(1, axis + 2)


def mean_conv(num_classes: int) -> nn.Conv3d:
    """1-wide convolution 3K -> K, which starts as the mean over the axes, class by class."""
    conv = nn.Conv3d(N_AXES * num_classes, num_classes, 1)
    means = torch.eye(num_classes).repeat(1, N_AXES) / N_AXES  # (K, 3K)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    conv.weight.data.copy_(means.reshape_as(conv.weight))
    return conv
