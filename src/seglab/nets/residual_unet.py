"""Residual U-Net of "An Improved Neural Segmentation Method Based on U-NET" (2017, https://arxiv.org/abs/1708.04747).

The paper's abstract says: U-NET deepened by residual blocks, with fewer parameters. The layout is our reconstruction:
widths, two blocks per level, the place of the norms, the up-convolutions.
Differs from the paper: nothing but the abstract was at hand; returns logits, 3-D by the same rules. The weights start
as torch draws them: He's would let the sums of a fresh network grow from block to block.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import BATCH_NORM, CONV, CONV_TRANSPOSE, MAX_POOL, check_range, concat

N_POOLINGS = 4


class ResidualUNet(SegmentationNet):
    """Residual U-Net for 2-D and 3-D images (arXiv 1708.04747, 2017): U-Net of residual blocks; returns logits.

    With the defaults twice as deep as U-Net (36 convolutions instead of 18) and, with 4.0 million parameters, half as
    heavy as a U-Net of 32 channels.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them.
        n_blocks: residual blocks per level, of two 3-wide convolutions each.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 16.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/1708.04747"
    faithfulness = "reconstruction"
    size_multiple = 2**N_POOLINGS

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        base_channels: int = 16,
        n_blocks: int = 2,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("ResidualUNet", "base_channels", base_channels, at_least=1)
        check_range("ResidualUNet", "n_blocks", n_blocks, at_least=1)
        widths = [base_channels * 2**level for level in range(N_POOLINGS + 1)]
        deep_to_shallow = widths[-2::-1]
        self.encoder = nn.ModuleList(
            ResidualLevel(spatial_dims, before, width, n_blocks)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.ups = nn.ModuleList(
            CONV_TRANSPOSE[spatial_dims](2 * width, width, 2, stride=2) for width in deep_to_shallow
        )
        self.decoder = nn.ModuleList(
            ResidualLevel(spatial_dims, 2 * width, width, n_blocks) for width in deep_to_shallow
        )
        self.head = CONV[spatial_dims](base_channels, num_classes, 1)

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


class ResidualLevel(nn.Sequential):
    """Residual blocks in series, of which the first changes the channels.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of every block's output.
        n_blocks: number of blocks.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, n_blocks: int) -> None:
        inputs = [in_channels] + [out_channels] * (n_blocks - 1)
        super().__init__(*(ResidualBlock(spatial_dims, channels, out_channels) for channels in inputs))


class ResidualBlock(nn.Module):
    """Basic residual block: ReLU(two 3-wide convolutions + shortcut).

    The shortcut is the identity, or a 1-wide convolution with norm where the channels change. No convolution has a
    bias, for a norm follows each.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = conv_norm(spatial_dims, in_channels, out_channels, kernel_size=3)
        self.second = conv_norm(spatial_dims, out_channels, out_channels, kernel_size=3)
        is_same = in_channels == out_channels
        self.shortcut = nn.Identity() if is_same else conv_norm(spatial_dims, in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Block output; shapes as in the class."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def conv_norm(spatial_dims: int, in_channels: int, out_channels: int, *, kernel_size: int) -> nn.Sequential:
    """Convolution without bias, and batch norm."""
    conv = CONV[spatial_dims](in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, BATCH_NORM[spatial_dims](out_channels))
