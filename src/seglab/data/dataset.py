"""Datasets over the store: random patches to train on, tiles and whole cases to score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import add, le
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from seglab.data.arrays import Stored, read_box
from seglab.data.augment import Augment
from seglab.data.intensity import read_normalised, read_values
from seglab.data.maps import distance_maps
from seglab.data.sampling import Aim, generator, patch_start
from seglab.data.store import Record, Store
from seglab.inference.cases import slice_indices
from seglab.spec import IGNORE_INDEX, DataSpec

Batch = dict[str, Any]
"""image float32, mask uint8, case: id or list of ids; maps: distance maps by name, where a loss needs them."""

Read = Callable[[Stored, Sequence[int], Sequence[int]], NDArray[Any]]
"""From an array, start and stop along (D, H, W), to the box."""


@dataclass(frozen=True)
class Region:
    """A box of a case: corner and size along (D, H, W); it may reach beyond the case."""

    record: Record
    start: tuple[int, ...]
    size: tuple[int, ...]


class PatchDataset(Dataset[Batch]):
    """Random training patches; item (epoch, index) is the same in every process.

    Args:
        store: where the cases lie.
        records: training cases.
        spec: patch size, dimensions, intensity.
        n_samples: samples of an epoch, shared out over the cases by their size; None for as many as patches cover the
            cases once.
        foreground_fraction: probability that a patch is centred on a pixel of a class that is drawn by `class_odds`.
        class_odds: how often each class is drawn, in any unit, (num_classes,).
        augment: applied to each patch, or None.
        seed: of the run.
        map_names: distance maps to make of each augmented mask.

    Shape:
        image (C, *patch), mask (*patch), each map (*patch) float32.
    """

    def __init__(
        self,
        store: Store,
        records: Sequence[Record],
        spec: DataSpec,
        *,
        n_samples: int | None,
        foreground_fraction: float,
        class_odds: Sequence[float],
        augment: Augment | None,
        seed: int,
        map_names: tuple[str, ...] = (),
    ) -> None:
        self.store, self.records, self.spec, self.seed = store, records, spec, seed
        self.augment, self.map_names = augment, map_names
        self.size = _box(spec)
        cover = np.array([max(1, round(np.prod(r.shape[1:]) / np.prod(self.size))) for r in records])
        self.ends = np.cumsum(cover)
        pixels = [record.class_pixels for record in records]
        self.aim = Aim(fraction=foreground_fraction, odds=class_odds, pixels=pixels, sizes=cover)
        self.n_samples = int(self.ends[-1]) if n_samples is None else n_samples

    def __len__(self) -> int:
        return self.n_samples

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        rng = generator(self.seed, epoch, index)
        cover = int(self.ends[-1])
        place = index if self.n_samples == cover else int(rng.integers(cover))
        case, label = self.aim.draw(rng, int(np.searchsorted(self.ends, place, side="right")))
        record = self.records[case]
        places = None if label is None else self.store.places(record.id, label)
        region = Region(record, patch_start(rng, record.shape[1:], self.size, places), self.size)
        if self.augment is None:
            image, mask = read_region(self.store, region, self.spec)
        else:
            image, mask = _as_input(*self.augment(*_read(self.store, region, self.spec), self.spec, rng), self.spec)
        return _sample(image, mask, record.id, self.map_names)


class RegionDataset(Dataset[Batch]):
    """Whole slices, photos or tiles, each pixel of each case exactly once.

    Args:
        store: where the cases lie.
        regions: what to read.
        spec: dimensions, intensity.
        map_names: distance maps to make of each mask.

    Shape:
        image (C, H, W), mask (H, W), each map (H, W) float32.
    """

    def __init__(
        self, store: Store, regions: Sequence[Region], spec: DataSpec, *, map_names: tuple[str, ...] = ()
    ) -> None:
        self.store, self.regions, self.spec, self.map_names = store, regions, spec, map_names

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, index: int) -> Batch:
        region = self.regions[index]
        image, mask = read_region(self.store, region, self.spec)
        return _sample(image, mask, region.record.id, self.map_names)


class CaseDataset(Dataset[Batch]):
    """Whole cases in their own grid.

    Shape:
        image (C, D, H, W), mask (D, H, W).
    """

    def __init__(self, store: Store, records: Sequence[Record], spec: DataSpec) -> None:
        self.store, self.records, self.spec = store, records, spec

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Batch:
        record = self.records[index]
        stored, intensity = self.store.image(record.id), self.spec.intensity.of_values(*record.limits)
        image = torch.from_numpy(read_normalised(stored, (0, 0, 0), stored.shape[1:], intensity))
        mask = _labels(read_box(self.store.mask(record.id), (0, 0, 0), stored.shape[1:]))
        return {"image": image, "mask": mask, "case": record.id, "group": record.group, "spacing": record.spacing}


def cut_tiles(records: Sequence[Record], tile: tuple[int, int]) -> list[Region]:
    """Cut every slice of every case into tiles that do not overlap; the last ones of a row or column are smaller.

    Args:
        records: cases.
        tile: largest height and width of a tile.
    """
    return [
        Region(record, (z, y, x), (1, min(tile[0], height - y), min(tile[1], width - x)))
        for record in records
        for _, depth, height, width in [record.shape]
        for z in range(depth)
        for y in range(0, height, tile[0])
        for x in range(0, width, tile[1])
    ]


def read_region(store: Store, region: Region, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Read, pad and normalise one box of a case.

    Beyond the case the image repeats its border and the mask is ignored.

    Returns:
        2-D: image (C * n_slices, H, W), mask (H, W). 3-D: image (C, D, H, W), mask (D, H, W).
    """
    read = partial(read_normalised, intensity=spec.intensity.of_values(*region.record.limits))
    image, mask = _read(store, region, spec, read)
    return _as_input(torch.from_numpy(image), _labels(mask), spec)


def _read(
    store: Store, region: Region, spec: DataSpec, read: Read = read_values
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Values and labels of one box: (C, D, H, W), (D, H, W); in 2-D D are the slices that become channels."""
    image, mask, (z, y, x) = store.image(region.record.id), store.mask(region.record.id), region.start
    labels = _crop(mask, region.start, region.size, "constant", read_box)
    if spec.spatial_dims == 3:
        return _crop(image, region.start, region.size, "edge", read), labels
    near = slice_indices(z, region.record.shape[1], spec.n_slices)
    slab = _crop(image, (near[0], y, x), (near[-1] - near[0] + 1, *region.size[1:]), "edge", read)
    is_whole = near[-1] - near[0] + 1 == len(near)  # at the ends of a volume slices are repeated
    return slab if is_whole else slab[:, [index - near[0] for index in near]], labels


def _as_input(image: Tensor, mask: Tensor, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """The sample as the network takes it: in 2-D the slices of (C, D, H, W) become channels, slice by slice."""
    if spec.spatial_dims == 3:
        return image, mask
    return image[:, 0] if image.shape[1] == 1 else image.swapaxes(0, 1).flatten(0, 1), mask[0]


def _sample(image: Tensor, mask: Tensor, case_id: str, map_names: tuple[str, ...]) -> Batch:
    maps = {"maps": distance_maps(mask, map_names)} if map_names else {}
    return {"image": image, "mask": mask, "case": case_id, **maps}


def _box(spec: DataSpec) -> tuple[int, ...]:
    return spec.patch_size if spec.spatial_dims == 3 else (1, *spec.patch_size)


def _labels(mask: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(mask if mask.flags.writeable else mask.copy())  # what is mapped cannot be written to


def _crop(
    array: Stored, start: Sequence[int], size: Sequence[int], mode: Literal["edge", "constant"], read: Read
) -> NDArray[Any]:
    lengths, stop = array.shape[-3:], list(map(add, start, size))
    if min(start) >= 0 and all(map(le, stop, lengths)):
        return read(array, start, stop)
    cut = read(array, [max(s, 0) for s in start], list(map(min, stop, lengths)))
    margins = [(max(-s, 0), max(end - length, 0)) for s, end, length in zip(start, stop, lengths, strict=True)]
    pad = [(0, 0)] * (array.ndim - 3) + margins
    return np.pad(cut, pad, mode="edge") if mode == "edge" else np.pad(cut, pad, constant_values=IGNORE_INDEX)
