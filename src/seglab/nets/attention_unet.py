"""Attention U-Net (Oktay et al. 2018, https://arxiv.org/abs/1804.03999) in its two common forms.

grid3d is the authors' released 3-D network: gates at half resolution on levels 2 to 4, deep supervision fused into one
output. lee2d is the widely used 2-D form: gates at skip resolution on all four levels. Both work in 2-D and in 3-D.
Differs from the sources: returns logits; linear upsampling does not align corners; one He initialisation throughout.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import (
    CONV,
    LINEAR_UPSAMPLING,
    MAX_POOL,
    AttentionGate,
    ConvNormAct,
    DoubleConv,
    check_choice,
    check_range,
    concat,
    conv_norm,
    init_he,
)

N_POOLINGS = 4
BASE_CHANNELS = {"lee2d": 64, "grid3d": 16}
GATES = {"lee2d": ("single", "none"), "grid3d": ("multi", "single", "none")}  # the first is the form's own


class AttentionUNet(SegmentationNet):
    """Attention U-Net for 2-D and 3-D images (Oktay et al. 2018): gates weigh the skips of U-Net; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them. None: 64 for lee2d, 16 for grid3d.
        form: "lee2d" or "grid3d". None: lee2d in 2-D, grid3d in 3-D.
        gates: "single" or "none", for grid3d also "multi" (two gates per level). None: single for lee2d, multi for
            grid3d, as published.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1804.03999"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int | None = None,
        form: str | None = None,
        gates: str | None = None,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_choice("AttentionUNet", "form", form, (None, *GATES))
        form = form or {2: "lee2d", 3: "grid3d"}[spatial_dims]
        gates = gates or GATES[form][0]
        check_choice(f"AttentionUNet of the form {form}", "gates", gates, GATES[form])
        base_channels = BASE_CHANNELS[form] if base_channels is None else base_channels
        check_range("AttentionUNet", "base_channels", base_channels, at_least=2)
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.encoder = nn.ModuleList(
            DoubleConv(spatial_dims, before, width)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        decoder = LeeDecoder if form == "lee2d" else GridDecoder
        self.decoder = decoder(spatial_dims, widths, num_classes, gates)
        init_he(self)
        if form == "grid3d":
            init_norm_scales(self)

    @property
    def n_heads(self) -> int:
        """Five for grid3d: a map per decoder level and their fusion; one for lee2d."""
        return len(self.decoder.heads) + 1 if isinstance(self.decoder, GridDecoder) else 1

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        return self.decoder(self.encode(image))  # type: ignore[no-any-return]  # (N, num_classes, *spatial)

    def forward_heads(self, image: Tensor) -> list[Tensor]:
        """The maps of the decoder's levels, deepest first, and the output; only grid3d has more than the output.

        The paper's network learns from the output alone; losses of their own for the maps are the modern variant.
        """
        features = self.encode(image)
        if not isinstance(self.decoder, GridDecoder):
            return [self.decoder(features)]
        maps = self.decoder.forward_maps(features)
        return [*maps, self.decoder.fuse(concat(*maps))]

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of all levels, shallow to deep: (N, base * 2**level, *spatial / 2**level)."""
        self.check_input(image)
        features = [self.encoder[0](image)]  # (N, base, *spatial)
        for block in self.encoder[1:]:
            features.append(block(self.pool(features[-1])))  # (N, base * 2**level, *spatial / 2**level)
        return features


class LeeDecoder(nn.Module):
    """Decoder of the 2-D form: four gated levels and a 1-wide convolution.

    Args:
        spatial_dims: 2 or 3.
        widths: channels of the encoder's levels, shallow to deep.
        num_classes: channels of the output.
        gates: "single" or "none".

    Shape:
        features, shallow to deep, of (N, widths[l], *spatial / 2**l) -> (N, num_classes, *spatial).
    """

    def __init__(self, spatial_dims: int, widths: list[int], num_classes: int, gates: str) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            LeeLevel(spatial_dims, width, is_gated=gates == "single") for width in reversed(widths[:-1])
        )
        self.head = CONV[spatial_dims](widths[0], num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits; shapes as in the class."""
        x = features[-1]
        for level, skip in zip(self.levels, features[-2::-1], strict=True):
            x = level(x, skip)  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]


class LeeLevel(nn.Module):
    """Upsample (nearest) and convolve, gate the skip with the result, join, two convolutions.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the output, half of those from below.
        is_gated: whether the skip passes a gate.

    Shape:
        below (N, 2 * channels, *spatial / 2), skip (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, is_gated: bool) -> None:
        super().__init__()
        self.up = ConvNormAct(spatial_dims, 2 * channels, channels)
        self.gate = AttentionGate(spatial_dims, channels, channels // 2) if is_gated else None
        self.conv = DoubleConv(spatial_dims, 2 * channels, channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        above = self.up(F.interpolate(below, scale_factor=2.0, mode="nearest"))  # (N, channels, *spatial)
        skip = skip if self.gate is None else self.gate(skip, above)
        return self.conv(concat(skip, above))  # type: ignore[no-any-return]


class GridDecoder(nn.Module):
    """Decoder of the 3-D form: gates on all levels but the first, one output from four supervised levels.

    Args:
        spatial_dims: 2 or 3.
        widths: channels of the encoder's levels, shallow to deep.
        num_classes: channels of the output.
        gates: "multi", "single" or "none".

    Shape:
        features, shallow to deep, of (N, widths[l], *spatial / 2**l) -> (N, num_classes, *spatial).
    """

    def __init__(self, spatial_dims: int, widths: list[int], num_classes: int, gates: str) -> None:
        super().__init__()
        n_gates = {"multi": 2, "single": 1, "none": 0}[gates]
        conv = CONV[spatial_dims]
        self.gating = ConvNormAct(spatial_dims, widths[-1], widths[-1], kernel_size=1) if n_gates else None
        self.levels = nn.ModuleList(
            GridLevel(spatial_dims, width, n_gates=n_gates if index else 0)
            for index, width in reversed(list(enumerate(widths[:-1])))
        )
        self.heads = nn.ModuleList(conv(width, num_classes, 1) for width in reversed(widths[:-1]))
        self.fuse = conv(len(self.heads) * num_classes, num_classes, 1)
        self.mode = LINEAR_UPSAMPLING[spatial_dims]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits; shapes as in the class."""
        return self.fuse(concat(*self.forward_maps(features)))  # type: ignore[no-any-return]

    def forward_maps(self, features: list[Tensor]) -> list[Tensor]:
        """The class map of each level in the image's size, deepest first: (N, num_classes, *spatial)."""
        x = features[-1]
        g = x if self.gating is None else self.gating(x)
        maps = []
        for index, (level, head) in enumerate(zip(self.levels, self.heads, strict=True)):
            x = level(x, g, features[-2 - index])  # half the channels, twice the size
            g = x
            scale = 2 ** (N_POOLINGS - 1 - index)
            maps.append(upsample(head(x), scale, self.mode))  # (N, num_classes, *spatial)
        return maps


class GridLevel(nn.Module):
    """Upsample (linear, channels kept), gate the skip, join, two convolutions.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the output, half of those from below.
        n_gates: gates side by side on the skip; none leaves it as it is.

    Shape:
        below and g (N, 2 * channels, *spatial / 2), skip (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, n_gates: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(GridGate(spatial_dims, channels, 2 * channels) for _ in range(n_gates))
        self.combine = (
            ConvNormAct(spatial_dims, n_gates * channels, channels, kernel_size=1) if n_gates else nn.Identity()
        )
        self.conv = DoubleConv(spatial_dims, 3 * channels, channels)
        self.mode = LINEAR_UPSAMPLING[spatial_dims]

    def forward(self, below: Tensor, g: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        if len(self.gates) > 0:
            skip = self.combine(concat(*(gate(skip, g) for gate in self.gates)))
        return self.conv(concat(skip, upsample(below, 2, self.mode)))  # type: ignore[no-any-return]


class GridGate(nn.Module):
    """Additive gate on the grid of g, which has half the resolution of x (eq. 1 and figure 2).

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip x, also the width of the joint space.
        gate_channels: channels of the gating signal g.

    Shape:
        x (N, channels, *spatial), g (N, gate_channels, *spatial / 2) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, gate_channels: int) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.theta = conv(channels, channels, 2, stride=2, bias=False)
        self.phi = conv(gate_channels, channels, 1)
        self.psi = conv(channels, 1, 1)
        self.out = conv_norm(spatial_dims, channels, channels)
        self.mode = LINEAR_UPSAMPLING[spatial_dims]

    def alpha(self, x: Tensor, g: Tensor) -> Tensor:
        """Attention coefficients in (0, 1), computed on the grid of g and upsampled: (N, 1, *spatial)."""
        score = self.psi(F.relu(self.theta(x) + self.phi(g)))  # (N, 1, *spatial / 2)
        return upsample(torch.sigmoid(score), 2, self.mode)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Weighed and projected skip; shapes as in the class."""
        return self.out(x * self.alpha(x, g))  # type: ignore[no-any-return]


def upsample(x: Tensor, scale: int, mode: str) -> Tensor:
    """Enlarge a feature `scale` times along each spatial axis by linear interpolation."""
    return x if scale == 1 else F.interpolate(x, scale_factor=float(scale), mode=mode, align_corners=False)


def init_norm_scales(net: nn.Module) -> None:
    """Draw batch-norm scales from N(1, 0.02), as the authors' code does."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.weight, mean=1.0, std=0.02)
