"""What a network costs and what it sees, measured: parameters, multiply-adds, activations, receptive field."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from seglab.nets.base import SegmentationNet
from seglab.run.zoo.networks import Node, build_net, graph_of, narrow_nodes

SIZES = {2: (256, 256), 3: (64, 128, 128)}  # of the image that is measured
NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
)
POOLS: dict[type[nn.Module], Any] = {nn.MaxPool2d: F.avg_pool2d, nn.MaxPool3d: F.avg_pool3d}
Range = tuple[int, int]
FIRST_LENGTH = 256
LAST_LENGTH = {2: 4096, 3: 1024}  # pixels along the measured axis after which a field counts as unbounded


@dataclass(frozen=True)
class Measured:
    """The figures of a network.

    Args:
        n_parameters: trainable ones.
        n_multiply_adds: of one image.
        activation_bytes: of one image.
        field: receptive field per axis, in pixels.
        is_bounded: whether the field ends there, or goes on beyond what was tested.
        size: of the image.
    """

    n_parameters: int
    n_multiply_adds: int
    activation_bytes: int
    field: tuple[int, ...]
    is_bounded: bool
    size: tuple[int, ...]


def measure(node: Node, dims: int) -> Measured | None:
    """Figures of a configuration for one channel; None if it does not exist in these dimensions.

    The receptive field is measured in 2-D, which is faster, unless data flows in another way in 3-D.
    """
    net = build_net(node, dims)
    if net is None:
        return None
    size = net.input_size_for(SIZES[dims])
    field_dims = dims if _flows_otherwise(node, dims) else 2
    field, is_bounded = _field_of(json.dumps(narrow_nodes(node)), field_dims)
    return Measured(
        n_parameters(net),
        n_multiply_adds(net, size),
        activation_bytes(net, size),
        field if len(set(field)) > 1 else field[:1] * dims,
        is_bounded,
        size,
    )


def _flows_otherwise(node: Node, dims: int) -> bool:
    graph, plane = graph_of(node, dims), graph_of(node, 2)
    return graph is None or plane is None or set(graph.edges) != set(plane.edges)


@cache
def _field_of(nodes: str, dims: int) -> tuple[tuple[int, ...], bool]:
    """Receptive field of the first of some configurations that exists."""
    nets = (build_net(node, dims, device="cpu") for node in json.loads(nodes))
    return receptive_field(next(net for net in nets if net is not None))


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
    n_operations: int = counter.get_total_flops()
    return n_operations // 2


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
        """Count a tensor that is kept for the backward pass, each memory once."""
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
    instance norm see the whole image, and a maximum is replaced by a mean, whose gradient reaches all of its pixels.
    Neighbouring pixels see different extents, depending on their place in the strides; all places are asked.

    Args:
        net: on the CPU; its weights are overwritten. The field does not depend on the width.

    Returns:
        Extent per axis, and whether it ends inside the tested length; if not, the extent is that length.
    """
    _make_positive(net)
    length, ends, last_place = FIRST_LENGTH, [], net.size_multiple - 1
    extents: list[int] = []
    for axis in range(net.spatial_dims):
        seen, n_pixels = _line(net, axis, length)
        while any(first == 0 or last == n_pixels - 1 for first, last in (seen(0), seen(last_place))):
            length *= 2
            if length > LAST_LENGTH[net.spatial_dims]:  # the other axes see everything as well
                return (LAST_LENGTH[net.spatial_dims],) * net.spatial_dims, False
            seen, n_pixels = _line(net, axis, length)
        ends.append((seen(0), seen(last_place), n_pixels))
        if ends[-1] == ends[0] and extents:
            extents.append(extents[0])  # this axis is treated like the first
        else:
            extents.append(max(last - first + 1 for first, last in _all_seen(seen, 0, last_place)))
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


class _Attached(TorchFunctionMode):
    """Lets the gradient pass where a network detaches what it nevertheless depends on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call any function but `detach`."""
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def _line(net: SegmentationNet, axis: int, length: int) -> tuple[Callable[[int], Range], int]:
    """What tells the first and last input pixel that an output pixel sees along an axis, and the length of the image.

    Args:
        net: with positive weights.
        axis: which spatial axis.
        length: wanted along this axis; along the others the image is as short as the network allows.

    Returns:
        A function of the output pixel, counted from the middle of the axis, and the length.
    """
    wanted = [1] * net.spatial_dims
    wanted[axis] = length
    image = torch.ones(1, 1, *net.input_size_for(wanted), dtype=torch.float64, requires_grad=True)
    with _Attached():
        line = net(image).sum(dim=1).movedim(axis + 1, -1)[0]  # (..., length)
    across = [n // 2 for n in line.shape[:-1]]
    other_axes = [n for n in range(image.ndim) if n != axis + 2]

    @cache
    def seen(place: int) -> Range:
        """One pass backwards."""
        (gradient,) = torch.autograd.grad(line[(*across, line.shape[-1] // 2 + place)], image, retain_graph=True)
        pixels = (gradient != 0).any(dim=other_axes).nonzero()  # (n, 1)
        return int(pixels.min()), int(pixels.max())

    return seen, image.shape[axis + 2]


def _all_seen(seen: Callable[[int], Range], low: int, high: int) -> set[Range]:
    """What all places from `low` to `high` see; both ends only move on, so between two that see the same all do."""
    if high - low < 2 or seen(low) == seen(high):
        return {seen(low), seen(high)}
    middle = (low + high) // 2
    return _all_seen(seen, low, middle) | _all_seen(seen, middle, high)
