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


class Aim:
    """Where foreground patches go: a class is drawn first, so that a rare one comes as often as a common one.

    Args:
        fraction: probability that a patch is aimed at a class at all.
        odds: how often each class is drawn, in any unit, (K,); 0 for never.
        pixels: of each class in each case, (n, K).
        sizes: how often each case comes, in any unit, (n,).
    """

    def __init__(
        self, *, fraction: float, odds: Sequence[float], pixels: Sequence[Sequence[int]], sizes: NDArray[np.int_]
    ) -> None:
        self.shown = np.array(pixels) > 0
        self.labels = np.flatnonzero(self.shown.any(axis=0) & (np.array(odds) > 0))
        chosen = np.array(odds, float)[self.labels]
        self.fraction = fraction if len(self.labels) else 0.0
        self.odds = chosen / chosen.sum() if len(chosen) else chosen
        self.ends = {int(label): np.cumsum(sizes * self.shown[:, label]) for label in self.labels}

    def draw(self, rng: np.random.Generator, case: int) -> tuple[int, int | None]:
        """The case, or another one that shows the class that was drawn, and this class; None for any place.

        Args:
            rng: draws.
            case: number of the case whose turn it is.
        """
        if rng.random() >= self.fraction:
            return case, None
        label = int(rng.choice(self.labels, p=self.odds))
        if not self.shown[case, label]:
            ends = self.ends[label]
            case = int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))
        return case, label


def patch_start(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    places: NDArray[np.int32] | None,
) -> tuple[int, ...]:
    """Corner of a random patch; negative along an axis where the image is smaller than the patch.

    Args:
        rng: draws the place.
        shape: (D, H, W) of the case.
        patch: (depth, height, width) of the patch.
        places: (n, 3) pixels z, y, x, one of which the patch is centred on as far as it lies within the case; None
            draws any place.

    Returns:
        (z, y, x) of the first pixel.
    """
    if places is None or len(places) == 0:
        return tuple(_draw_start(rng, length, size) for length, size in zip(shape, patch, strict=True))
    centre = places[rng.integers(len(places))]
    return tuple(
        min(max(int(middle) - size // 2, 0), length - size) if length > size else (length - size) // 2
        for middle, length, size in zip(centre, shape, patch, strict=True)
    )


def _draw_start(rng: np.random.Generator, length: int, size: int) -> int:
    return int(rng.integers(length - size + 1)) if length >= size else (length - size) // 2
