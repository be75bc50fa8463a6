"""Planning: what a configuration leaves open is chosen by the data and made to fit into the memory at hand."""

import logging
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from seglab.data.module import SegmentationData
from seglab.data.plan import plan_depth, smaller
from seglab.errors import SeglabError
from seglab.nets.base import SegmentationNet
from seglab.run.engine import Engine

Config = dict[str, Any]

GIB = 2**30
SHARE = 0.8
"""Of the memory that a training may take; the rest is for the loader, the metrics and what else runs."""

BYTES_PER_PARAMETER = 16
"""Weight, gradient and two moments of the optimizer, float32."""

CGROUP = Path("/sys/fs/cgroup/memory.max")

log = logging.getLogger("seglab")


def with_depth(config: Config, patch: Sequence[int]) -> Config:
    """The configuration with a number of poolings where the model leaves it open (null)."""
    if config["model"].get("n_poolings", 0) is not None:
        return config
    return {**config, "model": {**config["model"], "n_poolings": plan_depth(patch)}}


def fit_memory(config: Config, data: SegmentationData, net: SegmentationNet, room: float) -> Config:
    """Make what the user left open small enough, tell the plan in a line, and write it into the configuration.

    What the user has set stays, whether it fits or not, and nothing gets smaller than the network can train on. The
    memory is that of the machine, not what happens to be free, so that the same command plans the same there.

    Args:
        config: of the run, with the model's depth.
        data: loaded; takes what is planned.
        net: of the run.
        room: bytes that a training step may take.

    Returns:
        The configuration with batch and patch size as numbers.
    """
    node = config["data"]
    is_open = {name: node.get(name) is None for name in ("patch_size", "batch_size")}
    patch, batch_size = data.spec.patch_size, data.n_per_batch
    if node.get("plan") != "auto":
        data.use(patch_size=patch, batch_size=batch_size)
        return {**config, "data": {**node, "batch_size": batch_size}}
    needed = step_bytes(net, patch, batch_size)  # None is refused by the checks before a training
    while needed is not None and needed > room:
        less = smaller(patch, batch_size, may_cut=is_open["patch_size"], may_share=is_open["batch_size"])
        needed_then = None if less is None else step_bytes(net, *less)
        if less is None or needed_then is None:
            break
        (patch, batch_size), needed = less, needed_then
    data.use(patch_size=patch, batch_size=batch_size)
    if needed is not None:
        _tell(patch, batch_size, is_open, needed, room)
    return {**config, "data": {**node, "patch_size": list(patch), "batch_size": batch_size}}


def _tell(patch: Sequence[int], batch_size: int, is_open: Mapping[str, bool], needed: int, room: float) -> None:
    how = {name: "planned" if left_open else "as set" for name, left_open in is_open.items()}
    log.info(
        f"plan: patch {'x'.join(map(str, patch))} ({how['patch_size']}), batch {batch_size} ({how['batch_size']}); "
        f"a step takes about {needed / GIB:.2g} of {room / GIB:.3g} GiB"
    )
    if needed > room:
        log.warning("the plan may not fit into memory: set data.batch_size or data.patch_size smaller, or plan=none")


def memory_at_hand(engine: Engine) -> float:
    """Bytes that one process of a run may take: of its GPU, or its share of the machine."""
    if engine.uses_gpu:
        return SHARE * min(torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count()))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text(encoding="ascii").strip() if CGROUP.is_file() else "max"
    total = machine if limit == "max" else min(machine, int(limit))
    return SHARE * total / max(1, engine.world_size)


def step_bytes(net: SegmentationNet, patch: Sequence[int], batch_size: int) -> int | None:
    """Bytes of a training step in float32: what the backward pass keeps, and the weights with what belongs to them.

    Measured by a pass without numbers. Less is needed in bfloat16.

    Args:
        net: of the run, unchanged.
        patch: spatial size.
        batch_size: samples.

    Returns:
        None where the network cannot train on such a step, such as batch norm with a single pixel at its lowest level.
    """
    probe = deepcopy(net).to("meta").train()
    own = {_storage(tensor) for tensor in (*probe.parameters(), *probe.buffers())}
    kept: dict[Any, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        """Count a tensor that is kept for the backward pass, each memory once."""
        storage = _storage(tensor)
        if storage not in own:
            kept[storage] = tensor.untyped_storage().nbytes()
        return tensor

    try:
        size = probe.input_size_for(tuple(patch))
        image = torch.empty(batch_size, probe.in_channels, *size, device="meta")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = probe(image)
    except (SeglabError, RuntimeError, ValueError):
        return None
    passing = 2 * max(kept.values(), default=0) + 2 * int(logits.nbytes)  # gradients on their way back
    n_parameters = sum(parameter.numel() for parameter in probe.parameters())
    return sum(kept.values()) + passing + BYTES_PER_PARAMETER * n_parameters


def _storage(tensor: Tensor) -> Any:
    """What tells whether two tensors share their memory, also where there is none."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
