"""What every network of the zoo promises: channels, dimensions, and which input sizes it takes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from seglab.errors import ConfigError, ShapeError

Faithfulness = Literal["faithful", "corroborated", "reconstruction", "reference"]


class SegmentationNet(nn.Module):
    """Base of all networks: checks its arguments and its input, and says which size to pad to.

    A subclass names its `paper`, sets `size_multiple`, and calls `check_input(image)` first in `forward`. A network
    that can be supervised at several places overrides `n_heads` and `forward_heads`.

    Its `faithfulness` is one of: faithful (built block by block from the paper or its reference code, to the last
    parameter), corroborated (independent ports agree with each other and with it), reconstruction (the paper leaves the
    layout open), reference (another library's network, to compare with).

    Where it was measured that something does not work with it, `unsupported` gives the reason under one of: compile
    (torch.compile), onnx, bf16 (mixed precision), channels_last (memory layout). A run that asks for it is refused.

    Args:
        in_channels: channels of the image, at least 1.
        num_classes: classes of the logits, at least the network's `min_classes`.
        spatial_dims: 2 or 3.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial).

    Raises:
        ConfigError: channels, classes or dimensions that the network cannot have.
    """

    supported_dims: ClassVar[tuple[int, ...]] = (2, 3)
    min_classes: ClassVar[int] = 1
    paper: ClassVar[str] = ""
    faithfulness: ClassVar[Faithfulness] = "faithful"
    unsupported: ClassVar[Mapping[str, str]] = {}
    size_multiple: int = 1

    def __init__(self, *, in_channels: int, num_classes: int, spatial_dims: int) -> None:
        super().__init__()
        name = type(self).__name__
        if spatial_dims not in self.supported_dims:
            raise ConfigError(
                f"{name} cannot work in {spatial_dims} dimensions",
                given=f"spatial_dims={spatial_dims}",
                allowed=f"{name} takes {' or '.join(map(str, self.supported_dims))} dimensions",
                fix=f"set data.dims={self.supported_dims[0]} or choose another model=...",
            )
        if in_channels < 1:
            raise ConfigError(
                f"{name} needs at least one input channel",
                given=f"in_channels={in_channels}",
                allowed="integers from 1 up",
                fix="let it come from the data set, or pass in_channels=1",
            )
        if num_classes < self.min_classes:
            raise ConfigError(
                f"{name} cannot work with so few classes",
                given=f"num_classes={num_classes}",
                allowed=f"{self.min_classes} or more classes",
                fix=f"choose data with at least {self.min_classes} classes (data=lits has 3), or another model=...",
            )
        self.in_channels, self.num_classes, self.spatial_dims = in_channels, num_classes, spatial_dims

    @property
    def n_heads(self) -> int:
        """Number of outputs that can be supervised; 1 for a network with a single output."""
        return 1

    def forward_heads(self, image: Tensor) -> list[Tensor]:
        """Logits of every head in the image's size, the main output last.

        Shape:
            image (N, in_channels, *spatial) -> n_heads times (N, num_classes, *spatial).
        """
        return [self(image)]

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """Every tensor that a loss of the paper sees, the main output last; their gradients reach every parameter.

        Shape:
            image (N, in_channels, *spatial) -> tensors of any shape, last (N, num_classes, *spatial).
        """
        return self.forward_heads(image)

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`.

        Args:
            size: wanted spatial size, `spatial_dims` long.

        Returns:
            The next multiples of `size_multiple`; a network that shrinks its input overrides this.
        """
        return tuple(-(-length // self.size_multiple) * self.size_multiple for length in size)

    def check_input(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank, channel count or size.

        Raises:
            ShapeError: names the size to pad to.
        """
        self.check_axes(image)
        name = type(self).__name__
        size = tuple(image.shape[2:])
        wanted = self.input_size_for(size)
        if wanted != size:
            shown = "x".join(map(str, wanted))
            raise ShapeError(
                f"{name} cannot take this size",
                given="x".join(map(str, size)),
                allowed=f"multiples of {self.size_multiple} along each axis",
                fix=f"pad to {shown} or set data.patch_size=[{','.join(map(str, wanted))}]",
            )

    def check_axes(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank or channel count, whatever its size.

        Raises:
            ShapeError: names the axes that the network takes.
        """
        name = type(self).__name__
        if image.ndim != self.spatial_dims + 2 or image.shape[1] != self.in_channels:
            axes = "N, C, D, H, W" if self.spatial_dims == 3 else "N, C, H, W"
            raise ShapeError(
                f"{name} cannot take this image",
                given=f"a tensor of shape {tuple(image.shape)}",
                allowed=f"({axes}) with C={self.in_channels}",
                fix=f"pass an image with {self.in_channels} channels and {self.spatial_dims} spatial axes",
            )
