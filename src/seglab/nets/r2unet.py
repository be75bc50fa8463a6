"""R2U-Net (Alom et al. 2018, https://arxiv.org/abs/1802.06955) and, with gates, R2AttU-Net.

Built in the widely used form, whose parameters it has to the last one. R2AttU-Net weighs the skips by the gates of
Attention U-Net (Oktay et al. 2018, https://arxiv.org/abs/1804.03999), at skip resolution on all four levels.

Differs from the paper: one convolution and one norm serve the feed-forward input and all recurrent steps, where the
paper weighs input and state by two convolutions; upsampling is nearest with a convolution; returns logits; 3-D by the
same rules. Torch's own initialisation: with He's the recurrent sums grow from level to level, to logits of 1e5 in eval
mode while the norms have no statistics yet.

In the widely used form the one norm keeps one running mean and variance for all steps, though each step sees another
distribution: eval mode then falls behind training, on two images learned by heart from a Dice of 1.0 to 0.97 without
and 0.74 with gates. `norm_statistics="per_step"` brings 1.0 and 0.99 with the same parameters and the same training.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import (
    BATCH_NORM,
    CONV,
    MAX_POOL,
    AttentionGate,
    ConvNormAct,
    check_choice,
    check_range,
    concat,
)

N_POOLINGS = 4


class R2UNet(SegmentationNet):
    """R2U-Net for 2-D and 3-D images (Alom et al. 2018): recurrent residual levels in a U-Net; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them. At least 2 with attention.
        n_steps: recurrent steps t after the first pass of a convolution, the paper's 2. They share their parameters:
            t costs time and memory but no parameters, and 0 leaves a residual U-Net.
        attention: whether gates weigh the skips: R2AttU-Net.
        norm_statistics: "shared", one running mean and variance for all steps, or "per_step", one for each.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1802.06955"
    faithfulness = "faithful"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 64,
        n_steps: int = 2,
        attention: bool = False,
        norm_statistics: str = "shared",
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("R2UNet", "base_channels", base_channels, at_least=2 if attention else 1)
        check_range("R2UNet", "n_steps", n_steps, at_least=0)
        check_choice("R2UNet", "norm_statistics", norm_statistics, ("shared", "per_step"))
        per_step = norm_statistics == "per_step"
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.encoder = nn.ModuleList(
            R2Block(spatial_dims, before, width, n_steps=n_steps, per_step=per_step)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.decoder = nn.ModuleList(
            R2Level(spatial_dims, width, n_steps=n_steps, per_step=per_step, is_gated=attention)
            for width in reversed(widths[:-1])
        )
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, base, *spatial)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))  # (N, base * 2**level, *spatial / 2**level)
        for level in self.decoder:
            x = level(x, skips.pop())  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


class R2Block(nn.Module):
    """Two recurrent units in series around which the input passes, projected by a 1-wide convolution (figure 4d).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_steps: recurrent steps of each unit.
        per_step: whether each step has its own running statistics.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, n_steps: int, per_step: bool = False
    ) -> None:
        super().__init__()
        self.project = CONV[spatial_dims](in_channels, out_channels, 1)
        self.units = nn.Sequential(
            *(RecurrentUnit(spatial_dims, out_channels, n_steps=n_steps, per_step=per_step) for _ in range(2))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        x = self.project(x)
        return x + self.units(x)  # type: ignore[no-any-return]


class RecurrentUnit(nn.Module):
    """One convolution c with norm and ReLU that is fed back its output: c(x), then t times c(x + last output).

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the input and of the output.
        n_steps: recurrent steps t after the first pass.
        per_step: whether each step has its own running statistics; scale and shift stay those of the one norm.

    Shape:
        (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, n_steps: int, per_step: bool = False) -> None:
        super().__init__()
        self.n_steps = n_steps
        self.step = ConvNormAct(spatial_dims, channels, channels)
        self.later_norms = nn.ModuleList(BATCH_NORM[spatial_dims](channels) for _ in range(n_steps if per_step else 0))
        for norm in self.later_norms:
            norm.weight, norm.bias = self.step[1].weight, self.step[1].bias

    def forward(self, x: Tensor) -> Tensor:
        """State after the last step; shapes as in the class."""
        conv, norm, act = self.step
        state = act(norm(conv(x)))
        for later_norm in list(self.later_norms) or [norm] * self.n_steps:
            state = act(later_norm(conv(x + state)))
        return state  # type: ignore[no-any-return]


class R2Level(nn.Module):
    """One decoder level: upsample (nearest) and convolve, gate the skip with the result, join, one recurrent block.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the skip and of the output, half of those from below.
        n_steps: recurrent steps of each unit.
        per_step: whether each step has its own running statistics.
        is_gated: whether the skip passes a gate.

    Shape:
        below (N, 2 * channels, *spatial / 2), skip (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, *, n_steps: int, per_step: bool, is_gated: bool) -> None:
        super().__init__()
        self.up = ConvNormAct(spatial_dims, 2 * channels, channels)
        self.gate = AttentionGate(spatial_dims, channels, channels // 2) if is_gated else None
        self.block = R2Block(spatial_dims, 2 * channels, channels, n_steps=n_steps, per_step=per_step)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decoder feature of this level; shapes as in the class."""
        above = self.up(F.interpolate(below, scale_factor=2.0, mode="nearest"))  # (N, channels, *spatial)
        skip = skip if self.gate is None else self.gate(skip, above)
        return self.block(concat(skip, above))  # type: ignore[no-any-return]
