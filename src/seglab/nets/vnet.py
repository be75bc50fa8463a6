"""V-Net (Milletari, Navab, Ahmadi 2016, https://arxiv.org/abs/1606.04797): 5-wide convolutions in residual stages.

The paper's text, figure and table of receptive fields ask for 1, 2, 3, 3, 3 convolutions on the way down and 3, 3, 2, 1
on the way up; the network description (prototxt) that the authors published has 1, 1, 2, 3, 3 and 3, 2, 1, 1, and a
5-wide convolution with PReLU before the 1-wide head. Weights are drawn as in that description.
Differs from the paper: any number of input channels and classes; optional norm and dropout, which later ports added;
2-D by the same rules.
"""

import math
from collections import OrderedDict

from torch import Tensor, nn

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, CONV_TRANSPOSE, NORMS, check_choice, check_range, concat, make_norm

N_DOWNS = 4
N_CONVS = {  # per stage, on the way down and on the way up
    "paper": ((1, 2, 3, 3, 3), (3, 3, 2, 1)),
    "prototxt": ((1, 1, 2, 3, 3), (3, 2, 1, 1)),
}
DROPOUT: dict[int, type[nn.Dropout2d] | type[nn.Dropout3d]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


class VNet(SegmentationNet):
    """V-Net for 2-D and 3-D images (Milletari, Navab, Ahmadi 2016): 5-wide residual stages, PReLU; returns logits.

    The defaults are the paper's network. The residual of the first stage is the image itself, tiled to `base_channels`:
    channel i of the stage gets image channel i modulo in_channels, which for one channel is the paper's broadcast. If
    the image has more channels than the stage, the last of them enter through the convolution alone.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first stage; each stage below doubles them.
        layout: "paper" or "prototxt", the authors' published network description.
        norm: None as in the paper, "batch", "instance" or "group", after each convolution but the last.
        dropout: probability of a channel in front of the convolutions (not in the residual) of the two deepest stages
            on either way, in [0, 1); the paper's 0.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1606.04797"
    size_multiple = 2**N_DOWNS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 3,
        base_channels: int = 16,
        layout: str = "paper",
        norm: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("VNet", "base_channels", base_channels, at_least=1)
        check_choice("VNet", "layout", layout, tuple(N_CONVS))
        check_choice("VNet", "norm", norm, NORMS)
        check_range("VNet", "dropout", dropout, at_least=0.0, below=1.0)
        n_down, n_up = N_CONVS[layout]
        widths = [base_channels * 2**level for level in range(N_DOWNS + 1)]

        dropouts = [0.0] * (N_DOWNS - 1) + [dropout] * 2  # of the stages down, shallow to deep; mirrored on the way up
        self.encoder = nn.ModuleList(
            Stage(spatial_dims, before, width, n_convs, norm=norm, dropout=drop)
            for before, width, n_convs, drop in zip([in_channels, *widths[1:]], widths, n_down, dropouts, strict=True)
        )
        self.downs = nn.ModuleList(
            normed(CONV[spatial_dims](width, 2 * width, 2, stride=2), spatial_dims, norm) for width in widths[:-1]
        )
        below = [widths[-1], *widths[:1:-1]]  # the bottom, then twice the skip of the stage before
        self.decoder = nn.ModuleList(
            UpStage(spatial_dims, before, width, n_convs, norm=norm, dropout=drop)
            for before, width, n_convs, drop in zip(below, widths[-2::-1], n_up, dropouts[:0:-1], strict=True)
        )
        self.head = make_head(spatial_dims, 2 * base_channels, num_classes, layout=layout, norm=norm)
        init_msra_average(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, base, *spatial)
        skips = []
        for down, stage in zip(self.downs, self.encoder[1:], strict=True):
            skips.append(x)
            x = stage(down(x))  # (N, base * 2**level, *spatial / 2**level)
        for up_stage in self.decoder:
            x = up_stage(x, skips.pop())  # (N, twice the channels of the skip, *size of the skip)
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


class Stage(nn.Module):
    """Residual stage: PReLU(convolutions(x) + x), with a PReLU between the convolutions (section 2).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input, which is tiled where they are not `channels`.
        channels: channels of the output.
        n_convs: 5-wide convolutions, at least 1.
        norm: norm after each convolution.
        dropout: probability of a channel in front of the convolutions.

    Shape:
        (N, in_channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: int, n_convs: int, *, norm: str | None, dropout: float
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dropout = DROPOUT[spatial_dims](dropout)
        self.convs = nn.Sequential()
        for index in range(n_convs):
            conv = CONV[spatial_dims](channels if index else in_channels, channels, 5, padding=2)
            self.convs.append(normed(conv, spatial_dims, norm, has_act=index < n_convs - 1))
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Stage output; shapes as in the class."""
        return self.act(self.convs(self.dropout(x)) + tile(x, self.channels))  # type: ignore[no-any-return]


class UpStage(nn.Module):
    """Up-convolution, skip beside it, residual stage on both.

    Args:
        spatial_dims: 2 or 3.
        below_channels: channels of the feature from below.
        channels: channels of the skip, half of those of the output.
        n_convs: 5-wide convolutions of the stage.
        norm: norm after each convolution.
        dropout: probability of a channel in front of the stage's convolutions.

    Shape:
        below (N, below_channels, *spatial / 2), skip (N, channels, *spatial) -> (N, 2 * channels, *spatial).
    """

    def __init__(
        self, spatial_dims: int, below_channels: int, channels: int, n_convs: int, *, norm: str | None, dropout: float
    ) -> None:
        super().__init__()
        up = CONV_TRANSPOSE[spatial_dims](below_channels, channels, 2, stride=2)
        self.up = normed(up, spatial_dims, norm)
        self.stage = Stage(spatial_dims, 2 * channels, 2 * channels, n_convs, norm=norm, dropout=dropout)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Stage output; shapes as in the class."""
        return self.stage(concat(self.up(below), skip))  # type: ignore[no-any-return]


def make_head(spatial_dims: int, in_channels: int, num_classes: int, *, layout: str, norm: str | None) -> nn.Module:
    """1-wide convolution to the classes, in the prototxt after a 5-wide one that already has their number."""
    conv = CONV[spatial_dims]
    if layout == "paper":
        return conv(in_channels, num_classes, 1)
    wide = normed(conv(in_channels, num_classes, 5, padding=2), spatial_dims, norm)
    return nn.Sequential(OrderedDict[str, nn.Module](wide=wide, out=conv(num_classes, num_classes, 1)))


def normed(
    conv: nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d,
    spatial_dims: int,
    norm: str | None,
    *,
    has_act: bool = True,
) -> nn.Sequential:
    """A convolution, its norm and a PReLU with a slope per channel, called conv, norm and act."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if norm is not None:
        layers["norm"] = make_norm(norm, spatial_dims, conv.out_channels)
    if has_act:
        layers["act"] = nn.PReLU(conv.out_channels)
    return nn.Sequential(layers)


def tile(x: Tensor, channels: int) -> Tensor:
    """Repeat the channels of x in turn until there are `channels` of them."""
    n_given = x.shape[1]
    if n_given == channels:
        return x
    return x.repeat(1, -(-channels // n_given), *[1] * (x.ndim - 2))[:, :channels]


def init_msra_average(net: nn.Module) -> None:
    """Draw weights from N(0, sqrt(2 / n)) and zero the biases; n averages the inputs and outputs of a weight.

    That is Caffe's msra filler with variance_norm AVERAGE, which the authors' network description asks for.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            weight = module.weight
            n_average = (weight.shape[0] + weight.shape[1]) / 2 * weight[0, 0].numel()
            nn.init.normal_(weight, std=math.sqrt(2 / n_average))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
