"""What the processes of a run tell each other, and the seeds they share."""

import hashlib
import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn


def average_buffers(module: nn.Module) -> None:
    """Average the running statistics over ranks, so that every rank scores, and rank 0 saves, the same network."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            total = buffer.double()  # in float32 the mean of three equal numbers may be another one
            dist.all_reduce(total)
            buffer.copy_(total / dist.get_world_size())


def gather(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the rows of all ranks on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts: list[list[dict[str, Any]]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def seed_chance(seed: int) -> None:
    """Seed every global source of chance of this process: Python's, numpy's, and torch's on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def derive_seed(*key: int) -> int:
    """A 63-bit seed from integers, alike on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1
