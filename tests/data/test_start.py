"""Training data can start within an epoch: the rest of its batches come as they would have come."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from seglab.data.augment import Augment
from seglab.data.crack import CrackData
from seglab.data.dataset import Batch


def loader(crack_root: Path, cache_dir: Path, n_workers: int) -> tuple[CrackData, DataLoader[Batch]]:
    """Ten batches of two augmented patches."""
    size = {"patch_size": [32, 32], "batch_size": 2, "samples_per_epoch": 20, "num_workers": n_workers}
    data = CrackData(root=str(crack_root), cache_dir=str(cache_dir), augment=Augment(), **size)
    return data, data.load().train_dataloader()


def same(one: Batch, two: Batch) -> bool:
    return (
        one["case"] == two["case"] and torch.equal(one["image"], two["image"]) and torch.equal(one["mask"], two["mask"])
    )


@pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_loader_starts_with_the_next_batch_and_then_with_whole_epochs(
    n_workers: int, crack_root: Path, cache_dir: Path
) -> None:
    data, batches = loader(crack_root, cache_dir, 0)
    data.next_batch = lambda: (0, 0)
    first = list(batches)
    data.next_batch = lambda: (1, 0)
    second = list(batches)
    assert len(first) == len(batches) == 10 and not any(map(same, first, second))

    data, batches = loader(crack_root, cache_dir, n_workers)
    data.next_batch = lambda: (0, 7)
    rest = list(batches)
    assert len(rest) == 3 and all(map(same, rest, first[7:])) and len(batches) == 10
    data.next_batch = lambda: (1, 0)
    assert all(map(same, batches, second))


def test_without_a_run_every_iteration_is_a_whole_epoch(crack_root: Path, cache_dir: Path) -> None:
    _, batches = loader(crack_root, cache_dir, 0)
    once, again = list(batches), list(batches)
    assert len(once) == len(again) == 10 and all(map(same, once, again))
