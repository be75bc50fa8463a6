"""MultiResUNet (Ibtehaz and Rahman 2020, https://arxiv.org/abs/1902.04049), the paper's network in 2-D and in 3-D.

Differs from the paper: returns the output of the last batch norm as logits, K classes give K channels. The authors'
later PyTorch port is another network (Res-Path norms used twice, convolution biases, norm before ReLU).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV_TRANSPOSE, MAX_POOL, concat
from seglab.nets.multires_blocks import Chain, ConvShift, ResPath, chain_widths, init_glorot, keras_norm

N_POOLINGS = 4


class MultiResUNet(SegmentationNet):
    """MultiResUNet for 2-D and 3-D images (Ibtehaz, Rahman 2020): multi-resolution blocks, Res-Paths; returns logits.

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

    paper = "https://arxiv.org/abs/1902.04049"
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
        units = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        widths = chain_widths("MultiResUNet", units, width_factor)
        outs = [sum(width) for width in widths]

        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            MultiResBlock(spatial_dims, before, width)
            for before, width in zip([in_channels, *outs], widths, strict=False)
        )
        self.res_paths = nn.ModuleList(
            ResPath(spatial_dims, outs[level], units[level], n_steps=N_POOLINGS - level) for level in range(N_POOLINGS)
        )
        deep_to_shallow = range(N_POOLINGS - 1, -1, -1)
        self.ups = nn.ModuleList(
            CONV_TRANSPOSE[spatial_dims](outs[level + 1], units[level], 2, stride=2) for level in deep_to_shallow
        )
        self.decoder = nn.ModuleList(
            MultiResBlock(spatial_dims, 2 * units[level], widths[level]) for level in deep_to_shallow
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


class MultiResBlock(nn.Module):
    """Multi-resolution block: BN(ReLU(1-wide shortcut + chain of three convolutions)) (figure 3c).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        widths: filters of the three convolutions of the chain.

    Shape:
        (N, in_channels, *spatial) -> (N, sum(widths), *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, widths: list[int]) -> None:
        super().__init__()
        self.shortcut = ConvShift(spatial_dims, in_channels, sum(widths), kernel_size=1, act=False)
        self.chain = Chain(spatial_dims, in_channels, widths)
        self.norm = keras_norm(spatial_dims, sum(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        return self.norm(F.relu(self.shortcut(x) + self.chain(x)))  # type: ignore[no-any-return]
