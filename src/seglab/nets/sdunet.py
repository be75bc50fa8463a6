"""SDU-Net (Wang et al. 2020, https://arxiv.org/abs/2004.03466): stacked dilated convolutions in place of U-Net's pairs.

Differs from the paper: returns logits; K classes give K channels; 2-D and 3-D by one rule; He initialisation.

Our reconstruction: the abstract gives the idea and three ratios of parameters (40, 17 and 15 % of U-Net, Attention
U-Net and R2U-Net), not the layout. The block's split of widths and its dilation rates are those of two independent
ports; the widths of the levels and the up-convolutions that keep their channels are the one layout that meets all three
ratios. The norm is open, because batch and group norm have equally many parameters: batch norm is our default.
"""

from collections import OrderedDict

from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, CONV_TRANSPOSE, MAX_POOL, check_choice, concat, init_he, make_norm

N_POOLINGS = 4
DILATIONS = (1, 3, 6, 9, 12)
SHARES = (2, 4, 8, 16, 16)  # the i-th convolution gives one SHARES[i]-th of the block's channels
STEP = max(SHARES)


class SDUNet(SegmentationNet):
    """SDU-Net for 2-D and 3-D images (Wang et al. 2020): stacked dilated convolutions at every level; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level, a multiple of 16; the levels have 1, 2, 4, 8 and 8 times as many.
        norm: "batch" or "group" (8 groups, fewer in the narrow convolutions), after each 3-wide convolution.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2004.03466"
    faithfulness = "corroborated"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 64,
        norm: str = "batch",
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_base_channels(base_channels)
        check_choice("SDUNet", "norm", norm, ("batch", "group"))
        widths = [base_channels * times for times in (1, 2, 4, 8, 8)]
        outs = [widths[0], *widths[:-2]]  # a decoder level already has the width of the level above

        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            SDBlock(spatial_dims, before, width, norm=norm)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            UpLevel(spatial_dims, widths[level], outs[level], norm=norm) for level in range(N_POOLINGS - 1, -1, -1)
        )
        self.head = CONV[spatial_dims](outs[0], num_classes, 1)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, base, *spatial)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))  # (N, base * 2 | 4 | 8 | 8, *spatial / 2**level)
        for level in self.decoder:
            x = level(x, skips.pop())  # (N, base * 4 | 2 | 1 | 1, twice the size)
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


class SDBlock(nn.Module):
    """Stacked dilated block: five convolutions in series, their outputs joined, so 3 to 63 pixels are seen at once.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the joined output, a multiple of 16; half of them see 3 pixels, a quarter 9, an eighth
            21, one 16th 39 and one 16th 63.
        norm: "batch" or "group".

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, *, norm: str) -> None:
        super().__init__()
        widths = [out_channels // share for share in SHARES]
        self.convs = nn.ModuleList(
            dilated_conv(spatial_dims, before, width, dilation=dilation, norm=norm)
            for before, width, dilation in zip([in_channels, *widths], widths, DILATIONS, strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        parts = []
        for conv in self.convs:
            x = conv(x)  # (N, out_channels / share, *spatial)
            parts.append(x)
        return concat(*parts)


class UpLevel(nn.Module):
    """One decoder level: up-convolution that keeps its channels, skip beside it, stacked dilated block.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and from below.
        out_channels: channels of the output.
        norm: "batch" or "group".

    Shape:
        below (N, channels, *spatial / 2), skip (N, channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, out_channels: int, *, norm: str) -> None:
        super().__init__()
        self.up = CONV_TRANSPOSE[spatial_dims](channels, channels, 2, stride=2)
        self.block = SDBlock(spatial_dims, 2 * channels, out_channels, norm=norm)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        return self.block(concat(skip, self.up(below)))  # type: ignore[no-any-return]


def dilated_conv(spatial_dims: int, in_channels: int, out_channels: int, *, dilation: int, norm: str) -> nn.Sequential:
    """3-wide convolution with bias that keeps the size, norm, ReLU; the children are called conv, norm and act."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv=CONV[spatial_dims](in_channels, out_channels, 3, padding=dilation, dilation=dilation),
            norm=make_norm(norm, spatial_dims, out_channels),
            act=nn.ReLU(inplace=True),
        )
    )


def check_base_channels(given: int) -> None:
    """Refuse a width whose smallest share would not be a whole number of channels.

    Raises:
        ConfigError: `given` is not a positive multiple of 16.
    """
    if given >= STEP and given % STEP == 0:
        return
    raise ConfigError(
        "SDUNet cannot split this width among the convolutions of a block",
        given=f"base_channels={given}",
        allowed=f"multiples of {STEP}, because the last two convolutions get one {STEP}th each",
        fix=f"set model.base_channels={max(-(-given // STEP), 1) * STEP}",
    )
