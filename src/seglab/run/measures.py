"""What a network costs and what it sees, measured: parameters, multiply-adds, activations, receptive field."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from seglab.nets.base import SegmentationNet

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
)
POOLS: dict[type[nn.Module], Any] = {nn.MaxPool2d: F.avg_pool2d, nn.MaxPool3d: F.avg_pool3d}
FIRST_LENGTH = 256
LAST_LENGTH = {2: 4096, 3: 1024}  # pixels along the measured axis after which a field counts as unbounded


def n_parameters(net: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def n_multiply_adds(net: SegmentationNet, size: Sequence[int]) -> int:
    """Multiply-adds of convolutions and matrix products for one image; half of the operations that torch counts.

    Args:
        net: on any device.
        size: spatial size that the network takes.
    """
    net.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(_image(net, size))
    return counter.get_total_flops() // 2


def activation_bytes(net: SegmentationNet, size: Sequence[int]) -> int:
    """Bytes that one image leaves behind for the backward pass in float32, parameters and buffers not counted.

    Each storage counts once, however many operations keep it. The same on the meta device as on a real one.

    Args:
        net: on any device.
        size: spatial size that the network takes.
    """
    net.train()
    own = {tensor.untyped_storage()._cdata for tensor in [*net.parameters(), *net.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no later storage gets its address
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = net(_image(net, size))  # noqa: F841  # holds the graph
    return sum(storage.nbytes() for storage in kept.values())


def receptive_field(net: SegmentationNet) -> tuple[tuple[int, ...], bool]:
    """Largest extent in pixels, per axis, of the input that one output pixel depends on.

    Measured by the gradient: with positive weights nothing cancels. Norms are left out, because the statistics of an
    instance norm see the whole image, and a maximum is replaced by a mean, whose gradient reaches all of its pixels. The
    pixels of a stride see different extents; all of them are asked.

    Args:
        net: on the CPU; its weights are overwritten. The field does not depend on the width.

    Returns:
        Extent per axis, and whether it ends inside the tested length; if not, the extent is that length.
    """
    _make_positive(net)
    extents = []
    for axis in range(net.spatial_dims):
        length, last = FIRST_LENGTH, LAST_LENGTH[net.spatial_dims]
        extent, tested = _extent(net, axis, length)
        while extent >= tested and length < last:
            length *= 2
            extent, tested = _extent(net, axis, length)
        extents.append(extent)
        if extent >= tested:  # the other axes see everything as well
            return (extent,) * net.spatial_dims, False
    return tuple(extents), True


def _image(net: SegmentationNet, size: Sequence[int]) -> Tensor:
    parameter = next(net.parameters())
    return torch.zeros(1, net.in_channels, *size, device=parameter.device, dtype=parameter.dtype)


def _make_positive(net: SegmentationNet) -> None:
    """Positive weights in float64, of a size that keeps sums near 1; eval mode; no norms, no maxima."""
    net.double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
        size = math.prod(parameter.shape[1:])
        parameter.data = drawn / size if parameter.ndim > 1 else parameter.data.abs()
    for module in net.modules():
        if isinstance(module, NORMS):
            module.register_forward_hook(lambda module, inputs, output: inputs[0])
        elif type(module) in POOLS:
            module.register_forward_hook(_mean_instead)


def _mean_instead(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    mean: Tensor = POOLS[type(module)](
        inputs[0], module.kernel_size, module.stride, module.padding, ceil_mode=module.ceil_mode
    )
    return mean


def _extent(net: SegmentationNet, axis: int, length: int) -> tuple[int, int]:
    """Largest extent along an axis of an image that is long there and as short as allowed elsewhere; its length."""
    wanted = [1] * net.spatial_dims
    wanted[axis] = length
    size = net.input_size_for(wanted)
    image = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    line = net(image).sum(dim=1).movedim(axis + 1, -1)[0]  # (..., length)
    centres = [n // 2 for n in line.shape[:-1]]
    first = line.shape[-1] // 2
    largest = 0
    for place in range(first, first + net.size_multiple):
        (gradient,) = torch.autograd.grad(line[(*centres, place)], image, retain_graph=True)
        other_axes = [n for n in range(gradient.ndim) if n != axis + 2]
        seen = (gradient != 0).any(dim=other_axes).nonzero()  # (n, 1)
        largest = max(largest, int(seen.max() - seen.min()) + 1)
    return largest, size[axis]
