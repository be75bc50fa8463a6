"""DC-UNet (Lou, Guan, Loew 2021, https://arxiv.org/abs/2006.00414), the paper's network with its Keras conventions.

Differs from the paper: returns the output of the last batch norm as logits, K classes give K channels, 3-D by the same
rules. The authors' later PyTorch port is another network (shortcut in the block, reflection padding, tanh).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import BATCH_NORM, CONV, CONV_TRANSPOSE, MAX_POOL, check_range, concat

BN_EPS = 1e-3  # Keras
BN_MOMENTUM = 0.01  # Keras counts the other way: 0.99
CHAIN_SHARES = (0.167, 0.333, 0.5)  # of the width W, for the fields 3, 5 and 7
N_POOLINGS = 4


class DCUNet(SegmentationNet):
    """DC-UNet for 2-D and 3-D images (Lou, Guan, Loew 2021): dual-channel blocks and Res-Paths; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: U of the first level; each pooling doubles it. The paper's 32.
        width_factor: alpha of the width rule W = alpha U. The paper's 1.67.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 32,
        width_factor: float = 1.67,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        # The narrowest convolution keeps one filter.
        check_range("DCUNet", "width_factor", width_factor, at_least=0.1)
        check_range("DCUNet", "base_channels", base_channels, at_least=int(1 / CHAIN_SHARES[0] / width_factor) + 1)
        units = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        widths = [[int(share * width_factor * unit) for share in CHAIN_SHARES] for unit in units]
        outs = [sum(width) for width in widths]

        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            DCBlock(spatial_dims, before, width) for before, width in zip([in_channels, *outs], widths, strict=False)
        )
        self.res_paths = nn.ModuleList(
            ResPath(spatial_dims, outs[level], units[level], n_steps=N_POOLINGS - level) for level in range(N_POOLINGS)
        )
        deep_to_shallow = range(N_POOLINGS - 1, -1, -1)
        self.ups = nn.ModuleList(
            CONV_TRANSPOSE[spatial_dims](outs[level + 1], units[level], 2, stride=2) for level in deep_to_shallow
        )
        self.decoder = nn.ModuleList(
            DCBlock(spatial_dims, 2 * units[level], widths[level]) for level in deep_to_shallow
        )
        self.final = ConvShift(spatial_dims, outs[0], num_classes, kernel_size=1, act=False)
        init_glorot(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, 51, *spatial) with the default widths
        skips = []
        for block, res_path in zip(self.encoder[1:], self.res_paths, strict=True):
            skips.append(res_path(x))
            x = block(self.pool(x))  # (N, 105 | 212 | 426 | 853, *spatial / 2**level)
        for up, block in zip(self.ups, self.decoder, strict=True):
            x = block(concat(up(x), skips.pop()))  # (N, 426 | 212 | 105 | 51, twice the size)
        return self.final(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


class DCBlock(nn.Module):
    """Dual-channel block: BN(ReLU(chain(x) + another chain(x))), no shortcut (figure 4).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        widths: filters of the three convolutions of each chain.

    Shape:
        (N, in_channels, *spatial) -> (N, sum(widths), *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, widths: list[int]) -> None:
        super().__init__()
        self.left = Chain(spatial_dims, in_channels, widths)
        self.right = Chain(spatial_dims, in_channels, widths)
        self.norm = keras_norm(spatial_dims, sum(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        return self.norm(F.relu(self.left(x) + self.right(x)))  # type: ignore[no-any-return]


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
