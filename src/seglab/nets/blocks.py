"""Parts that several networks share: layers by dimension, convolution blocks, a gate, initialisation, checks."""

import difflib
import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM: dict[int, type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]] = {
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}
LINEAR_UPSAMPLING = {2: "bilinear", 3: "trilinear"}
NORMS = (None, "batch", "instance", "group")


class ConvNormAct(nn.Sequential):
    """Convolution with bias, optional norm, ReLU; the children are called conv, norm and act.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd kernel, in pixels.
        norm: None, "batch", "instance" or "group".
        padding: "same" keeps the size, "valid" cuts kernel_size - 1 pixels off each axis.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial), smaller with padding="valid".
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        norm: str | None = "batch",
        padding: str = "same",
    ) -> None:
        pad = kernel_size // 2 if padding == "same" else 0
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = CONV[spatial_dims](in_channels, out_channels, kernel_size, padding=pad)
        if norm is not None:
            layers["norm"] = make_norm(norm, spatial_dims, out_channels)
        layers["act"] = nn.ReLU(inplace=True)
        super().__init__(layers)


class DoubleConv(nn.Sequential):
    """Two 3-wide ConvNormAct in series, called first and second: the level of U-Net.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of both convolutions.
        norm: None, "batch", "instance" or "group".
        padding: "same", or "valid", which cuts 4 pixels off each axis.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial), 4 px smaller with padding="valid".
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        norm: str | None = "batch",
        padding: str = "same",
    ) -> None:
        first = ConvNormAct(spatial_dims, in_channels, out_channels, norm=norm, padding=padding)
        second = ConvNormAct(spatial_dims, out_channels, out_channels, norm=norm, padding=padding)
        super().__init__(OrderedDict[str, nn.Module](first=first, second=second))


class AttentionGate(nn.Module):
    """Additive gate of Attention U-Net at skip resolution, with a norm after each projection.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip x and of the gating signal g.
        inner_channels: width of the joint space, half of `channels` by convention.

    Shape:
        x (N, channels, *spatial), g (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, inner_channels: int) -> None:
        super().__init__()
        self.project_skip = conv_norm(spatial_dims, channels, inner_channels)
        self.project_gate = conv_norm(spatial_dims, channels, inner_channels)
        self.score = conv_norm(spatial_dims, inner_channels, 1)

    def alpha(self, x: Tensor, g: Tensor) -> Tensor:
        """Attention coefficients in (0, 1), one per pixel: (N, 1, *spatial)."""
        return torch.sigmoid(self.score(F.relu(self.project_skip(x) + self.project_gate(g))))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Weighed skip; shapes as in the class."""
        return x * self.alpha(x, g)


def conv_norm(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """1-wide convolution with bias and batch norm."""
    return nn.Sequential(CONV[spatial_dims](in_channels, out_channels, 1), BATCH_NORM[spatial_dims](out_channels))


def make_norm(kind: str, spatial_dims: int, channels: int) -> nn.Module:
    """Learned normalisation of `channels` feature maps.

    Args:
        kind: "batch", "instance" (with scale and shift) or "group" (8 groups, fewer where 8 does not divide).
        spatial_dims: 2 or 3.
        channels: number of feature maps.
    """
    if kind == "batch":
        return BATCH_NORM[spatial_dims](channels)
    if kind == "instance":
        return INSTANCE_NORM[spatial_dims](channels, affine=True)
    return nn.GroupNorm(math.gcd(8, channels), channels)


def init_he(net: nn.Module) -> None:
    """Draw all convolution weights from N(0, sqrt(2 / N)) and zero their biases (U-Net paper, section 3).

    N counts the inputs of one output: kernel volume times input channels, and the input channels alone for a transposed
    convolution whose stride equals its kernel, where each output pixel sees one input pixel.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            n_inputs = module.weight[0].numel()
        elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
            n_inputs = module.in_channels
        else:
            continue
        nn.init.normal_(module.weight, std=math.sqrt(2 / n_inputs))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def concat(*features: Tensor) -> Tensor:
    """Join features along their channels."""
    return torch.cat(features, dim=1)


def check_choice(net: str, argument: str, given: str | None, allowed: Sequence[str | None]) -> None:
    """Refuse a word that is not among the allowed ones, and name the nearest.

    Raises:
        ConfigError: `given` is not allowed.
    """
    if given in allowed:
        return
    words = ["null" if word is None else word for word in allowed]
    nearest = difflib.get_close_matches(str(given), words, n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"{net} knows no such {argument}",
        given=f"{argument}={given}",
        allowed=", ".join(words),
        fix=f"set model.{argument}={nearest}",
    )


def check_range(net: str, argument: str, given: float, *, at_least: float, below: float = math.inf) -> None:
    """Refuse a number outside [at_least, below).

    Raises:
        ConfigError: `given` lies outside.
    """
    if at_least <= given < below:
        return
    upper = "" if below == math.inf else f" and less than {below}"
    raise ConfigError(
        f"{net} cannot be built with this {argument}",
        given=f"{argument}={given}",
        allowed=f"{at_least} or more{upper}",
        fix=f"set model.{argument}={at_least}",
    )
