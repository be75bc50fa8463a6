"""3D U-Net (Cicek et al. 2016, https://arxiv.org/abs/1606.06650), the paper's network and its valid mode.

Differs from the paper: "same" padding by default; the norm can be another or none; 2-D by the same rules.
"""

from collections import OrderedDict
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

N_POOLINGS = 3
SMALLEST_VALID = 92  # gives 4 pixels with padding="valid", where 88 are lost on each axis
VALID_LOSS = 88


class UNet3D(SegmentationNet):
    """3D U-Net for 2-D and 3-D images (Cicek et al. 2016): batch norm, channels doubled before pooling; returns logits.

    The defaults are the paper's network (figure 2) apart from the padding. Convolutions have biases, up-convolutions
    have none. The paper's 19,069,955 parameters (3 channels, 3 classes) are all weights and biases of convolutions; the
    4,672 scales and shifts of the batch norms are not among them, so the trainable parameters are 19,074,627.

    With padding="valid" the output is 88 pixels smaller per axis: pad the image to `input_size_for(size)` and cut the
    centre of the output; 132x132x116 give the paper's 44x44x28.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first convolution; the second of each encoder level doubles them. The paper's 32.
        padding: "same", or "valid" as in the paper.
        norm: "batch" as in the paper, None, "instance" or "group", in front of each ReLU.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 8; smaller with
        padding="valid".

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1606.06650"
    size_multiple: int = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 3,
        base_channels: int = 32,
        padding: str = "same",
        norm: str | None = "batch",
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("UNet3D", "base_channels", base_channels, at_least=1)
        check_choice("UNet3D", "padding", padding, ("same", "valid"))
        check_choice("UNet3D", "norm", norm, NORMS)
        self.padding = padding

        widths = [2 * base_channels * 2**level for level in range(N_POOLINGS + 1)]  # 64, 128, 256, 512
        self.encoder = nn.ModuleList(
            DownLevel(spatial_dims, before, width, norm=norm, padding=padding)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.decoder = nn.ModuleList(
            UpLevel(spatial_dims, width, norm=norm, padding=padding, depth=N_POOLINGS - level)
            for level, width in reversed(list(enumerate(widths[:-1])))
        )
        self.head = CONV[spatial_dims](widths[0], num_classes, 1)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, 2 * base, *spatial)
        skips = []
        for level in self.encoder[1:]:
            skips.append(x)
            x = level(self.pool(x))  # twice the channels, half the size
        for level in self.decoder:
            x = level(x, skips.pop())  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`."""
        if self.padding == "same":
            return super().input_size_for(size)
        return tuple(self._next_valid(length + VALID_LOSS) for length in size)

    def check_input(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank, channel count or size.

        Raises:
            ShapeError: names the size to pad to.
        """
        if self.padding == "same":
            super().check_input(image)
            return
        self.check_axes(image)
        size = tuple(image.shape[2:])
        wanted = tuple(self._next_valid(length) for length in size)
        if wanted != size:
            raise ShapeError(
                "UNet3D with padding=valid cannot take this size",
                given="x".join(map(str, size)),
                allowed=f"{SMALLEST_VALID}, {SMALLEST_VALID + 8}, {SMALLEST_VALID + 16}, ... along each axis",
                fix=f"pad to {'x'.join(map(str, wanted))} or set model.padding=same",
            )

    def _next_valid(self, length: int) -> int:
        step = self.size_multiple
        return max(SMALLEST_VALID, -(-(length - SMALLEST_VALID) // step) * step + SMALLEST_VALID)


class DownLevel(nn.Sequential):
    """Two ConvNormAct in series, called first and second; the second doubles the channels (in front of the pooling).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output; the first convolution has half of them.
        norm: norm of the convolutions.
        padding: padding of the convolutions.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial), 4 px smaller with padding="valid".
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, norm: str | None, padding: str
    ) -> None:
        inner = out_channels // 2
        first = ConvNormAct(spatial_dims, in_channels, inner, norm=norm, padding=padding)
        second = ConvNormAct(spatial_dims, inner, out_channels, norm=norm, padding=padding)
        super().__init__(OrderedDict[str, nn.Module](first=first, second=second))


class UpLevel(nn.Module):
    """One decoder level: up-convolution that keeps the channels, (cropped) skip beside it, two convolutions.

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
        self.up = CONV_TRANSPOSE[spatial_dims](2 * channels, 2 * channels, 2, stride=2, bias=False)
        self.conv = DoubleConv(spatial_dims, 3 * channels, channels, norm=norm, padding=padding)
        # A valid skip is 8, 32, 80 px larger above 1, 2, 3 poolings: D(n) = 2 (D(n - 1) + 8), D(0) = -4, half per side.
        margin = 6 * 2**depth - 8 if padding == "valid" else 0
        self.crop = [-margin] * (2 * spatial_dims)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        skip = F.pad(skip, self.crop) if self.crop[0] else skip
        return self.conv(concat(skip, self.up(below)))  # type: ignore[no-any-return]
