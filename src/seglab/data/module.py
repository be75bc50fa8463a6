"""SegmentationData: from a root folder to batches, whatever the kind of data; one subclass per data set."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from seglab import __version__
from seglab.data.augment import Augment, load_loops
from seglab.data.blocks import Blocks, cut_scenes, splits_of_scenes
from seglab.data.checks import check_channels, check_fits, check_numbers, check_undeclared, check_unique, odds_of
from seglab.data.contents import key_of
from seglab.data.dataset import Batch, CaseDataset, PatchDataset, Region, RegionDataset, cut_tiles, read_region
from seglab.data.dealing import Held, held_by
from seglab.data.duplicates import duplicates
from seglab.data.findings import going_on
from seglab.data.formats.volumes import DicomLabels
from seglab.data.intensity import combine
from seglab.data.leaks import check_leaks, check_on_leak, splits_of_cases, torn
from seglab.data.memory import keep_freed_memory
from seglab.data.phantoms.folder import phantom_folder
from seglab.data.plan import BATCH, check_plan, plan_patch
from seglab.data.preparation import Preparation, silent
from seglab.data.sampling import CaseSampler, EpochSampler, ShapeBatchSampler
from seglab.data.source import DataSource
from seglab.data.splits import Splits, check_fold, declared_splits, fold_of, make_splits, read_splits, write_splits
from seglab.data.store import Record
from seglab.errors import ConfigError, DataError
from seglab.spec import Case, DataSpec

PHANTOM = "phantom"
LARGEST_TILE = (1024, 1024)


@dataclass(kw_only=True, eq=False, repr=False)
class SegmentationData(DataSource, LightningDataModule):
    """A data set: finds its cases, prepares them once, splits them by group and serves batches.

    Args:
        root: folder of the raw data, or "phantom" for synthetic data in the same format.
        cache_dir: where prepared data and phantoms are kept.
        dims: dimensions of the network's input, 2 or 3.
        patch_size: spatial size of a training sample; None takes the median case up to a limit.
        batch_size: samples of a batch, per process; None takes 8 in two dimensions and 2 in three.
        plan: "none" takes what was left None as it is, "auto" makes it fit into the memory at hand.
        samples_per_epoch: over all processes; None covers the training cases about once.
        foreground_fraction: probability that a patch is centred on a pixel of a class, background left out.
        class_odds: how often each class is that class, in any unit; those not named count 1. None: all alike.
        val_fraction: share of cases for validation; 0 for none.
        test_fraction: share of cases for the test; 0 for none.
        split_seed: of the draw of groups.
        fold: of a cross-validation, from 0: the groups of train and val are joined and cut into `n_folds` parts, of
            which this one validates; None leaves them as they are.
        n_folds: parts of a cross-validation.
        split_file: JSON with the groups of train, val, test; None draws one and keeps it beside the prepared data.
        num_workers: loader processes; None takes what the cores leave.
        on_leak: what cases do that show the same and stand in two splits: "stop", or "warn".
        on_error: what bad cases do: "stop", or "skip" to leave them out by name.
        augment: training augmentation, None for none.
        seed: of sampling and augmentation.

    Raises:
        ConfigError: arguments that contradict each other.
        DataError: in `load`, when the data is missing, broken or too small.
    """

    root: str
    cache_dir: str
    dims: Literal[2, 3] = 2
    patch_size: list[int] | None = None
    batch_size: int | None = None
    plan: str = "none"
    samples_per_epoch: int | None = None
    foreground_fraction: float = 0.33
    class_odds: dict[str, float] | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.2
    split_seed: int = 0
    fold: int | None = None
    n_folds: int = 5
    split_file: str | None = None
    num_workers: int | None = None
    on_error: str = "stop"
    on_leak: str = "stop"
    augment: Augment | None = None
    seed: int = 0
    map_names: tuple[str, ...] = field(default=(), init=False)
    """Distance maps that the loss needs beside each mask; set by the run, before the loaders are made."""

    next_batch: Callable[[], tuple[int, int]] | None = field(default=None, init=False)
    """Gives the epoch of the next training batch and its number there; set by the run, None starts at the trainer's."""

    dicom_labels: DicomLabels = field(default="nifti", init=False)
    """What labels of a DICOM series are written as; set by the prediction."""

    cases: list[Case] = field(default_factory=list, init=False)
    """That `load` has found, whether they could be used or not."""

    n_readers: int | None = field(default=None, init=False)
    """Processes that prepare the data; set by prepare, None takes all cores for large data."""

    progress: Callable[[int, int], None] = field(default_factory=lambda: silent, init=False)
    """Is told how many of how many cases are prepared; set by prepare."""

    declared: Splits | None = field(default=None, init=False)
    """Splits that the cases themselves name; None when one is drawn."""

    def __post_init__(self) -> None:
        super().__init__()
        if self.dims not in self.supported_dims:
            raise ConfigError(
                f"data={self.dataset} has no samples in {self.dims} dimensions",
                given=f"data.dims={self.dims}",
                allowed=f"data.dims={' or '.join(map(str, self.supported_dims))}",
                fix=f"set data.dims={self.supported_dims[0]}",
            )
        check_fold(self.fold, self.n_folds)
        check_plan(self.plan)
        check_on_leak(self.on_leak)
        check_numbers(
            batch_size=self.batch_size,
            samples_per_epoch=self.samples_per_epoch,
            foreground_fraction=self.foreground_fraction,
            num_workers=self.num_workers,
        )
        self._spec: DataSpec | None = None

    def load(self, *, spec: DataSpec | None = None, test_split: str = "test") -> "SegmentationData":
        """Prepare the data (once) and split it; everything that can fail fails here.

        Args:
            spec: of a trained network, whose intensity and patch size are kept; None measures the training cases.
            test_split: which cases `test_dataloader` serves: train, val, test or all.

        Returns:
            self.
        """
        with going_on() as left:
            cases = self.cases = self._found()
        prepared = Path(self.cache_dir) / "prepared"
        how: dict[str, Any] = {"on_error": self.on_error, "n_workers": self.n_readers, "progress": self.progress}
        self.preparation = Preparation(source=self, folder=prepared, refused=left, **how)
        self.store = self.prepared = self.preparation.store(cases)
        check_channels(self.store.records)
        everything: dict[str, tuple[Record, ...]] = {"all": self.store.records}
        self.splits = {} if test_split == "all" else self._divide(on_leak=self.on_leak if spec is None else "warn")
        self.records = everything | {name: self._members(groups) for name, groups in self.splits.items()}
        self.test_records = self.records[test_split]
        if spec is None:
            self._spec = self._describe(self.records["train"])
        else:
            check_fits(spec, self.class_names, self.store.records[0])
            self._spec = spec
        return self

    @property
    def spec(self) -> DataSpec:
        """What networks and tasks need to know; only after `load`."""
        if self._spec is None:
            raise DataError(
                "the data has not been loaded yet",
                given=f"{type(self).__name__}.spec",
                allowed="spec after load()",
                fix="call load() first",
            )
        return self._spec

    @property
    def n_per_batch(self) -> int:
        """Samples of a batch."""
        return BATCH[self.dims] if self.batch_size is None else self.batch_size

    def use(self, *, patch_size: tuple[int, ...], batch_size: int) -> None:
        """Take the sizes of a plan; only after `load`."""
        self.batch_size, self._spec = batch_size, replace(self.spec, patch_size=patch_size)

    def draw_splits(self, groups: Mapping[str, Held]) -> Splits:
        """Share out groups at random; a data set with an order of its own overrides this."""
        fractions = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        return make_splits(groups, **fractions, seed=self.split_seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Random patches, equally many on each rank."""
        dataset = PatchDataset(
            self.store,
            self.records["train"],
            self.spec,
            n_samples=self.samples_per_epoch,
            foreground_fraction=self.foreground_fraction,
            class_odds=odds_of(self.class_odds, self.class_names, has_background=self.has_background),
            augment=self.augment,
            seed=self.seed,
            map_names=self.map_names,
        )
        if self.augment is not None and self.store.image(self.records["train"][0].id).dtype == np.uint8:
            load_loops()
        rank, world = self._place()
        sampler = EpochSampler(len(dataset), seed=self.seed, start=self._start, rank=rank, world=world)
        full = len(sampler) >= self.n_per_batch
        return self._loader(dataset, sampler=sampler, batch_size=self.n_per_batch, drop_last=full)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Whole slices, photos or tiles (2-D) or whole cases (3-D), each once over all ranks."""
        records = self.records["val"]
        if not records:
            return []
        return self._cases(records) if self.spec.spatial_dims == 3 else self._tiles(records)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Whole cases, one at a time, each once over all ranks."""
        return self._cases(self.test_records)

    def _cases(self, records: tuple[Record, ...]) -> DataLoader[Batch]:
        rank, world = self._place()
        sampler = CaseSampler(len(records), rank=rank, world=world)
        dataset = CaseDataset(self.store, records, self.spec)
        return self._loader(dataset, sampler=sampler, batch_size=None, most_workers=1)  # a whole case takes much memory

    def _tiles(self, records: tuple[Record, ...]) -> DataLoader[Batch]:
        tile = cast(tuple[int, int], self.spec.patch_size) if self.kind == "raster" else LARGEST_TILE
        regions = cut_tiles(records, tile)
        rank, world = self._place()
        size = max(1, min(self.n_per_batch, len(regions) // world))  # no rank may be left without a batch
        batches = ShapeBatchSampler([region.size for region in regions], batch_size=size, rank=rank, world=world)
        dataset = RegionDataset(self.store, regions, self.spec, map_names=self.map_names)
        return self._loader(dataset, batch_sampler=batches)

    def _loader(self, dataset: Any, *, most_workers: int | None = None, **order: Any) -> DataLoader[Batch]:
        wanted = self.num_workers if self.num_workers is not None else free_workers(self._place()[1])
        if (workers := wanted if most_workers is None else min(wanted, most_workers)) == 0:
            keep_freed_memory()
        else:  # the loops that unpack volumes are compiled or loaded now, not once more by each process that is forked
            read_region(self.store, Region(self.store.records[0], (0, 0, 0), (1, 1, 1)), self.spec)
        return DataLoader(
            dataset,
            num_workers=workers,
            worker_init_fn=keep_freed_memory,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            **order,
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _start(self) -> tuple[int, int]:
        if self.next_batch is not None:  # after a resume the trainer learns its epoch later than the workers need it
            epoch, batch = self.next_batch()
            return epoch, batch * self.n_per_batch
        return (self.trainer.current_epoch if self.trainer is not None else 0), 0

    def _found(self) -> list[Case]:
        cases = self.find_cases(self._phantom_root() if self.root == PHANTOM else Path(self.root))
        check_unique(cases)
        self.declared = declared_splits(cases)
        return cases

    def _divide(self, *, on_leak: str) -> Splits:
        """Split the store's cases, or the blocks of its scenes, which become its cases; refuse what stands in two."""
        pairs, records = duplicates(self.prepared), self.prepared.records
        if self.block_and_buffer_px is None:
            splits = self._split()
            check_leaks(pairs, records, splits_of_cases(records, splits), on_leak=on_leak)
            return splits
        check_undeclared(self.declared)
        blocks = Blocks(*self.block_and_buffer_px)
        whole = self.store = cut_scenes(self.prepared, blocks, self.clip)
        splits = self._split()
        check_leaks(torn(pairs), records, splits_of_scenes(whole, splits), on_leak=on_leak)
        self.store = whole.with_buffer(set(splits["train"]), blocks.buffer_px)
        return splits

    def _split(self) -> Splits:
        groups = held_by(self.store.records)
        if self.split_file is not None:
            file = Path(self.split_file)
        elif self.declared is not None:
            kept = {split: tuple(name for name in names if name in groups) for split, names in self.declared.items()}
            file = self.store.folder / f"split-declared-{key_of(kept)}.json"
            write_splits(file, kept)
        else:
            name = f"split-seed{self.split_seed}-val{self.val_fraction:g}-test{self.test_fraction:g}"
            name += f"-block{self.block_and_buffer_px[0]}.json" if self.block_and_buffer_px else ".json"
            file = self.store.folder / name
            if not file.is_file():
                write_splits(file, self.draw_splits(groups))
        splits = read_splits(file, set(groups))
        if self.fold is None:
            return splits
        return fold_of(splits, self.fold, self.n_folds, groups=groups, in_blocks=self.splits_in_blocks)

    def _members(self, groups: tuple[str, ...]) -> tuple[Record, ...]:
        return tuple(record for record in self.store.records if record.group in set(groups))

    def _describe(self, train: tuple[Record, ...]) -> DataSpec:
        if not train:
            raise DataError(
                "there is nothing to train on",
                given=f"no case in train; data.split_file={self.split_file}",
                allowed="at least one group in train",
                fix="correct the split file, or leave data.split_file out to have one drawn",
            )
        n_slices = self.stacked_slices if self.dims == 2 else 1
        return DataSpec(
            name=self.dataset,
            kind=self.kind,
            spatial_dims=self.dims,
            in_channels=train[0].shape[0] * n_slices,
            class_names=self.class_names,
            class_colors=self.class_colors,
            mask_values=self.mask_values,
            has_background=self.has_background,
            patch_size=plan_patch(
                self.patch_size,
                [record.shape[1:] for record in self.store.records],
                self.dims,
                [record.spacing for record in self.store.records],
            ),
            intensity=combine((record.moments for record in train), low=self.clip[0], high=self.clip[1]),
            n_slices=n_slices,
            regions=self.regions,
            channels=self.channel_names,
        )

    def _phantom_root(self) -> Path:
        return phantom_folder(Path(self.cache_dir) / "phantoms" / f"{self.dataset}-{__version__}", self.write_phantom)


def free_workers(world: int) -> int:
    """Loader processes per rank: what the cores leave beside one for the network, four at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(4, cores // world - 1))
