"""Three networks of MONAI (https://github.com/Project-MONAI/MONAI) to compare with."""

import importlib
import importlib.util
from collections.abc import Sequence

from torch import Tensor, nn

from seglab.errors import ConfigError, ShapeError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import check_choice

SIZE_MULTIPLE = {"DynUNet": 32, "SegResNet": 8, "SwinUNETR": 32}
WIDTH_STEP = {"DynUNet": 1, "SegResNet": 8, "SwinUNETR": 12}  # 8 groups of a norm; 3 heads of 4 channels
PACKAGES = {"DynUNet": ("monai",), "SegResNet": ("monai",), "SwinUNETR": ("monai", "einops")}
N_DOWNS = 5
WIDEST = {2: 16, 3: 10}  # times base_channels; nnU-Net stops at 512 in 2-D and 320 in 3-D


class MONAI(SegmentationNet):
    """A network of MONAI for 2-D and 3-D images: DynUNet, SegResNet or SwinUNETR as references; returns logits.

    All three with MONAI's own defaults and without side outputs. DynUNet is nnU-Net's
    (https://arxiv.org/abs/1809.10486) plain U-Net, with five strided convolutions whatever the size of the data.
    SegResNet (https://arxiv.org/abs/1810.11654) comes without its autoencoder branch. SwinUNETR
    (https://arxiv.org/abs/2201.01266) is a Swin transformer with a convolutional decoder; it needs the package einops,
    and torch.compile splits it at MONAI's own check of its input.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        arch: "DynUNet", "SegResNet" or "SwinUNETR".
        base_channels: channels of the first level; a multiple of 8 for SegResNet, of 12 for SwinUNETR. The papers' are
            32 for DynUNet and SegResNet, 48 for SwinUNETR.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 8 for SegResNet, of
        32 for the others, which have an instance norm on the deepest level and so take one axis from 64 up.

    Raises:
        ConfigError: an unknown architecture, a width that it cannot have, or a package that is not installed.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://github.com/Project-MONAI/MONAI"
    faithfulness = "reference"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 3,
        arch: str = "SegResNet",
        base_channels: int = 32,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_choice("MONAI", "arch", arch, tuple(SIZE_MULTIPLE))
        _check_width(arch, base_channels)
        _check_packages(arch)
        self.size_multiple = SIZE_MULTIPLE[arch]
        self.needs_two_pixels = arch != "SegResNet"
        self.net = _build(arch, spatial_dims, in_channels, num_classes, base_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        return self.net(image)  # type: ignore[no-any-return]

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`; the last axis grows where all are 32."""
        wanted = super().input_size_for(size)
        if self.needs_two_pixels and max(wanted) == self.size_multiple:
            return *wanted[:-1], 2 * self.size_multiple
        return wanted

    def check_input(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank, channel count or size, or with a single pixel on the deepest level.

        Raises:
            ShapeError: names the size to pad to.
        """
        self.check_axes(image)
        step, size = self.size_multiple, tuple(image.shape[2:])
        if self.needs_two_pixels and size == (step,) * self.spatial_dims:
            raise ShapeError(
                "MONAI cannot normalise a single pixel, which this size has on the deepest level",
                given="x".join(map(str, size)),
                allowed=f"multiples of {step}, at least {2 * step} along one axis",
                fix=f"pad to {'x'.join(map(str, self.input_size_for(size)))} or set a larger data.patch_size",
            )
        super().check_input(image)


def _check_width(arch: str, base_channels: int) -> None:
    """Refuse a width that the architecture cannot divide among its groups or heads."""
    step = WIDTH_STEP[arch]
    if base_channels < 1 or base_channels % step:
        above = max(-(-base_channels // step), 1) * step
        raise ConfigError(
            f"MONAI's {arch} cannot be built with this base_channels",
            given=f"base_channels={base_channels}",
            allowed=f"multiples of {step}, from {step} up",
            fix=f"set model.base_channels={above}",
        )


def _check_packages(arch: str) -> None:
    """Refuse an architecture whose packages are not installed; einops MONAI itself would miss in the first step."""
    missing = [package for package in PACKAGES[arch] if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"MONAI's {arch} needs a package that is not installed",
            given=f"arch={arch} without {' and '.join(missing)}",
            allowed=f"an environment with {' and '.join(PACKAGES[arch])}",
            fix=f"type pip install {' '.join(missing)}, or choose another model=...",
        )


def _build(arch: str, spatial_dims: int, in_channels: int, num_classes: int, base_channels: int) -> nn.Module:
    """The network of an architecture, with MONAI's defaults."""
    nets = importlib.import_module("monai.networks.nets")  # seconds to import, so only where it is used
    channels = {"spatial_dims": spatial_dims, "in_channels": in_channels, "out_channels": num_classes}
    if arch == "SegResNet":
        return nets.SegResNet(**channels, init_filters=base_channels)  # type: ignore[no-any-return]
    if arch == "SwinUNETR":
        return nets.SwinUNETR(**channels, feature_size=base_channels)  # type: ignore[no-any-return]
    strides = [1] + [2] * N_DOWNS
    widths = [base_channels * min(2**level, WIDEST[spatial_dims]) for level in range(N_DOWNS + 1)]
    return nets.DynUNet(  # type: ignore[no-any-return]
        **channels, kernel_size=[3] * len(strides), strides=strides, upsample_kernel_size=strides[1:], filters=widths
    )
