"""What MultiResUNet and DC-UNet share: the width rule, chains of convolutions, Res-Paths, and Keras' conventions.

Source: Ibtehaz and Rahman 2020 (https://arxiv.org/abs/1902.04049), sections 4.1 and 4.2. Keras' batch norm has eps 1e-3
and momentum 0.99, in torch's way of counting 0.01; `scale=False` leaves only its shift.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.blocks import BATCH_NORM, CONV, check_range, concat

BN_EPS = 1e-3
BN_MOMENTUM = 0.01
CHAIN_SHARES = (0.167, 0.333, 0.5)  # of the width W, for the fields 3, 5 and 7


def chain_widths(net: str, units: Sequence[int], width_factor: float) -> list[list[int]]:
    """Filters of the three convolutions of a chain at each level: shares of W = alpha U, cut to whole numbers.

    Args:
        net: name for messages.
        units: U of each level, shallow to deep.
        width_factor: alpha, the paper's 1.67.

    Raises:
        ConfigError: a width too small for the narrowest convolution to keep one filter.
    """
    check_range(net, "width_factor", width_factor, at_least=0.1)
    check_range(net, "base_channels", units[0], at_least=int(1 / CHAIN_SHARES[0] / width_factor) + 1)
    return [[int(share * width_factor * unit) for share in CHAIN_SHARES] for unit in units]


class Chain(nn.Module):
    """Three 3-wide convolutions in series whose outputs, with fields 3, 5 and 7, stand side by side.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        widths: filters of the three convolutions.

    Shape:
        (N, in_channels, *spatial) -> (N, sum(widths), *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, widths: list[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ConvShift(spatial_dims, before, width)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.norm = keras_norm(spatial_dims, sum(widths))

    def forward(self, x: Tensor) -> Tensor:
        """The three outputs, normalised; shapes as in the class."""
        outputs = []
        for conv in self.convs:
            x = conv(x)
            outputs.append(x)
        return self.norm(concat(*outputs))  # type: ignore[no-any-return]


class ResPath(nn.Sequential):
    """Skip connection of residual steps that bring an encoder feature nearer to the decoder's.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the encoder feature.
        out_channels: filters of each step.
        n_steps: length; 4 at the first level, 1 at the deepest.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, *, n_steps: int) -> None:
        inputs = [in_channels] + [out_channels] * (n_steps - 1)
        super().__init__(*(ResStep(spatial_dims, channels, out_channels) for channels in inputs))


class ResStep(nn.Module):
    """BN(ReLU(1-wide convolution + 3-wide convolution)).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.shortcut = ConvShift(spatial_dims, in_channels, out_channels, kernel_size=1, act=False)
        self.conv = ConvShift(spatial_dims, in_channels, out_channels)
        self.norm = keras_norm(spatial_dims, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Step output; shapes as in the class."""
        return self.norm(F.relu(self.shortcut(x) + self.conv(x)))  # type: ignore[no-any-return]


class ConvShift(nn.Module):
    """Convolution without bias, batch norm with a learned shift but no scale (Keras `scale=False`), optional ReLU.

    The shift stands beside an affine-free norm, not inside it, so that a conversion to SyncBatchNorm keeps it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd kernel, in pixels.
        act: whether a ReLU follows.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, kernel_size: int = 3, act: bool = True
    ) -> None:
        super().__init__()
        pad = kernel_size // 2
        self.conv = CONV[spatial_dims](in_channels, out_channels, kernel_size, padding=pad, bias=False)
        self.norm = keras_norm(spatial_dims, out_channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(out_channels))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Convolved, normalised, shifted; shapes as in the class."""
        x = self.norm(self.conv(x))
        x = x + self.shift.to(x.dtype).view(-1, *[1] * (x.ndim - 2))  # stays in bfloat16 under autocast
        return F.relu(x) if self.act else x


def keras_norm(spatial_dims: int, channels: int, *, affine: bool = True) -> nn.Module:
    """Batch norm with Keras' eps and momentum."""
    return BATCH_NORM[spatial_dims](channels, eps=BN_EPS, momentum=BN_MOMENTUM, affine=affine)


def init_glorot(net: nn.Module) -> None:
    """Draw all convolution weights Glorot-uniform and zero their biases, as Keras does."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
