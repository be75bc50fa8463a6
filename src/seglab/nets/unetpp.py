"""UNet++ (Zhou et al. 2018, https://arxiv.org/abs/1807.10165).

Its nodes X(i, j) form a triangle, i poolings down and j steps along the skip: X(i, 0) are the encoder,
X(i, j) = H(X(i, 0), ..., X(i, j - 1), up(X(i + 1, j - 1))), and head d reads X(0, d): U-Nets of depth 1 to 4 in one
network, which can be pruned to any of them after training.

Differs from the paper: batch norm and linear upsampling by default, the widely used form; norm=None, up="transposed" is
the authors' network to the last parameter (theirs has ELU and dropout beside). `forward` gives the deepest head, where
the paper's "accurate mode" averages all of them: take the mean of `forward_heads` for that. Returns logits; 3-D by the
same rules.
"""

from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import (
    CONV,
    CONV_TRANSPOSE,
    LINEAR_UPSAMPLING,
    MAX_POOL,
    NORMS,
    DoubleConv,
    check_choice,
    check_range,
    concat,
    init_he,
)

N_POOLINGS = 4


class UNetPlusPlus(SegmentationNet):
    """UNet++ for 2-D and 3-D images (Zhou et al. 2018): nested skips, heads of four depths; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level, the paper's 32; each pooling doubles them.
        up: "linear", which keeps the channels, or "transposed", a 2-wide up-convolution that halves them.
        norm: None, "batch", "instance" or "group", after each 3-wide convolution.
        deep_supervision: whether X(0, 1) to X(0, 4) have a head each, or X(0, 4) alone.
        depth: head that eval mode returns, 1 to 4. Fewer than 4 prunes the network to a U-Net of that depth (needs deep
            supervision); training runs all of it at any depth. May be set on the built network: `net.depth = 2`.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1807.10165"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 32,
        up: str = "linear",
        norm: str | None = "batch",
        deep_supervision: bool = False,
        depth: int = N_POOLINGS,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("UNetPlusPlus", "base_channels", base_channels, at_least=1)
        check_choice("UNetPlusPlus", "up", up, ("linear", "transposed"))
        check_choice("UNetPlusPlus", "norm", norm, NORMS)
        self.deep_supervision = deep_supervision
        self.depth = depth

        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            DoubleConv(spatial_dims, before, width, norm=norm)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.nodes = nn.ModuleDict(
            {f"{i}_{j}": Node(spatial_dims, widths[i], j, up=up, norm=norm) for i, j in triangle(N_POOLINGS)}
        )
        n_heads = N_POOLINGS if deep_supervision else 1
        self.heads = nn.ModuleList(CONV[spatial_dims](base_channels, num_classes, 1) for _ in range(n_heads))
        init_he(self)

    @property
    def depth(self) -> int:
        """Head that eval mode returns; deeper nodes are then not computed."""
        return self._depth

    @depth.setter
    def depth(self, depth: int) -> None:
        """Prune to another head; every head is there only with deep supervision."""
        check_range("UNetPlusPlus", "depth", depth, at_least=1, below=N_POOLINGS + 1)
        if depth < N_POOLINGS and not self.deep_supervision:
            raise ConfigError(
                "UNetPlusPlus without deep supervision has no head to prune to",
                given=f"depth={depth}, deep_supervision=false",
                allowed=f"depth={N_POOLINGS}, or less with deep_supervision=true",
                fix=f"set model.depth={N_POOLINGS} or train with model.deep_supervision=true",
            )
        self._depth = depth

    @property
    def n_heads(self) -> int:
        """Outputs that can be supervised; 1 without deep supervision, fewer than 4 in eval mode where pruned."""
        return self._depth_now() if self.deep_supervision else 1

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the deepest head, in eval mode of head `depth`; shapes as in the class."""
        return self.heads[self.n_heads - 1](self._first_row(image)[-1])  # type: ignore[no-any-return]

    def forward_heads(self, image: Tensor) -> list[Tensor]:
        """Logits of all heads, shallow to deep; shapes as in the base class."""
        nodes = self._first_row(image)[-self.n_heads :]
        return [head(node) for head, node in zip(self.heads, nodes, strict=False)]

    def _depth_now(self) -> int:
        return N_POOLINGS if self.training else self.depth

    def _first_row(self, image: Tensor) -> list[Tensor]:
        """X(0, 0) to X(0, depth), each (N, base, *spatial)."""
        self.check_input(image)
        depth = self._depth_now()
        rows = [[self.encoder[0](image)]]
        for block in self.encoder[1 : depth + 1]:
            rows.append([block(self.pool(rows[-1][0]))])  # (N, base * 2**i, *spatial / 2**i)
        for i, j in triangle(depth):
            rows[i].append(self.nodes[f"{i}_{j}"](rows[i + 1][j - 1], rows[i]))  # channels and size of its row
        return rows[0]


def triangle(depth: int) -> list[tuple[int, int]]:
    """Nodes (i, j) beside the encoder of a network of `depth` poolings, each after all that it needs."""
    return [(i, j) for j in range(1, depth + 1) for i in range(depth + 1 - j)]


class Node(nn.Module):
    """X(i, j): two convolutions of all earlier nodes of its row and of the enlarged node below.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the row, half of those from below.
        n_earlier: earlier nodes of the row, j.
        up: "linear" or "transposed".
        norm: norm of the convolutions.

    Shape:
        below (N, 2 * channels, *spatial / 2), row of j (N, channels, *spatial) -> (N, channels, *spatial).
    """

    def __init__(self, spatial_dims: int, channels: int, n_earlier: int, *, up: str, norm: str | None) -> None:
        super().__init__()
        self.up: nn.Module
        if up == "linear":
            self.up = nn.Upsample(scale_factor=2.0, mode=LINEAR_UPSAMPLING[spatial_dims])
        else:
            self.up = CONV_TRANSPOSE[spatial_dims](2 * channels, channels, 2, stride=2)
        n_joined = n_earlier + (2 if up == "linear" else 1)
        self.conv = DoubleConv(spatial_dims, n_joined * channels, channels, norm=norm)

    def forward(self, below: Tensor, row: list[Tensor]) -> Tensor:
        """Node output; shapes as in the class."""
        return self.conv(concat(*row, self.up(below)))  # type: ignore[no-any-return]
