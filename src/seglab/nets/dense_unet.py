"""Dense U-Net, a family of the survey of Siddique et al. 2021 (https://arxiv.org/abs/2011.01118).

Our reconstruction. The survey gives the mechanism, x_l = H_l([x_0, ..., x_(l-1)]) inside the levels (Huang et al. 2017,
https://arxiv.org/abs/1608.06993), and no layout. Ours puts a dense block of few filters per layer in the place of the
two convolutions at every level of a U-Net, and a 1-wide convolution brings what it has gathered to U-Net's width of the
level. H is convolution, norm, ReLU, in that order. Returns logits; 3-D by the same rules; He initialisation.
"""

from torch import Tensor, nn

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, CONV_TRANSPOSE, MAX_POOL, ConvNormAct, check_range, concat, init_he

N_POOLINGS = 4


class DenseUNet(SegmentationNet):
    """Dense U-Net for 2-D and 3-D images (Siddique et al. 2021): each layer of a level sees all before; returns logits.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them.
        growth: filters of each layer of a dense block, 16 to 32 by custom.
        n_layers: layers of each dense block.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2011.01118"
    faithfulness = "reconstruction"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 32,
        growth: int = 16,
        n_layers: int = 4,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("DenseUNet", "base_channels", base_channels, at_least=1)
        check_range("DenseUNet", "growth", growth, at_least=1)
        check_range("DenseUNet", "n_layers", n_layers, at_least=1)
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            dense_level(spatial_dims, before, width, growth, n_layers)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(
            CONV_TRANSPOSE[spatial_dims](2 * width, width, 2, stride=2) for width in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(
            dense_level(spatial_dims, 2 * width, width, growth, n_layers) for width in reversed(widths[:-1])
        )
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        x = self.encoder[0](image)  # (N, base, *spatial)
        skips = []
        for level in self.encoder[1:]:
            skips.append(x)
            x = level(self.pool(x))  # (N, base * 2**level, *spatial / 2**level)
        for up, level in zip(self.ups, self.decoder, strict=True):
            x = level(concat(skips.pop(), up(x)))  # half the channels, twice the size
        return self.head(x)  # type: ignore[no-any-return]  # (N, num_classes, *spatial)


def dense_level(spatial_dims: int, in_channels: int, out_channels: int, growth: int, n_layers: int) -> nn.Sequential:
    """A dense block and the 1-wide convolution that brings its features to the level's width."""
    gathered = in_channels + n_layers * growth
    return nn.Sequential(
        DenseBlock(spatial_dims, in_channels, growth, n_layers),
        ConvNormAct(spatial_dims, gathered, out_channels, kernel_size=1),
    )


class DenseBlock(nn.Module):
    """Layers that each see the input and the outputs of all layers before: x_l = H_l([x_0, ..., x_(l-1)]).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input x_0.
        growth: filters of each layer.
        n_layers: number of layers.

    Shape:
        (N, in_channels, *spatial) -> (N, in_channels + n_layers * growth, *spatial), the input first.
    """

    def __init__(self, spatial_dims: int, in_channels: int, growth: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            ConvNormAct(spatial_dims, in_channels + index * growth, growth) for index in range(n_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Input and outputs of all layers side by side; shapes as in the class."""
        for layer in self.layers:
            x = concat(x, layer(x))
        return x
