"""How data flows through a network: its blocks and the edges between them, seen in one pass on the meta device.

Blocks are the network's children, lists of them item by item; a child that holds levels of its own, such as an encoder,
is opened. Concatenations, poolings, norms and whatever else has no weights belongs to no block: data passes through.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seglab.nets.base import SegmentationNet

IMAGE, LOGITS = "image", "logits"
SIZES = {2: (160, 256), 3: (32, 64, 32)}  # differ along the axes, which tells channels last from channels first
N_LEVELS_OPENED = 3


@dataclass(frozen=True)
class Block:
    """A box of the drawing.

    Args:
        name: its name in the network, or image or logits for the two ends.
        channels: of its last output.
        level: log2 of how much smaller than the image its last output is, per axis.
    """

    name: str
    channels: int
    level: int


@dataclass(frozen=True)
class Graph:
    """What a network is made of.

    Args:
        blocks: in the order in which they are called, the image first and the logits last.
        edges: from which block to which data flows.
        supervised: blocks that give the side outputs of the training.
    """

    blocks: tuple[Block, ...]
    edges: tuple[tuple[str, str], ...]
    supervised: frozenset[str]


def trace(net: SegmentationNet) -> Graph:
    """Graph of a network in training, when it computes its side outputs too.

    Args:
        net: on the meta device.
    """
    net.train()
    size = net.input_size_for(SIZES[net.spatial_dims])
    layers = _Flow({name: module for name, module in net.named_modules() if _is_layer(module)}, size)
    layers.run(net)
    blocks = _Flow(dict(_split(net, "", layers.levels)), size)
    blocks.run(net)
    return blocks.graph()


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


def _is_layer(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


class _Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes for every tensor which blocks it comes from.

    An operation belongs to the block in whose forward it runs or, outside of them all, to that whose weights it uses.

    Args:
        blocks: names and modules.
        size: spatial size of the image.
    """

    def __init__(self, blocks: dict[str, nn.Module], size: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.blocks, self.size = blocks, tuple(size)
        self.kept: list[Any] = []  # held, so that no later tensor gets the identity of an earlier one
        self.weights = {id(p): name for name, module in blocks.items() for p in module.parameters() if p.ndim > 1}
        self.sources: dict[int, frozenset[str]] = {}
        self.running: list[str] = []
        self.found: dict[str, tuple[int, int]] = {}  # channels and level, in the order of calls
        self.levels: dict[str, set[int]] = defaultdict(set)
        self.edges: dict[tuple[str, str], None] = {}
        self.supervised: frozenset[str] = frozenset()

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
        self.supervised = frozenset().union(*(self.sources.get(id(side), frozenset()) for side in sides))
        self._hand_on(self.sources.get(id(logits), frozenset()), LOGITS)
        self._note(LOGITS, [logits])

    def graph(self) -> Graph:
        """What was seen."""
        blocks = tuple(Block(name, *place) for name, place in self.found.items())
        return Graph(blocks, tuple(self.edges), self.supervised)

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
            if len(sources) == 1 and not any(_place(tensor, self.size) for tensor in inputs):
                self._note(next(iter(sources)), outputs)  # a block's tokens become a picture
            return
        self._hand_on(sources, block)
        self._note(block, outputs)

    def _leave(self, output: Any) -> None:
        block = self.running.pop()
        self._note(block, _tensors(output)[-1:])

    def _hand_on(self, sources: frozenset[str], block: str) -> None:
        self.edges.update({(source, block): None for source in sorted(sources - {block})})

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
    """Channels and level of a feature, with channels first or last; None if it is no picture of the image.

    A picture may have an axis less than the image, whose places are then in the batch.
    """
    if tensor.ndim < 4:
        return None
    for channels, spatial in ((tensor.shape[1], tensor.shape[2:]), (tensor.shape[-1], tensor.shape[1:-1])):
        for full in combinations(size, len(spatial)):
            scales = [math.log2(n_full / n) for n_full, n in zip(full, spatial, strict=True)]
            if max(scales) - min(scales) < 0.1:
                return channels, round(sum(scales) / len(scales))
    return None
