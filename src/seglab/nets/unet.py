"""U-Net (Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597).

Differs from the paper: "same" padding by default, optional norm after each 3-wide convolution, 3-D by the same rules.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ShapeError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import (
    CONV,
    CONV_TRANSPOSE,
    MAX_POOL,
    NORMS,
    ConvNormAct,
    DoubleConv,
    check_choice,
    check_range,
    concat,
    init_he,
)


class UNet(SegmentationNet):
    """U-Net for 2-D and 3-D images (Ronneberger, Fischer, Brox 2015): encoder, decoder, skips; returns logits.

    The defaults are the paper's network (figure 1) apart from the padding. With padding="valid" the output is smaller
    than the input by 12 * 2**n_poolings - 8 pixels per axis: pad the image (mirrored, as in the paper) to
    `input_size_for(size)` and cut the centre of the output.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them.
        n_poolings: poolings, at least 1; the network has one level more.
        padding: "same", or "valid" as in the paper.
        norm: None as in the paper, "batch", "instance" or "group", after each 3-wide convolution.
        dropout: probability at the end of the contracting path (the two deepest levels), in [0, 1).
        conv_bias: whether the 3-wide convolutions have a bias, as in the paper; a batch or instance norm removes it.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), smaller with padding="valid".

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1505.04597"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 64,
        n_poolings: int = 4,
        padding: str = "same",
        norm: str | None = None,
        dropout: float = 0.0,
        conv_bias: bool = True,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("UNet", "base_channels", base_channels, at_least=1)
        check_range("UNet", "n_poolings", n_poolings, at_least=1)
        check_choice("UNet", "padding", padding, ("same", "valid"))
        check_choice("UNet", "norm", norm, NORMS)
        check_range("UNet", "dropout", dropout, at_least=0.0, below=1.0)
        self.n_poolings, self.padding, self.size_multiple = n_poolings, padding, 2**n_poolings

        widths = [base_channels * 2**level for level in range(n_poolings + 1)]
        self.encoder = nn.ModuleList(
            DoubleConv(spatial_dims, before, width, norm=norm, padding=padding)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.ModuleList(
            UpLevel(spatial_dims, width, norm=norm, padding=padding, depth=n_poolings - level)
            for level, width in reversed(list(enumerate(widths[:-1])))
        )
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)
        if not conv_bias:
            drop_biases(self)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, base, *spatial)
        skips = []
        for level, block in enumerate(self.encoder[1:], start=1):
            x = self.dropout(x) if level == self.n_poolings else x
            skips.append(x)
            x = block(self.pool(x))  # (N, base * 2**level, *spatial / 2**level)
        x = self.dropout(x)
        for block in self.decoder:
            x = block(x, skips.pop())  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`.

        Valid convolutions leave 2**n * (b - 4) + 4 pixels of an input of 2**n * (b + 8) - 4, where b is the size of the
        deepest level after its convolutions and n the number of poolings.
        """
        if self.padding == "same":
            return super().input_size_for(size)
        step = self.size_multiple
        deepest = [-(-(length - 4) // step) + 4 for length in size]
        return tuple(step * (length + 8) - 4 for length in deepest)

    def check_input(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank, channel count or size.

        Raises:
            ShapeError: names the size to pad to.
        """
        if self.padding == "same":
            super().check_input(image)
            return
        self.check_axes(image)
        step, smallest = self.size_multiple, self.input_size_for([1])[0]
        size = tuple(image.shape[2:])
        wanted = tuple(max(-(-(length + 4) // step) * step - 4, smallest) for length in size)
        if wanted != size:
            raise ShapeError(
                "UNet with padding=valid cannot take this size",
                given="x".join(map(str, size)),
                allowed=f"{smallest}, {smallest + step}, {smallest + 2 * step}, ... along each axis",
                fix=f"pad to {'x'.join(map(str, wanted))} or set model.padding=same",
            )


class UpLevel(nn.Module):
    """One decoder level: up-convolution, (cropped) skip beside it, two convolutions.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the output, half of those from below.
        norm: norm of the convolutions.
        padding: padding of the convolutions.
        depth: poolings below this level, from which follows how much a valid skip is larger.

    Shape:
        below (N, 2 * channels, *spatial / 2), skip (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, norm: str | None, padding: str, depth: int) -> None:
        super().__init__()
        self.up = CONV_TRANSPOSE[spatial_dims](2 * channels, channels, 2, stride=2)
        self.conv = DoubleConv(spatial_dims, 2 * channels, channels, norm=norm, padding=padding)
        # D(0) = -4 and D(n) = 2 (D(n - 1) + 8) is how much larger the skip is, so D(n) = 12 * 2**n - 16.
        margin = 6 * 2**depth - 8 if padding == "valid" else 0
        self.crop = [-margin] * (2 * spatial_dims)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        skip = F.pad(skip, self.crop) if self.crop[0] else skip
        return self.conv(concat(skip, self.up(below)))  # type: ignore[no-any-return]


def drop_biases(net: nn.Module) -> None:
    """Take the biases off all convolutions in ConvNormAct."""
    for module in net.modules():
        if isinstance(module, ConvNormAct):
            module.get_submodule("conv").register_parameter("bias", None)
