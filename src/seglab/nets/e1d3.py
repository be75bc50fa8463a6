"""E1D3 U-Net (Bukhari, Mohy-ud-Din 2021, https://arxiv.org/abs/2110.02519): one encoder, a decoder per nested region.

Differs from the paper: any number of regions, K classes give K - 1 of them; the regions fuse into K logits with the
paper's rule as their argmax; 2-D by the same rules. The regions' own logits are those of the paper.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seglab.errors import ShapeError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, CONV_TRANSPOSE, INSTANCE_NORM, check_range, concat

N_DOWNS = 4
BIAS = 0.1  # of every convolution, as in the authors' code


class E1D3UNet(SegmentationNet):
    """E1D3 U-Net for 2-D and 3-D images (Bukhari, Mohy-ud-Din 2021): a decoder per nested region; returns logits.

    Classes are ordered from the outside in, each region around the next: background, oedema, necrosis, enhancing tumour
    in BraTS; background, liver, tumour in LiTS. Region r holds all classes from r up (whole tumour, tumour core,
    enhancing tumour), and decoder r tells it from the rest with two logits. The decoders share the encoder and nothing
    else; `forward_regions` gives their outputs, which the paper's loss compares one by one.

    `forward` fuses them. With the margin m_r = z1 - z0 of region r and its running minimum c_r = min(m_1, ..., m_r),
    the logit of class k is c_1 + ... + c_k, and 0 for class 0. As c only falls from region to region, the sum grows as
    long as c_r > 0 and shrinks after: its argmax is the number of regions from the outside in that hold, so a pixel is
    of region r only where all outer regions hold too. Between neighbouring classes the difference is c_r, so with two
    classes the probabilities are those of the only decoder.

    Args:
        in_channels: channels of the image; the paper's 4.
        num_classes: classes of the logits, at least 2; the paper's 4.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level, at least 2; each level below doubles them. The paper's 30.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16, one axis from
        32 up: an instance norm needs two pixels on the deepest level.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2110.02519"
    min_classes = 2  # the background and a region inside it
    size_multiple = 2**N_DOWNS

    def __init__(self, *, in_channels: int, num_classes: int, spatial_dims: int = 3, base_channels: int = 30) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("E1D3UNet", "base_channels", base_channels, at_least=2)
        widths = [base_channels * 2**level for level in range(N_DOWNS + 1)]
        self.encoder = Encoder(spatial_dims, in_channels, widths)
        self.decoders = nn.ModuleList(Decoder(spatial_dims, widths) for _ in range(num_classes - 1))
        init_as_published(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image, fused from the regions; shapes as in the class."""
        return fuse_nested(self.forward_regions(image))

    def forward_regions(self, image: Tensor) -> list[Tensor]:
        """Logits of each region against what lies outside it, the outermost first.

        Shape:
            image (N, in_channels, *spatial) -> num_classes - 1 times (N, 2, *spatial).
        """
        self.check_input(image)
        features = self.encoder(image)
        return [decoder(features) for decoder in self.decoders]

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """The logits of each region, which the paper's loss sees, and their fusion last."""
        regions = self.forward_regions(image)
        return [*regions, fuse_nested(regions)]

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`; the last axis grows if all are 16."""
        wanted = super().input_size_for(size)
        return wanted if max(wanted) > self.size_multiple else (*wanted[:-1], 2 * self.size_multiple)

    def check_input(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank, channel count or size, or with a single pixel on the deepest level.

        Raises:
            ShapeError: names the size to pad to.
        """
        size = tuple(image.shape[2:])
        if size == (self.size_multiple,) * self.spatial_dims:
            raise ShapeError(
                "E1D3UNet cannot normalise a single pixel, which this size has on the deepest level",
                given="x".join(map(str, size)),
                allowed=f"multiples of {self.size_multiple}, at least {2 * self.size_multiple} along one axis",
                fix=f"pad to {'x'.join(map(str, self.input_size_for(size)))} or set a larger data.patch_size",
            )
        super().check_input(image)


class Encoder(nn.Module):
    """Five levels, two convolutions each but a single one on the deepest, with plain strided convolutions between.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        widths: channels of the levels, shallow to deep.

    Shape:
        (N, in_channels, *spatial) -> per level l, shallow to deep, (N, widths[l], *spatial / 2**l).
    """

    def __init__(self, spatial_dims: int, in_channels: int, widths: list[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for before, width in zip([in_channels, *widths], widths, strict=False):
            level = nn.Sequential(conv_norm_act(spatial_dims, before, width))
            if width != widths[-1]:
                level.append(conv_norm_act(spatial_dims, width, width))
            self.levels.append(level)
        self.downs = nn.ModuleList(CONV[spatial_dims](width, width, 3, stride=2, padding=1) for width in widths[:-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature of every level; shapes as in the class."""
        features = [self.levels[0](image)]
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            features.append(level(down(features[-1])))  # (N, widths[l], *spatial / 2**l)
        return features


class Decoder(nn.Module):
    """The way up for one region, on its own parameters.

    Args:
        spatial_dims: 2 or 3.
        widths: channels of the encoder's levels, shallow to deep.

    Shape:
        features, shallow to deep, of (N, widths[l], *spatial / 2**l) -> (N, 2, *spatial).
    """

    def __init__(self, spatial_dims: int, widths: list[int]) -> None:
        super().__init__()
        self.bottom = conv_norm_act(spatial_dims, widths[-1], widths[-2])
        self.levels = nn.ModuleList(UpLevel(spatial_dims, width) for width in reversed(widths[:-1]))
        self.head = CONV[spatial_dims](widths[0] // 2, 2, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits of the region; shapes as in the class."""
        x = self.bottom(features[-1])  # (N, widths[-2], *spatial / 16)
        for level, skip in zip(self.levels, features[-2::-1], strict=True):
            x = level(x, skip)  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]


class UpLevel(nn.Module):
    """One decoder level: up-convolution, skip beside it, two convolutions of which the second halves the channels.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the feature from below, at least 2.

    Shape:
        below (N, channels, *spatial / 2), skip (N, channels, *spatial) -> (N, channels // 2, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.up = CONV_TRANSPOSE[spatial_dims](channels, channels, 2, stride=2)
        self.conv = nn.Sequential(
            conv_norm_act(spatial_dims, 2 * channels, channels), conv_norm_act(spatial_dims, channels, channels // 2)
        )

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        return self.conv(concat(self.up(below), skip))  # type: ignore[no-any-return]


def conv_norm_act(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """3-wide convolution with bias, instance norm with scale and shift, leaky ReLU of slope 0.01."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv=CONV[spatial_dims](in_channels, out_channels, 3, padding=1),
            norm=INSTANCE_NORM[spatial_dims](out_channels, affine=True),
            act=nn.LeakyReLU(0.01, inplace=True),
        )
    )


def fuse_nested(regions: list[Tensor]) -> Tensor:
    """Logits of K classes from K - 1 nested regions: sums of the running minimum of their margins.

    A region's margin below the rounding of the sum around it is lost, so fuse in float32 where that matters.

    Args:
        regions: two logits (outside, inside) per region, the outermost first.

    Shape:
        K - 1 times (N, 2, *spatial) -> (N, K, *spatial).
    """
    margins = [region[:, 1:] - region[:, :1] for region in regions]  # (N, 1, *spatial) each
    smallest, total = margins[0], torch.zeros_like(margins[0])
    logits = [total]
    for margin in margins:
        smallest = torch.minimum(smallest, margin)
        total = total + smallest
        logits.append(total)
    return concat(*logits)


def init_as_published(net: nn.Module) -> None:
    """Draw convolution weights He-normal by torch's count of inputs and set every bias to 0.1."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.constant_(module.bias, BIAS)
