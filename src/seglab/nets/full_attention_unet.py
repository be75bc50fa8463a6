"""Full Attention U-Net (Lin et al. 2021, https://arxiv.org/abs/2104.14586), built for cracks in photos.

Differs from the paper: returns logits; K classes give K channels; 3-D by the same rules; He initialisation.
Differs from the first author's code: the fusing convolutions are padded instead of cropping what they are joined with;
one sigmoid per gate (the code applies it twice, see `double_sigmoid`); linear upsampling does not align corners.

The text gates the outputs of every encoder layer, while the code joins a level's own output ungated at all levels but
the first: `gate_own_level` chooses, and the code's way is the default.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import (
    CONV,
    CONV_TRANSPOSE,
    LINEAR_UPSAMPLING,
    MAX_POOL,
    DoubleConv,
    check_choice,
    check_range,
    concat,
    conv_norm,
    init_he,
)

N_POOLINGS = 4


class FullAttentionUNet(SegmentationNet):
    """Full Attention U-Net for 2-D and 3-D images (Lin et al. 2021): gated skips from all levels; returns logits.

    Every decoder level gets the encoder outputs of its own level and of all shallower ones.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them. At least 2.
        variant: "full" gates each skip and then fuses them; "advanced" fuses and then gates once (the paper's Advanced
            Attention U-Net, to compare with). Both have the same parameters.
        gate_own_level: whether "full" gates a level's own encoder output too where there are shallower ones. The first
            level's, which has none, is gated in any case.
        double_sigmoid: the gates of the authors' code, which let at least half of every skip pass.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2104.14586"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 64,
        variant: str = "full",
        gate_own_level: bool = False,
        double_sigmoid: bool = False,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("FullAttentionUNet", "base_channels", base_channels, at_least=2)
        check_choice("FullAttentionUNet", "variant", variant, ("full", "advanced"))
        if variant == "advanced" and gate_own_level:
            raise ConfigError(
                "FullAttentionUNet gates no single skip in its advanced variant",
                given="variant=advanced, gate_own_level=true",
                allowed="gate_own_level=true with variant=full",
                fix="set model.gate_own_level=false or model.variant=full",
            )
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            DoubleConv(spatial_dims, before, width)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            UpLevel(
                spatial_dims,
                widths[level],
                GatedSkip(
                    spatial_dims,
                    widths[: level + 1],
                    variant=variant,
                    gate_own_level=gate_own_level,
                    double_sigmoid=double_sigmoid,
                ),
            )
            for level in range(N_POOLINGS - 1, -1, -1)
        )
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        features = [self.encoder[0](image)]  # (N, base, *spatial)
        for block in self.encoder[1:]:
            features.append(block(self.pool(features[-1])))  # (N, base * 2**level, *spatial / 2**level)
        x = features.pop()
        for level in self.decoder:
            x = level(x, features)  # half the channels, twice the size
            features.pop()
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


class UpLevel(nn.Module):
    """One decoder level: up-convolution, the gated skip beside it, two convolutions.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the output, half of those from below.
        skip: gives the skip from the encoder outputs down to this level and the feature from below.

    Shape:
        below (N, 2 * channels, *spatial / 2), features as `skip` takes them -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, skip: "GatedSkip") -> None:
        super().__init__()
        self.up = CONV_TRANSPOSE[spatial_dims](2 * channels, channels, 2, stride=2)
        self.skip = skip
        self.conv = DoubleConv(spatial_dims, 2 * channels, channels)

    def forward(self, below: Tensor, features: list[Tensor]) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        return self.conv(concat(self.skip(features, below), self.up(below)))  # type: ignore[no-any-return]


class GatedSkip(nn.Module):
    """Own and all shallower encoder outputs, brought to one level, gated, and fused into one skip.

    All inputs of a level share one gate. The first level has nothing to bring over or to fuse.

    Args:
        spatial_dims: 2 or 3.
        widths: channels of the encoder's levels from the first to this one, c for short the last of them.
        variant: "full" gates each input and fuses, "advanced" fuses and gates.
        gate_own_level: whether "full" gates the own level's output beside brought ones.
        double_sigmoid: as in the gate.

    Shape:
        features, shallow to deep, of (N, widths[l], *spatial * 2**(levels above)), g (N, 2c, *spatial / 2)
        -> (N, c, *spatial).
    """

    def __init__(
        self, spatial_dims: int, widths: list[int], *, variant: str, gate_own_level: bool, double_sigmoid: bool
    ) -> None:
        super().__init__()
        *shallower, channels = widths
        self.downs = nn.ModuleList(
            nn.Sequential(MAX_POOL[spatial_dims](2**n_above), DoubleConv(spatial_dims, width, channels))
            for n_above, width in zip(range(len(shallower), 0, -1), shallower, strict=True)
        )
        self.gate = SharedGate(spatial_dims, channels, double_sigmoid=double_sigmoid)
        self.fuse = CONV[spatial_dims](len(widths) * channels, channels, 3, padding=1) if shallower else nn.Identity()
        self.gates_each = variant == "full" and len(shallower) > 0
        self.gate_own_level = gate_own_level

    def forward(self, features: list[Tensor], g: Tensor) -> Tensor:
        """Skip of this level; shapes as in the class."""
        own = features[-1]
        brought = [down(feature) for down, feature in zip(self.downs, features, strict=False)]  # (N, c, *spatial) each
        if not self.gates_each:
            return self.gate(self.fuse(concat(own, *brought)), g)  # type: ignore[no-any-return]
        own = self.gate(own, g) if self.gate_own_level else own
        return self.fuse(concat(own, *(self.gate(x, g) for x in brought)))  # type: ignore[no-any-return]


class SharedGate(nn.Module):
    """Additive gate: weighs a feature x by the decoder feature g from one level below; serves all inputs of its level.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of x, half of those of g and twice those of the joint space.
        double_sigmoid: apply the sigmoid twice, so that the weights lie between 0.5 and 0.731.

    Shape:
        x (N, channels, *spatial), g (N, 2 * channels, *spatial / 2) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, double_sigmoid: bool) -> None:
        super().__init__()
        self.project_skip = conv_norm(spatial_dims, channels, channels // 2)
        self.project_gate = conv_norm(spatial_dims, 2 * channels, channels // 2)
        self.score = conv_norm(spatial_dims, channels // 2, 1)
        self.double_sigmoid, self.mode = double_sigmoid, LINEAR_UPSAMPLING[spatial_dims]

    def alpha(self, x: Tensor, g: Tensor) -> Tensor:
        """Attention coefficients, one per pixel: (N, 1, *spatial)."""
        g = F.interpolate(self.project_gate(g), scale_factor=2.0, mode=self.mode, align_corners=False)
        weights = torch.sigmoid(self.score(F.relu(self.project_skip(x) + g)))
        return torch.sigmoid(weights) if self.double_sigmoid else weights

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Weighed feature; shapes as in the class."""
        return x * self.alpha(x, g)
