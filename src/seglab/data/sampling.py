"""Which sample comes when: drawn from (seed, epoch, index) alone, shared out over ranks without repeats.

Nothing here keeps a state, so the worker count, a restart or the moment at which Lightning announces an epoch change
nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Training order: yields (epoch, index); every rank gets equally many, as gradients are averaged step by step.

    Args:
        n_samples: samples of an epoch over all ranks.
        seed: of the run.
        start: gives, when an iteration starts, the epoch and how many of its samples this rank has trained on already.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self, n_samples: int, *, seed: int, start: Callable[[], tuple[int, int]], rank: int, world: int
    ) -> None:
        self.n_samples, self.seed, self.start, self.rank, self.world = n_samples, seed, start, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, n_trained = self.start()
        order = generator(self.seed, epoch).permutation(self.n_samples)
        padded = np.resize(order, len(self) * self.world)  # repeats the first few when ranks do not divide the samples
        for index in padded[self.rank :: self.world][n_trained:]:
            yield epoch, int(index)

    def __len__(self) -> int:
        """Samples of a whole epoch, wherever an iteration starts."""
        return math.ceil(self.n_samples / self.world)


class ShapeBatchSampler(Sampler[list[int]]):
    """Evaluation order: every item exactly once over all ranks, batches of equal shape.

    Items are cut into batches before the ranks take turns, so a batch holds the same items on any number of ranks.

    Args:
        shapes: spatial size of each item.
        batch_size: most items of a batch.
        rank: of this process.
        world: number of processes.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], *, batch_size: int, rank: int, world: int) -> None:
        batches: list[list[int]] = []
        open_batch: dict[tuple[int, ...], list[int]] = {}
        for index, shape in enumerate(shapes):
            batch = open_batch.get(shape)
            if batch is None or len(batch) == batch_size:
                batch = open_batch[shape] = []
                batches.append(batch)
            batch.append(index)
        self.batches = batches[rank::world]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class CaseSampler(Sampler[int]):
    """Whole cases for the test: case i belongs to rank i modulo world; none is repeated."""

    def __init__(self, n_cases: int, *, rank: int, world: int) -> None:
        self.indices = range(rank, n_cases, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def generator(*key: int) -> np.random.Generator:
    """A random generator that depends on the given non-negative integers alone."""
    return np.random.default_rng(np.random.SeedSequence(key))


def patch_start(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    foreground: NDArray[np.int32] | None,
) -> tuple[int, ...]:
    """Corner of a random patch; negative along an axis where the image is smaller than the patch.

    Args:
        rng: draws the place.
        shape: (D, H, W) of the case.
        patch: (depth, height, width) of the patch.
        foreground: (n, 4) rows class, z, y, x; when given, the patch is centred on a pixel of a class drawn evenly
            from those present. None draws any place.

    Returns:
        (z, y, x) of the first pixel.
    """
    if foreground is None or len(foreground) == 0:
        return tuple(_draw_start(rng, length, size) for length, size in zip(shape, patch, strict=True))
    rows = foreground[foreground[:, 0] == rng.choice(np.unique(foreground[:, 0]))]
    centre = rows[rng.integers(len(rows)), 1:]
    return tuple(
        min(max(int(middle) - size // 2, 0), length - size) if length > size else (length - size) // 2
        for middle, length, size in zip(centre, shape, patch, strict=True)
    )


def _draw_start(rng: np.random.Generator, length: int, size: int) -> int:
    return int(rng.integers(length - size + 1)) if length >= size else (length - size) // 2
