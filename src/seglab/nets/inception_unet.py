"""Inception U-Net, a family of the survey of Siddique et al. 2021 (https://arxiv.org/abs/2011.01118).

Our reconstruction. The survey gives the mechanism, parallel convolutions of several sizes in each level, and no layout.
Ours puts the inception block of BS U-Net (Li and Tso 2018, https://arxiv.org/abs/1810.10331) in the place of the two
convolutions at every level of a U-Net; the rest is U-Net's, half as wide since the block has about four times the
parameters. Returns logits; 3-D by the same rules; He initialisation.
"""

from collections import OrderedDict

from torch import Tensor, nn

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, CONV_TRANSPOSE, MAX_POOL, ConvNormAct, check_range, concat, init_he

N_POOLINGS = 4


class InceptionUNet(SegmentationNet):
    """Inception U-Net for 2-D and 3-D images (Siddique et al. 2021): levels that see several fields; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them. 16 makes about the size of a U-Net of 32.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2011.01118"
    faithfulness = "reconstruction"
    size_multiple = 2**N_POOLINGS

    def __init__(self, *, in_channels: int, num_classes: int, spatial_dims: int = 2, base_channels: int = 16) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("InceptionUNet", "base_channels", base_channels, at_least=1)
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            InceptionBlock(spatial_dims, before, width)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(
            CONV_TRANSPOSE[spatial_dims](2 * width, width, 2, stride=2) for width in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(InceptionBlock(spatial_dims, 2 * width, width) for width in reversed(widths[:-1]))
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, base, *spatial)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))  # (N, base * 2**level, *spatial / 2**level)
        for up, block in zip(self.ups, self.decoder, strict=True):
            x = block(concat(skips.pop(), up(x)))  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


class InceptionBlock(nn.Module):
    """Four branches side by side, with fields of 1, 3, 3 (a maximum) and 5 pixels, fused by a 3-wide convolution.

    1-wide convolutions bring the input to the branches' width before the costly ones. All convolutions are followed by
    ReLU, and only the last by a norm, as in BS U-Net.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of each branch and of the output.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()

        def conv(channels: int, kernel_size: int) -> nn.Module:
            """A convolution without norm to the width of the block."""
            return ConvNormAct(spatial_dims, channels, out_channels, kernel_size=kernel_size, norm=None)

        branches: OrderedDict[str, nn.Module] = OrderedDict()
        branches["one"] = conv(in_channels, 1)
        branches["pool"] = nn.Sequential(MAX_POOL[spatial_dims](3, stride=1, padding=1), conv(in_channels, 1))
        branches["three"] = nn.Sequential(conv(in_channels, 1), conv(out_channels, 3))
        branches["five"] = nn.Sequential(conv(in_channels, 1), conv(out_channels, 5))
        self.branches = nn.ModuleDict(branches)
        self.fuse = ConvNormAct(spatial_dims, len(branches) * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        return self.fuse(concat(*(branch(x) for branch in self.branches.values())))  # type: ignore[no-any-return]
