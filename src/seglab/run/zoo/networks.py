"""Networks of conf/model, built without data: as configured, with the defaults of their class, or narrow."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from inspect import signature
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

from seglab.errors import ConfigError, SeglabError
from seglab.nets.base import SegmentationNet
from seglab.run.catalogue import CONF, names
from seglab.run.make import locate, make
from seglab.run.zoo.graph import Graph, trace

N_CLASSES = 2
WIDTHS = (1, 2, 4, 8, 12, 16)
N_SEEDS = 8
Node = dict[str, Any]


def chosen(only: Sequence[str] | None) -> list[str]:
    """The choices of conf/model, or those of them that are named.

    Raises:
        ConfigError: a name that there is not.
    """
    unknown = sorted(set(only or ()) - set(names("model")))
    if unknown:
        raise ConfigError(
            "there are no such networks",
            given=f"only=[{','.join(unknown)}]",
            allowed=", ".join(names("model")),
            fix="leave only out for all networks",
        )
    return [name for name in names("model") if only is None or name in only]


def node_of(name: str) -> Node:
    """The configuration of a choice of conf/model."""
    node: Node = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    return node


def default_node(name: str) -> Node:
    """The configuration of a choice with its class's own defaults, which are the paper's.

    Where several choices are one class, the words and flags that tell them apart are kept: R2AttU-Net's `attention`.
    """
    node = node_of(name)
    siblings = [other for other in map(node_of, names("model")) if other["_target_"] == node["_target_"]]
    chosen = {
        key: value
        for key, value in node.items()
        if isinstance(value, bool | str) and any(other.get(key) != value for other in siblings)
    }
    return {**_defaults(node), **chosen}


def narrow_nodes(node: Node) -> list[Node]:
    """The same network at small widths, narrowest first; not all of them need exist."""
    return [_with_width(node, width) for width in WIDTHS]


def class_of(node: Node) -> type[SegmentationNet]:
    """The class that a configuration names."""
    cls: Any = locate(node["_target_"], "model")
    return cls  # type: ignore[no-any-return]


def build_net(node: Node, dims: int, *, num_classes: int | None = None, device: str = "meta") -> SegmentationNet | None:
    """A network for images of one channel; on the meta device it has shapes and no memory.

    Args:
        node: its configuration.
        dims: spatial dimensions.
        num_classes: classes; None for two, or the fewest that it takes.
        device: "meta" or "cpu".

    Returns:
        None if this configuration does not exist in these dimensions.
    """
    num_classes = num_classes or max(N_CLASSES, class_of(node).min_classes)
    try:
        with torch.device(device):
            net: SegmentationNet = make(node, "model", in_channels=1, num_classes=num_classes, spatial_dims=dims)
    except SeglabError:
        return None
    return net.to(device)  # some libraries' networks have made a weight on the CPU


def narrow_net(name: str, dims: int) -> SegmentationNet | None:
    """The narrowest network of a choice of conf/model, on the CPU, its weights drawn from seed 0.

    Returns:
        None if it does not exist in these dimensions.
    """
    return next(narrow_nets(name, dims), None)


def narrow_nets(name: str, dims: int) -> Iterator[SegmentationNet]:
    """Networks of a choice of conf/model, on the CPU, narrowest first, of each width some whose weights differ."""
    for node in narrow_nodes(node_of(name)):
        for seed in range(N_SEEDS):
            torch.manual_seed(seed)
            if (net := build_net(node, dims, device="cpu")) is None:
                break
            yield net


def graph_of(node: Node, dims: int) -> Graph | None:
    """Blocks of a network and the data between them; with more classes if some of its parts are per class."""
    return _graph_of(json.dumps(node), dims)


@cache
def _graph_of(node: str, dims: int) -> Graph | None:
    few = build_net(json.loads(node), dims)
    if few is None:
        return None
    many = build_net(json.loads(node), dims, num_classes=few.num_classes + 2) or few
    return trace(max(few, many, key=lambda net: len(list(net.modules()))))


def _defaults(node: Node) -> Node:
    """Targets without arguments, nested ones included."""
    kept = {key: value for key, value in node.items() if key in ("_target_", "_partial_")}
    return kept | {key: _defaults(value) for key, value in node.items() if isinstance(value, dict)}


def _with_width(node: Node, width: int) -> Node:
    inner = {key: _with_width(value, width) for key, value in node.items() if isinstance(value, dict)}
    has_width = "base_channels" in signature(locate(node["_target_"], "model")).parameters
    return {**node, **inner} | ({"base_channels": width} if has_width else {})
