"""How data flows through a network: its blocks and the edges between them, seen in one pass on the meta device.

Blocks are the network's children, lists of them item by item; a child that holds levels of its own, such as an encoder,
is opened. Concatenations, poolings, norms and whatever else has no weights belongs to no block: data passes through.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seglab.nets.base import SegmentationNet

IMAGE, LOGITS, SIDE = "image", "logits", "side output"
SIZES = {2: (160, 256), 3: (96, 160, 256)}  # differ along the axes, so that channels last are told from channels first
N_LEVELS_OPENED = 3


@dataclass(frozen=True)
class Block:
    """A box of the drawing.

    Args:
        name: its name in the network, or image, logits, side output.
        channels: of its last output.
        level: log2 of how much smaller than the image its last output is, per axis.
    """

    name: str
    channels: int
    level: int


@dataclass(frozen=True)
class Graph:
    """Blocks in the order in which they are called, the image first and the logits last, and who hands on to whom."""

    blocks: tuple[Block, ...]
    edges: tuple[tuple[str, str], ...]


def trace(net: SegmentationNet) -> Graph:
    """Graph of a network, side outputs of its training included.

    Args:
        net: on the meta device.
    """
    net.train()
    size = net.input_size_for(SIZES[net.spatial_dims])
    leaves = {name: module for name, module in net.named_modules() if next(module.parameters(recurse=False), None) is not None}
    first = _Flow(leaves, size)
    first.run(net)
    blocks = dict(_split(net, "", first.levels))
    flow = _Flow(blocks, size)
    flow.run(net)
    return flow.graph()


def _split(module: nn.Module, prefix: str, levels: dict[str, set[int]]) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a module and their names, depth first."""
    for name, child in module.named_children():
        path = prefix + name
        if not _has_weights(child):
            continue
        inside = set().union(*(found for leaf, found in levels.items() if f"{leaf}.".startswith(f"{path}.")))
        is_nested = any(_has_weights(part) for grandchild in child.children() for part in grandchild.children())
        is_list = isinstance(child, nn.ModuleList | nn.ModuleDict)
        if is_list or isinstance(child, SegmentationNet) or (is_nested and len(inside) >= N_LEVELS_OPENED):
            yield from _split(child, f"{path}.", levels)
        else:
            yield path, child


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


class _Flow(TorchDispatchMode):
    """Notes for every tensor which blocks it comes from.

    An operation belongs to the block in whose forward it runs or, outside of them all, to the one whose weights it uses.

    Args:
        blocks: names and modules.
        size: spatial size of the image.
    """

    def __init__(self, blocks: dict[str, nn.Module], size: Sequence[int]) -> None:
        super().__init__()
        self.blocks, self.size = blocks, tuple(size)
        self.kept: list[Any] = []  # held, so that no later tensor gets the identity of an earlier one
        self.weights = {id(p): name for name, module in blocks.items() for p in module.parameters() if p.ndim > 1}
        self.sources: dict[int, frozenset[str]] = {}
        self.running: list[str] = []
        self.found: dict[str, tuple[int, int]] = {}  # channels and level, in the order of calls
        self.levels: dict[str, set[int]] = defaultdict(set)
        self.edges: dict[tuple[str, str], None] = {}

    def run(self, net: SegmentationNet) -> None:
        """Push one image through the network."""
        image = torch.empty(1, net.in_channels, *self.size, device="meta")
        self._note(IMAGE, [image])
        hooks = []
        for name, module in self.blocks.items():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self.running.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: self._leave(_[-1])))
        with torch.no_grad(), self:
            *sides, logits = net.training_outputs(image)
        for hook in hooks:
            hook.remove()
        for place, side in enumerate(sides, start=1):
            self._end(f"{SIDE} {place}" if len(sides) > 1 else SIDE, side)
        self._end(LOGITS, logits)

    def graph(self) -> Graph:
        """What was seen."""
        return Graph(tuple(Block(name, *place) for name, place in self.found.items()), tuple(self.edges))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._pass(_tensors((args, kwargs)), _tensors(result))
        return result

    def _pass(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Note what one operation made of its inputs."""
        sources = frozenset().union(*(self.sources.get(id(tensor), frozenset()) for tensor in inputs))
        owners = [self.weights[id(tensor)] for tensor in inputs if id(tensor) in self.weights]
        self.kept += outputs
        if not sources:  # a constant, or weights that are put together
            self.weights.update({id(tensor): owners[0] for tensor in outputs} if owners else {})
            return
        block = self.running[-1] if self.running else next(iter(owners), None)
        if block is None:
            self.sources.update({id(tensor): sources for tensor in outputs})
            return
        self.edges.update({(source, block): None for source in sorted(sources - {block})})
        self._note(block, outputs)

    def _leave(self, output: Any) -> None:
        block = self.running.pop()
        self._note(block, _tensors(output)[-1:])

    def _end(self, name: str, output: Tensor) -> None:
        """An output of the network."""
        self.edges.update({(source, name): None for source in sorted(self.sources.get(id(output), ()))})
        self._note(name, [output])

    def _note(self, block: str, outputs: list[Tensor]) -> None:
        """These tensors come from this block."""
        for tensor in outputs:
            self.kept.append(tensor)
            self.sources[id(tensor)] = frozenset({block})
            place = _place(tensor, self.size)
            if place is not None:
                self.found[block] = place
                self.levels[block].add(place[1])
        self.found.setdefault(block, (0, 0))


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _place(tensor: Tensor, size: Sequence[int]) -> tuple[int, int] | None:
    """Channels and level of a feature, with channels first or last; None if it is no picture of the image."""
    if tensor.ndim != len(size) + 2:
        return None
    for channels, spatial in ((tensor.shape[1], tensor.shape[2:]), (tensor.shape[-1], tensor.shape[1:-1])):
        scales = [math.log2(full / length) for full, length in zip(size, spatial, strict=True)]
        if max(scales) - min(scales) < 0.1:
            return channels, round(sum(scales) / len(scales))
    return None
