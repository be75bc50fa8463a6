"""PatchGAN (Isola et al. 2017, https://arxiv.org/abs/1611.07004): a discriminator that judges overlapping patches.

Differs from the paper: any number of input channels, 3-D by the same rules, instance norm with scale and shift.
"""

from itertools import pairwise

from torch import Tensor, nn

from seglab.nets.blocks import CONV, INSTANCE_NORM, check_range


class PatchDiscriminator(nn.Module):
    """PatchGAN discriminator for 2-D and 3-D images: one logit per patch, high where the label map looks real.

    It is no segmentation network: it sees the image joined with a label map. With three layers a patch is 70 pixels
    wide, the paper's.

    Args:
        in_channels: channels of image and label map together.
        spatial_dims: 2 or 3.
        base_channels: channels of the first layer, doubled by each next one, at most eightfold. The paper's 64.
        n_layers: strided layers, at least 1. The paper's 3.

    Shape:
        (N, in_channels, *spatial) -> (N, 1, *patches), about spatial / 2**n_layers.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, *, in_channels: int, spatial_dims: int = 2, base_channels: int = 64, n_layers: int = 3) -> None:
        super().__init__()
        check_range("PatchDiscriminator", "base_channels", base_channels, at_least=1)
        check_range("PatchDiscriminator", "n_layers", n_layers, at_least=1)
        conv, norm = CONV[spatial_dims], INSTANCE_NORM[spatial_dims]
        widths = [base_channels * min(2**layer, 8) for layer in range(n_layers + 1)]
        layers: list[nn.Module] = [conv(in_channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for layer, (before, width) in enumerate(pairwise(widths), start=1):
            stride = 2 if layer < n_layers else 1
            layers += [conv(before, width, 4, stride=stride, padding=1), norm(width, affine=True), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, conv(widths[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of patches; shapes as in the class."""
        return self.layers(x)  # type: ignore[no-any-return]
