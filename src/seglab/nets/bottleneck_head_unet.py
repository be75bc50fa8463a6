"""U-Net with a supervised bottleneck (Zahra, Ali, Siddique 2020, https://arxiv.org/abs/2005.05218).

The paper adds two fully connected layers on the bottleneck of a plain U-Net that predict the ground truth, under
pixel-wise cross-entropy, while the output is trained with L1; they are dropped at inference. Widths, the resolution of
the head and its form are our reconstruction: the paper gives none of them.
Differs from the paper: returns logits, optional norm after each 3-wide convolution, 3-D by the same rules.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from seglab.errors import ConfigError, ShapeError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import (
    CONV,
    CONV_TRANSPOSE,
    MAX_POOL,
    NORMS,
    DoubleConv,
    check_choice,
    check_range,
    concat,
    init_he,
)

N_POOLINGS = 4
HEADS = ("pixelwise", "dense")
REDUCED_CHANNELS = 16  # what a dense head sees of each bottleneck pixel, to keep its first layer finite


class BottleneckHeadUNet(SegmentationNet):
    """U-Net for 2-D and 3-D images (Zahra, Ali, Siddique 2020): its bottleneck is supervised too; returns logits.

    `forward` is U-Net and leaves the head aside, so its logits are the same without the head. Training needs a loss on
    what `forward_auxiliary` gives; without one the head's parameters stay unused.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them.
        norm: None as in the paper, "batch", "instance" or "group", after each 3-wide convolution.
        head: "pixelwise", two linear layers at each bottleneck pixel, or "dense", two linear layers over all
            bottleneck pixels together, after a 1-wide convolution to 16 channels.
        head_channels: width between the two linear layers.
        use_relu: whether a ReLU stands between them; "predict by linear transformation" argues for none.
        image_size: spatial size in pixels that a dense head is built for; a pixelwise head needs none.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range, or a dense head has no fitting `image_size`.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2005.05218"
    faithfulness = "reconstruction"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 64,
        norm: str | None = None,
        head: str = "pixelwise",
        head_channels: int = 256,
        use_relu: bool = True,
        image_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        name = "BottleneckHeadUNet"
        check_range(name, "base_channels", base_channels, at_least=1)
        check_choice(name, "norm", norm, NORMS)
        check_choice(name, "head", head, HEADS)
        check_range(name, "head_channels", head_channels, at_least=1)
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.encoder = nn.ModuleList(
            DoubleConv(spatial_dims, before, width, norm=norm)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.decoder = nn.ModuleList(UpLevel(spatial_dims, width, norm=norm) for width in reversed(widths[:-1]))
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)
        init_he(self)  # before the head is built: from one seed, these weights are then those of U-Net
        if head == "pixelwise":
            self.bottleneck_head: nn.Module = make_pixelwise_head(
                spatial_dims, widths[-1], head_channels, num_classes, use_relu=use_relu
            )
        else:
            size = checked_size(image_size, spatial_dims)
            self.bottleneck_head = DenseHead(
                spatial_dims, widths[-1], head_channels, num_classes, use_relu=use_relu, image_size=size
            )
        init_he(self.bottleneck_head)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        return self.decode(self.encode(image))

    def forward_auxiliary(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the logits that the head predicts from the bottleneck.

        Shape:
            image (N, in_channels, *spatial) -> (N, num_classes, *spatial), (N, num_classes, *spatial / 16).

        Raises:
            ShapeError: a dense head was built for another size.
        """
        self.check_input(image)
        features = self.encode(image)
        return self.decode(features), self.bottleneck_head(features[-1])

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """The logits of the bottleneck head and the logits."""
        logits, head_logits = self.forward_auxiliary(image)
        return [head_logits, logits]

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of all levels, shallow to deep: (N, base * 2**level, *spatial / 2**level)."""
        features = [self.encoder[0](image)]
        for block in self.encoder[1:]:
            features.append(block(self.pool(features[-1])))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits from the features of all levels: (N, num_classes, *spatial)."""
        x = features[-1]
        for level, skip in zip(self.decoder, features[-2::-1], strict=True):
            x = level(x, skip)  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]


class UpLevel(nn.Module):
    """One decoder level: up-convolution, skip beside it, two convolutions.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the output, half of those from below.
        norm: norm of the convolutions.

    Shape:
        below (N, 2 * channels, *spatial / 2), skip (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, norm: str | None) -> None:
        super().__init__()
        self.up = CONV_TRANSPOSE[spatial_dims](2 * channels, channels, 2, stride=2)
        self.conv = DoubleConv(spatial_dims, 2 * channels, channels, norm=norm)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        return self.conv(concat(skip, self.up(below)))  # type: ignore[no-any-return]


def make_pixelwise_head(
    spatial_dims: int, in_channels: int, inner_channels: int, num_classes: int, *, use_relu: bool
) -> nn.Sequential:
    """Two linear layers at each pixel: (N, in_channels, *spatial) -> (N, num_classes, *spatial)."""
    conv = CONV[spatial_dims]
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            first=conv(in_channels, inner_channels, 1),
            act=nn.ReLU() if use_relu else nn.Identity(),
            second=conv(inner_channels, num_classes, 1),
        )
    )


class DenseHead(nn.Module):
    """Two linear layers over all pixels together, after a 1-wide convolution that thins the channels.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the bottleneck.
        inner_channels: width between the layers.
        num_classes: classes of the logits.
        use_relu: whether a ReLU stands between the layers.
        image_size: spatial size of the network's input, in multiples of 16.

    Shape:
        (N, in_channels, *image_size / 16) -> (N, num_classes, *image_size / 16).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        inner_channels: int,
        num_classes: int,
        *,
        use_relu: bool,
        image_size: Sequence[int],
    ) -> None:
        super().__init__()
        self.image_size = tuple(image_size)
        self.size = tuple(length // 2**N_POOLINGS for length in image_size)
        n_pixels = math.prod(self.size)
        self.reduce = CONV[spatial_dims](in_channels, REDUCED_CHANNELS, 1)
        self.first = nn.Linear(REDUCED_CHANNELS * n_pixels, inner_channels)
        self.act = nn.ReLU() if use_relu else nn.Identity()
        self.second = nn.Linear(inner_channels, num_classes * n_pixels)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Logits at the bottleneck's resolution; shapes as in the class."""
        if tuple(bottleneck.shape[2:]) != self.size:
            given = [length * 2**N_POOLINGS for length in bottleneck.shape[2:]]
            raise ShapeError(
                "the dense bottleneck head cannot take this size",
                given="x".join(map(str, given)),
                allowed=f"{'x'.join(map(str, self.image_size))}, which it was built for",
                fix=f"set model.image_size=[{','.join(map(str, given))}] or model.head=pixelwise",
            )
        x = self.act(self.first(self.reduce(bottleneck).flatten(1)))  # (N, inner_channels)
        return self.second(x).unflatten(1, (-1, *self.size))  # type: ignore[no-any-return]


def checked_size(image_size: Sequence[int] | None, spatial_dims: int) -> Sequence[int]:
    """The input size of a dense head, if it is one.

    Raises:
        ConfigError: none given, of other dimensions, or not in multiples of 16.
    """
    step = 2**N_POOLINGS
    if image_size is not None and len(image_size) == spatial_dims and all(n > 0 and n % step == 0 for n in image_size):
        return image_size
    raise ConfigError(
        "BottleneckHeadUNet with head=dense needs a fixed input size",
        given=f"image_size={'null' if image_size is None else list(image_size)}",
        allowed=f"{spatial_dims} multiples of {step}, the patch size that it is trained on",
        fix=f"set model.image_size=[{','.join(['256'] * spatial_dims)}] or model.head=pixelwise",
    )
