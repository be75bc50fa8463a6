"""BS U-Net (Li and Tso 2018, https://arxiv.org/abs/1810.10331): the base network, and the encoding network beside it.

The encoding network learns to reproduce label maps; the base network is then trained on images while its bottleneck is
pulled towards the encoding network's for the same label. Inception, dense and dilated modules are the paper's; their
widths come from an independent port, with whose parameter counts both networks agree.
Differs from the paper: returns logits, torch's batch norm constants, He initialisation (with a bias in the first block,
see `init_weights`), 3-D by the same rules.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, CONV_TRANSPOSE, MAX_POOL, ConvNormAct, check_range, concat, init_he

# Widths in units of the first level's 8 channels.
DOWN_INNER = (2, 2, 4, 8, 12)
DOWN_OUT = (2, 4, 8, 12, 16)
UP_INNER = (16, 12, 8, 4, 2)
UP_OUT = (12, 8, 4, 2, 2)
BOTTLENECK_INNER, BOTTLENECK_OUT = 32, 16
DILATIONS = (1, 3, 5)


class BSUNet(SegmentationNet):
    """BS U-Net for 2-D and 3-D images (Li and Tso 2018): inception, dilated, dense encoder; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level, from which all other widths follow.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 32.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1810.10331"
    faithfulness = "corroborated"
    size_multiple = 2 ** len(DOWN_OUT)

    def __init__(self, *, in_channels: int, num_classes: int, spatial_dims: int = 2, base_channels: int = 8) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("BSUNet", "base_channels", base_channels, at_least=1)
        skips = [2 * width for width in reversed(DOWN_OUT)]  # as wide as what they join
        self.encoder = Encoder(spatial_dims, in_channels, base_channels)
        self.decoder = make_ups(spatial_dims, base_channels, inputs=skips)
        self.head = CONV[spatial_dims](UP_OUT[-1] * base_channels, num_classes, 1)
        init_weights(self, self.encoder)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        return self.forward_bottleneck(image)[0]

    def forward_bottleneck(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the output of the dense block.

        Shape:
            image (N, in_channels, *spatial) -> (N, num_classes, *spatial), (N, 16 * base_channels, *spatial / 32).
        """
        self.check_input(image)
        feature, skips = self.encoder(image)  # (N, 128, *spatial / 32) with the default width
        x = feature
        for up in self.decoder:
            x = up(concat(skips.pop(), x))  # (N, 96 | 64 | 32 | 16 | 16, twice the size)
        return self.head(x), feature

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """The bottleneck feature and the logits."""
        logits, feature = self.forward_bottleneck(image)
        return [feature, logits]


class EncodingUNet(SegmentationNet):
    """Encoding U-Net for 2-D and 3-D label maps (Li and Tso 2018): BS U-Net without skips; returns logits.

    Trained to reproduce its input, a label map; its bottleneck is then the target of a BSUNet of the same width. The
    head is 3-wide.

    Args:
        in_channels: channels of the label map.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level, from which all other widths follow.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 32.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = BSUNet.paper
    faithfulness = "corroborated"
    size_multiple = BSUNet.size_multiple

    def __init__(self, *, in_channels: int, num_classes: int, spatial_dims: int = 2, base_channels: int = 8) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("EncodingUNet", "base_channels", base_channels, at_least=1)
        self.encoder = Encoder(spatial_dims, in_channels, base_channels)
        self.decoder = make_ups(spatial_dims, base_channels, inputs=[BOTTLENECK_OUT, *UP_OUT[:-1]])
        self.head = CONV[spatial_dims](UP_OUT[-1] * base_channels, num_classes, 3, padding=1)
        init_weights(self, self.encoder)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a label map; shapes as in the class."""
        return self.forward_bottleneck(image)[0]

    def forward_bottleneck(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the output of the dense block; shapes as in BSUNet."""
        self.check_input(image)
        feature, _ = self.encoder(image)
        return self.head(self.decoder(feature)), feature


class Encoder(nn.Module):
    """Inception block, five dilated downs, inception block, dense block.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        base_channels: channels of the first block.

    Shape:
        (N, in_channels, *spatial) -> (N, 16 * base_channels, *spatial / 32), and a list of the outputs of the downs.
    """

    def __init__(self, spatial_dims: int, in_channels: int, base_channels: int) -> None:
        super().__init__()
        inner = [width * base_channels for width in DOWN_INNER]
        outs = [width * base_channels for width in DOWN_OUT]
        deep, self.out_channels = BOTTLENECK_INNER * base_channels, BOTTLENECK_OUT * base_channels
        self.first = Inception(spatial_dims, in_channels, base_channels)
        self.downs = nn.ModuleList(
            DilatedDown(spatial_dims, before, width, out)
            for before, width, out in zip([base_channels, *outs], inner, outs, strict=False)
        )
        self.last = Inception(spatial_dims, outs[-1], deep)
        self.dense = Dense(spatial_dims, deep, self.out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Bottleneck feature and skips; shapes as in the class."""
        x = self.first(image)  # (N, 8, *spatial) with the default width
        skips = []
        for down in self.downs:
            x = down(x)  # (N, 16 | 32 | 64 | 96 | 128, half the size)
            skips.append(x)
        return self.dense(self.last(x)), skips


class Inception(nn.Module):
    """Four branches of fields 1, 3 (pooled), 3 and 5 side by side, joined by a 3-wide convolution with norm.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of each branch and of the output.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()

        def conv(channels: int, kernel_size: int) -> ConvNormAct:
            """A convolution without norm to the width of the block."""
            return ConvNormAct(spatial_dims, channels, out_channels, kernel_size=kernel_size, norm=None)

        self.branches = nn.ModuleList(
            [
                conv(in_channels, 1),
                nn.Sequential(MAX_POOL[spatial_dims](3, stride=1, padding=1), conv(in_channels, 1)),
                nn.Sequential(conv(in_channels, 1), conv(out_channels, 3)),
                nn.Sequential(conv(in_channels, 1), conv(out_channels, 5)),
            ]
        )
        self.fuse = ConvNormAct(spatial_dims, 4 * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        return self.fuse(concat(*(branch(x) for branch in self.branches)))  # type: ignore[no-any-return]


class DilatedDown(nn.Module):
    """Halves the size without pooling: branches of fields 3, 7 and 11, a strided convolution, a 1-wide one with norm.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        inner_channels: channels of each branch.
        out_channels: channels of the output.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial / 2).
    """

    def __init__(self, spatial_dims: int, in_channels: int, inner_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.branches = nn.ModuleList(
            conv(in_channels, inner_channels, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )
        self.down = conv(len(DILATIONS) * inner_channels, out_channels, 3, stride=2, padding=1)
        self.fuse = ConvNormAct(spatial_dims, out_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        x = F.relu(concat(*(branch(x) for branch in self.branches)))
        return self.fuse(F.relu(self.down(x)))  # type: ignore[no-any-return]


class Dense(nn.Module):
    """Two 3-wide convolutions, each joined to its input, and a third that gives the bottleneck feature.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the input and growth of each step.
        out_channels: channels of the output.

    Shape:
        (N, channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(ConvNormAct(spatial_dims, n * channels, channels) for n in (1, 2))
        self.fuse = ConvNormAct(spatial_dims, 3 * channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        for step in self.steps:
            x = concat(x, step(x))  # (N, 2 | 3 * channels, *spatial)
        return self.fuse(x)  # type: ignore[no-any-return]


def make_ups(spatial_dims: int, base_channels: int, *, inputs: list[int]) -> nn.Sequential:
    """The five ups of a decoder: 3-wide convolution, up-convolution, 3-wide convolution with norm.

    Args:
        spatial_dims: 2 or 3.
        base_channels: channels that the widths are counted in.
        inputs: channels of each up's input, deep to shallow, in units of base_channels.
    """
    ups = []
    for width_in, width, width_out in zip(inputs, UP_INNER, UP_OUT, strict=True):
        before, inner, out = (base_channels * units for units in (width_in, width, width_out))
        ups.append(
            nn.Sequential(
                ConvNormAct(spatial_dims, before, inner, norm=None),
                CONV_TRANSPOSE[spatial_dims](inner, out, 2, stride=2),
                nn.ReLU(inplace=True),
                ConvNormAct(spatial_dims, out, out),
            )
        )
    return nn.Sequential(*ups)


def init_weights(net: nn.Module, encoder: Encoder) -> None:
    """He initialisation, but the first block's biases start at 0.1.

    With biases of zero, half of its 1-wide filters would be dead on an image or label map that is never negative.
    """
    init_he(net)
    for name, parameter in encoder.first.named_parameters():
        if name.endswith("conv.bias"):
            nn.init.constant_(parameter, 0.1)
