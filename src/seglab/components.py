"""Connected components of binary masks in two or three dimensions, by runs of pixels instead of pixels.

A mask is cut to its bounding box and read once for its runs along the last axis; runs of neighbouring rows are joined
where they overlap, by two binary searches, and a graph of runs is far smaller than one of pixels. Nothing of the
input is changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Mask = NDArray[np.bool_]
Labels = NDArray[np.bool_] | NDArray[np.uint8]
Box = tuple[slice, ...]
Neighbours = Literal["faces", "all"]
"""Pixels that touch: by a face (4 in two dimensions, 6 in three), or also by an edge or corner (8, 26)."""


@dataclass(frozen=True)
class Components:
    """The components of a mask, numbered from 0 in the order of their first pixel.

    Args:
        mask: that they are the components of.
        box: its bounding box, outside of which there is nothing.
        starts: first pixel of each run, in the flat array of the box with a margin of one pixel at its ends.
        ends: the pixel behind each run.
        labels: number of the component of each run.
    """

    mask: Mask
    box: Box
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Pixels of each component."""
        return np.bincount(self.labels, self.ends - self.starts).astype(np.int64)

    def select(self, chosen: NDArray[np.bool_]) -> Mask:
        """A mask of some components.

        Args:
            chosen: for each component, whether it is in the result.

        Returns:
            A new array.
        """
        runs = chosen[self.labels]
        lengths = self.ends - self.starts
        if 2 * lengths[runs].sum() > lengths.sum():
            kept = self.mask.copy()
            kept.reshape(-1)[self._pixels(~runs)] = False
        else:
            kept = np.zeros(self.mask.shape, bool)
            kept.reshape(-1)[self._pixels(runs)] = True
        return kept

    def image(self) -> NDArray[np.int32]:
        """Each component by its number plus 1, and 0 elsewhere, as an array of the mask's shape."""
        whole = np.zeros(self.mask.shape, np.int32)
        every = np.ones(len(self.starts), bool)
        whole.reshape(-1)[self._pixels(every)] = np.repeat(self.labels + 1, self.ends - self.starts)
        return whole

    def largest(self) -> Mask:
        """A mask of the largest component; of equal ones the first, of none an empty one."""
        sizes = self.sizes
        chosen = np.zeros(len(sizes), bool)
        if len(sizes):
            chosen[sizes.argmax()] = True
        return self.select(chosen)

    def _pixels(self, runs: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Numbers of the pixels of some runs in the flat array of the mask."""
        starts, lengths = self.starts[runs], (self.ends - self.starts)[runs]
        padded = tuple(part.stop - part.start + 1 for part in self.box)
        axes = [axis + part.start for axis, part in zip(np.unravel_index(starts, padded), self.box, strict=True)]
        places = np.ravel_multi_index(axes, self.mask.shape)
        before = np.cumsum(lengths) - lengths
        return np.repeat(places - before, lengths) + np.arange(int(lengths.sum()))


def components(mask: Mask, neighbours: Neighbours = "all") -> Components:
    """Find the connected components of a mask.

    Args:
        mask: (H, W) or (D, H, W) bool; it is not changed.
        neighbours: which pixels touch.

    Returns:
        The components.
    """
    box = bounding_box(mask)
    nothing = np.zeros(0, np.int64)
    if box is None:
        return Components(mask, tuple(slice(0, 0) for _ in mask.shape), nothing, nothing, nothing)
    cut = mask[box]
    starts, ends = _runs(cut)
    pairs = [_touching(starts, ends, shift, reach) for shift, reach in _rows(cut.shape, neighbours)]
    one, two = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(one), bool), (one, two)), shape=(len(starts), len(starts)))
    labels = connected_components(graph, directed=False)[1].astype(np.int64)
    return Components(mask, box, starts, ends, labels)


def fill_holes(mask: Mask) -> Mask:
    """A new mask without holes: background that no path across faces joins to the border of the image is filled."""
    box = bounding_box(mask)
    if box is None:
        return mask.copy()
    background = np.pad(~mask[box], 1, constant_values=True)
    outside = components(background, "faces")
    filled = mask.copy()
    hole = np.ones(int(outside.labels.max()) + 1, bool)
    hole[0] = False  # the margin around the box is the first component
    filled[box] |= outside.select(hole)[tuple(slice(1, -1) for _ in mask.shape)]
    return filled


def bounding_box(labels: Labels, is_in: Callable[[Labels], Mask] | None = None) -> Box | None:
    """Smallest box that holds all of a mask; None of an empty one.

    A volume is read plane by plane, so that no mask of the whole is made.

    Args:
        labels: bool, any number of axes; or labels.
        is_in: makes the mask of a plane out of its labels; None for a mask.
    """
    if labels.ndim < 3:
        mask = labels if is_in is None else is_in(labels)
        hits = [np.flatnonzero(mask.any(axis=tuple({*range(mask.ndim)} - {axis}))) for axis in range(mask.ndim)]
        return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits) if mask.any() else None
    shadow, planes = np.zeros(labels.shape[1:], bool), []
    for index, plane in enumerate(labels):
        mask = plane if is_in is None else is_in(plane)
        if mask.any():
            shadow |= mask
            planes.append(index)
    across = bounding_box(shadow)
    return None if across is None else (slice(planes[0], planes[-1] + 1), *across)


def _runs(cut: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel of each run along the last axis and the one behind it.

    Numbers are those of the flat array with a margin of one pixel at the end of every axis: so no run goes on in the
    next row, and no row has a neighbour across an end. A volume is read plane by plane, which stay in the cache.
    """
    planes = cut if cut.ndim == 3 else cut[None]
    padded = np.zeros([length + 1 for length in planes.shape[1:]], bool)
    flat, edges = padded.reshape(-1), []
    for index, plane in enumerate(planes):
        if plane.any():
            padded[:-1, :-1] = plane
            found = np.flatnonzero(flat[1:] != flat[:-1]) + 1
            found = np.concatenate([[0], found]) if flat[0] else found
            edges.append(found + index * flat.size)
    every = np.concatenate(edges)
    return every[::2], every[1::2]


def _rows(shape: tuple[int, ...], neighbours: Neighbours) -> list[tuple[int, int]]:
    """How far ahead, in the flat array, the rows lie whose runs may touch a run; and by how much they may miss it."""
    steps = [int(np.prod([length + 1 for length in shape[axis:]])) for axis in range(1, len(shape))]
    found = []
    for offsets in product((-1, 0, 1), repeat=len(steps)):
        if offsets > (0,) * len(steps) and (neighbours == "all" or sum(map(abs, offsets)) == 1):
            found.append((sum(n * step for n, step in zip(offsets, steps, strict=True)), int(neighbours == "all")))
    return found


def _touching(
    starts: NDArray[np.int64], ends: NDArray[np.int64], step: int, reach: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of runs of which the second, `step` pixels further on, overlaps the first or is `reach` pixels off."""
    first = np.searchsorted(ends, starts + step - reach, side="right")
    last = np.searchsorted(starts, ends + step + reach, side="left")
    counts = np.maximum(last - first, 0)
    one = np.repeat(np.arange(len(starts)), counts)
    two = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return one, two
