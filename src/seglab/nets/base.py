"""What every network of the zoo promises: channels, dimensions, and which input sizes it takes."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from seglab.errors import ConfigError, ShapeError

Faithfulness = Literal["faithful", "corroborated", "reconstruction", "reference"]


class SegmentationNet(nn.Module):
    """Base of all networks: checks its arguments and its input, and says which size to pad to.

    A subclass names its `paper`, sets `size_multiple`, and calls `check_input(image)` first in `forward`. A network
    that can be supervised at several places overrides `n_heads` and `forward_heads`.

    Its `faithfulness` is one of: faithful (parameters and hand cases agree with the authors' figures), corroborated
    (they agree with independent ports), reconstruction (built from an abstract; the paper does not give the layout),
    reference (another library's network, to compare with).

    Args:
        in_channels: channels of the image, at least 1.
        num_classes: classes of the logits, at least 1.
        spatial_dims: 2 or 3.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial).

    Raises:
        ConfigError: channels, classes or dimensions that the network cannot have.
    """

    supported_dims: ClassVar[tuple[int, ...]] = (2, 3)
    paper: ClassVar[str] = ""
    faithfulness: ClassVar[Faithfulness] = "faithful"
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
        if in_channels < 1 or num_classes < 1:
            raise ConfigError(
                f"{name} needs at least one input channel and one class",
                given=f"in_channels={in_channels}, num_classes={num_classes}",
                allowed="integers from 1 up",
                fix="let both come from the data set, or pass in_channels=1, num_classes=2",
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
