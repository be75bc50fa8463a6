"""Networks inside a network: what the wrappers share, from building an inner network to its memory layout."""

import itertools
from collections.abc import Callable
from typing import Any, Self

import torch

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class WrapperNet(SegmentationNet):
    """Base of networks around other networks; takes every memory layout whatever the rank of the kernels inside."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As `nn.Module.to`; torch itself refuses 2-D kernels in the layout of volumes, and 3-D kernels in the other.

        Args:
            args: as in `nn.Module.to`.
            kwargs: as in `nn.Module.to`; either channels-last layout means that of each kernel's own rank.
        """
        if kwargs.get("memory_format") not in CHANNELS_LAST.values():
            return super().to(*args, **kwargs)
        super().to(*args, **{name: value for name, value in kwargs.items() if name != "memory_format"})
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            if tensor.ndim in CHANNELS_LAST:
                tensor.data = tensor.data.contiguous(memory_format=CHANNELS_LAST[tensor.ndim])
        return self


def build_inner(
    owner: str,
    argument: str,
    make: Callable[..., SegmentationNet],
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int,
) -> SegmentationNet:
    """Build the network that an argument of a wrapper describes.

    Args:
        owner: class of the wrapper, for messages.
        argument: the wrapper's argument.
        make: the network's class, or a partial of it that lacks only the arguments below.
        in_channels: channels of the inner network's input.
        num_classes: classes of its logits.
        spatial_dims: dimensions of its input.

    Raises:
        ConfigError: the network refuses an argument, told with its place below the wrapper, or its logits are smaller
            than its input.
    """
    try:
        net = make(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    except ConfigError as error:
        raise ConfigError(
            f"the network {argument} of {owner}: {error.what}",
            given=error.given,
            allowed=error.allowed,
            fix=error.fix.replace("model.", f"model.{argument}."),
        ) from error
    smallest = net.input_size_for([1] * spatial_dims)
    if net.input_size_for(smallest) != smallest:  # an input of its own size is not enough for the wanted output
        raise ConfigError(
            f"the network {argument} of {owner} gives fewer pixels than it takes",
            given=f"{argument}: {type(net).__name__}, which takes {smallest[0]} px for one pixel of logits",
            allowed="networks whose logits have the size of the image",
            fix=f"set model.{argument}.padding=same",
        )
    return net
