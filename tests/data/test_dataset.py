from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.data.augment import Augment
from seglab.data.crack import CrackData
from seglab.data.dataset import CaseDataset, PatchDataset, Region, RegionDataset, cut_tiles, read_region
from seglab.data.intensity import normalise
from seglab.data.lits import LitsData
from seglab.data.module import SegmentationData, phantom_folder
from seglab.data.satellite import SatelliteData
from seglab.errors import ConfigError, DataError, SeglabError
from seglab.inference.cases import stack_slices


def ct(root: Path, cache: Path, **settings: object) -> LitsData:
    data = LitsData(root=str(root), cache_dir=str(cache), **{"num_workers": 0, "batch_size": 4} | settings)
    data.load()
    return data


def patches(data: SegmentationData, **settings: object) -> PatchDataset:
    odds = (0, *(data.spec.num_classes - 1) * (1,))
    defaults = {"n_samples": None, "foreground_fraction": 0.0, "class_odds": odds, "augment": None, "seed": 0}
    return PatchDataset(data.store, data.records["train"], data.spec, **defaults | settings)


def same(first: dict, second: dict) -> bool:
    tensors = all(torch.equal(first[part], second[part]) for part in ("image", "mask"))
    return tensors and first["case"] == second["case"]


def test_tiles_cover_each_pixel_of_each_slice_once(ct_root: Path, scene_root: Path, cache_dir: Path) -> None:
    scenes = SatelliteData(root=str(scene_root), cache_dir=str(cache_dir)).load()
    for records in (scenes.store.records, ct(ct_root, cache_dir).store.records[:2]):
        for record in records:
            count = np.zeros(record.shape[1:], int)
            for region in cut_tiles([record], (100, 64)):
                (z, y, x), (depth, height, width) = region.start, region.size
                assert depth == 1 and height <= 100 and width <= 64
                count[z, y : y + height, x : x + width] += 1
            assert (count == 1).all()


@pytest.mark.parametrize("z", [0, 1, 7, -1])
def test_channels_of_a_stack_are_the_neighbouring_slices(z: int, ct_root: Path, cache_dir: Path) -> None:
    data = ct(ct_root, cache_dir, n_slices=5)
    record = data.store.records[0]
    stored = data.store.image(record.id)
    whole = normalise(stored[:], data.spec.intensity)
    z %= whole.shape[1]
    image, mask = read_region(data.store, Region(record, (z, 8, 16), (1, 48, 32)), data.spec)
    assert data.spec.in_channels == 5 == len(image)
    assert torch.equal(image, stack_slices(whole, z, 5)[:, 8:56, 16:48])
    assert torch.equal(image[2], whole[0, z, 8:56, 16:48])
    if z == 0:
        assert torch.equal(image[0], image[2]) and torch.equal(image[1], image[2])  # the first slice repeated
    assert torch.equal(mask, torch.from_numpy(data.store.mask(record.id)[z, 8:56, 16:48]))


def test_beyond_the_case_the_mask_is_ignored_and_the_image_repeats_its_border(
    tmp_path: Path, write_crack: Callable[..., None]
) -> None:
    write_crack(tmp_path, "a.png", "b.png", "c.png")  # 20 x 24
    data = CrackData(root=str(tmp_path), cache_dir=str(tmp_path / "cache"), patch_size=[32, 16]).load()
    sample = patches(data)[0, 0]
    image, mask = sample["image"], sample["mask"]
    assert image.shape == (3, 32, 16) and mask.shape == (32, 16)
    assert (mask[:6] == 255).all() and (mask[26:] == 255).all() and (mask[6:26] < 2).all()
    assert (image[:, :6] == image[:, 6:7]).all() and (image[:, 26:] == image[:, 25:26]).all()


def test_volume_patches_have_the_size_of_the_patch_and_whole_cases_their_own(ct_root: Path, cache_dir: Path) -> None:
    data = ct(ct_root, cache_dir, dims=3, patch_size=[40, 48, 64], batch_size=2)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 1, 40, 48, 64) and batch["mask"].shape == (2, 40, 48, 64)
    assert batch["image"].dtype == torch.float32 and batch["mask"].dtype == torch.uint8
    assert (batch["mask"] == 255).any()  # no phantom has 40 slices
    case, record = next(iter(data.val_dataloader())), data.records["val"][0]
    assert case["image"].shape == record.shape and case["mask"].shape == record.shape[1:]


def test_a_whole_case_is_the_file_as_read(ct_root: Path, cache_dir: Path) -> None:
    data = ct(ct_root, cache_dir, n_slices=3)
    loader = data.test_dataloader()
    assert isinstance(loader.dataset, CaseDataset)
    for sample, record in zip(loader, data.test_records, strict=True):
        stored, _, _ = data.read_image(Path(record.image_file))
        assert sample["case"] == record.id and sample["mask"].max() <= 2
        assert torch.equal(sample["image"], normalise(stored, data.spec.intensity))


def test_seed_epoch_and_index_alone_decide_a_sample(ct_root: Path, cache_dir: Path) -> None:
    data = ct(ct_root, cache_dir)
    settings = {"augment": Augment(), "foreground_fraction": 0.5}
    first, again, other = (patches(data, **settings, seed=seed) for seed in (0, 0, 1))
    second_use = [first[2, 5], first[2, 5]]
    assert same(*second_use) and same(first[2, 5], again[2, 5])
    assert not same(first[2, 5], first[3, 5]) and not same(first[2, 5], other[2, 5])


def test_workers_change_no_batch_and_epochs_differ(ct_root: Path, cache_dir: Path) -> None:
    batches = []
    for workers in (0, 1, 2):
        data = ct(ct_root, cache_dir, augment=Augment(), samples_per_epoch=10, num_workers=workers)
        batches.append(list(data.train_dataloader()))
    assert len(batches[0]) == 2
    assert all(same(one, other) for others in batches[1:] for one, other in zip(batches[0], others, strict=True))
    data.next_batch = lambda: (1, 0)  # what a run would say
    data.num_workers = 0
    assert not same(next(iter(data.train_dataloader())), batches[0][0])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_ranks_and_a_start_within_an_epoch_change_no_sample(workers: int, ct_root: Path, cache_dir: Path) -> None:
    data = ct(ct_root, cache_dir, augment=Augment(), samples_per_epoch=12, num_workers=0, batch_size=2)
    alone = samples(data)
    data.num_workers = workers
    by_rank = []
    for rank in (0, 1):
        data._place = lambda rank=rank: (rank, 2)  # type: ignore[method-assign]  # what the trainer would say
        by_rank.append(samples(data))
        data.next_batch = lambda: (0, 2)  # what a resumed run would say
        assert samples(data) == by_rank[rank][4:]
        data.next_batch = None
    assert len(set(alone)) == 12 and [one for pair in zip(*by_rank, strict=True) for one in pair] == alone


def samples(data: SegmentationData) -> list[tuple[str, bytes, bytes]]:
    """Training samples of an epoch, bit for bit."""
    return [
        (case, image.numpy().tobytes(), mask.numpy().tobytes())
        for batch in data.train_dataloader()
        for case, image, mask in zip(batch["case"], batch["image"], batch["mask"], strict=True)
    ]


def test_an_epoch_takes_as_many_patches_of_a_case_as_cover_it(ct_root: Path, cache_dir: Path) -> None:
    data = ct(ct_root, cache_dir, patch_size=[64, 64])
    dataset = patches(data)
    drawn = [dataset[0, index]["case"] for index in range(len(dataset))]
    for record in data.records["train"]:
        assert drawn.count(record.id) == round(np.prod(record.shape[1:]) / 64**2)
    assert len(patches(data, n_samples=7)) == 7


def test_aimed_patches_hold_foreground(ct_root: Path, cache_dir: Path) -> None:
    dataset = patches(ct(ct_root, cache_dir, patch_size=[16, 16]), foreground_fraction=1.0)
    with_tumours = {record.id for record in dataset.records if record.class_pixels[2]}
    samples = [dataset[0, index] for index in range(200)]
    assert all((sample["mask"] > 0).any() for sample in samples)
    share = np.mean([(sample["mask"] == 2).any() for sample in samples if sample["case"] in with_tumours])
    assert share > 0.45  # tumours are below 1 % of the pixels


def test_validation_serves_every_pixel_once(crack_root: Path, scene_root: Path, ct_root: Path, cache_dir: Path) -> None:
    for data in (
        CrackData(root=str(crack_root), cache_dir=str(cache_dir), num_workers=0),
        SatelliteData(root=str(scene_root), cache_dir=str(cache_dir), num_workers=0, patch_size=[96, 96]),
        LitsData(root=str(ct_root), cache_dir=str(cache_dir), num_workers=0),
    ):
        loader = data.load().val_dataloader()
        assert isinstance(loader.dataset, RegionDataset)
        counts = sum(torch.bincount(batch["mask"].flatten(), minlength=256) for batch in loader)
        n_classes = data.spec.num_classes
        pixels = np.sum([record.class_pixels for record in data.records["val"]], axis=0)
        assert counts[:n_classes].tolist() == pixels.tolist()
        assert counts.sum() == sum(np.prod(record.shape[1:]) for record in data.records["val"])


@pytest.mark.parametrize("kind", [LitsData, CrackData, SatelliteData])
def test_training_pixels_have_mean_0_and_std_1(
    kind: type[SegmentationData], ct_root: Path, crack_root: Path, scene_root: Path, cache_dir: Path
) -> None:
    root = {LitsData: ct_root, CrackData: crack_root, SatelliteData: scene_root}[kind]
    data = kind(root=str(root), cache_dir=str(cache_dir), num_workers=0).load()
    cases = CaseDataset(data.store, data.records["train"], data.spec)
    known = {record.image_file: data.read_image(Path(record.image_file))[1] for record in data.records["train"]}
    valid = [torch.from_numpy(known[record.image_file]) for record in data.records["train"]]
    pixels = torch.cat([case["image"][:, where] for case, where in zip(cases, valid, strict=True)], dim=1).double()
    assert pixels.mean(dim=1).abs().max() < 1e-3 and (pixels.std(dim=1) - 1).abs().max() < 1e-3


# The module itself.


def test_the_spec_before_load_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SeglabError, match=r"LitsData\.spec[\s\S]*call load\(\)"):
        _ = LitsData(root="phantom", cache_dir=str(tmp_path)).spec


def test_dimensions_that_a_data_set_has_not_are_refused(tmp_path: Path) -> None:
    for kind in (CrackData, SatelliteData):
        with pytest.raises(ConfigError, match=r"no samples in 3 dimensions[\s\S]*set data\.dims=2"):
            kind(root="phantom", cache_dir=str(tmp_path), dims=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("samples_per_epoch", 0), ("foreground_fraction", 1.5), ("num_workers", -1)],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{name}={value}"):
        CrackData(root="phantom", cache_dir=str(tmp_path), **{name: value})


def test_a_patch_that_does_not_fit_is_refused_by_load(crack_root: Path, cache_dir: Path) -> None:
    for patch in ([64], [8, 64], [64, 64, 64]):
        with pytest.raises(ConfigError, match=r"data\.patch_size="):
            CrackData(root=str(crack_root), cache_dir=str(cache_dir), patch_size=patch).load()


def test_a_given_spec_is_kept_and_all_cases_can_be_scored(crack_root: Path, cache_dir: Path) -> None:
    trained = CrackData(root=str(crack_root), cache_dir=str(cache_dir), num_workers=0).load()
    spec = type(trained.spec)(**vars(trained.spec) | {"patch_size": (48, 48)})
    data = CrackData(root=str(crack_root), cache_dir=str(cache_dir), num_workers=0).load(spec=spec, test_split="all")
    assert data.spec is spec
    served = list(data.test_dataloader())
    assert [case["case"] for case in served] == [record.id for record in data.store.records] and len(served) == 32
    assert torch.equal(served[0]["image"], normalise(data.store.image(served[0]["case"]), spec.intensity))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_chosen_split_is_scored(split: str, crack_root: Path, cache_dir: Path) -> None:
    data = CrackData(root=str(crack_root), cache_dir=str(cache_dir), num_workers=0).load(test_split=split)
    assert data.test_records == data.records[split] and len(data.test_records) > 0


def test_data_of_other_channels_or_classes_than_the_network_is_refused(
    crack_root: Path, scene_root: Path, cache_dir: Path
) -> None:
    spec = CrackData(root=str(crack_root), cache_dir=str(cache_dir)).load().spec
    with pytest.raises(DataError, match=r"4 channels in .*scene_00\.tif; classes other, field[\s\S]*3 channels"):
        SatelliteData(root=str(scene_root), cache_dir=str(cache_dir)).load(spec=spec)


def test_the_split_is_drawn_once_and_kept_beside_the_prepared_data(
    tmp_path: Path, write_crack: Callable[..., None]
) -> None:
    write_crack(tmp_path, *(f"{name}.png" for name in "abcdef"))

    def load(**settings: object) -> SegmentationData:
        return CrackData(root=str(tmp_path), cache_dir=str(tmp_path / "cache"), **settings).load()

    first = load()
    files = list(first.store.folder.glob("split-*.json"))
    assert len(files) == 1
    text = files[0].read_text()
    files[0].write_text(text.replace('"a"', '"swap"').replace('"f"', '"a"').replace('"swap"', '"f"'))
    assert load().splits != first.splits  # the file decides, not another draw
    assert load(split_seed=1).splits.keys() == first.splits.keys()
    assert len(list(first.store.folder.glob("split-*.json"))) == 2


def test_without_validation_or_test_cases_the_rest_works(crack_root: Path, cache_dir: Path) -> None:
    settings = {"root": str(crack_root), "cache_dir": str(cache_dir), "num_workers": 0}
    data = CrackData(**settings, val_fraction=0, test_fraction=0).load()
    assert data.val_dataloader() == [] and len(data.test_dataloader()) == 0
    assert len(data.records["train"]) == 32


def test_a_split_file_without_training_cases_is_refused(tmp_path: Path, write_crack: Callable[..., None]) -> None:
    write_crack(tmp_path, "a.png")
    (tmp_path / "split.json").write_text('{"test": ["a"]}')
    data = CrackData(root=str(tmp_path), cache_dir=str(tmp_path / "cache"), split_file=str(tmp_path / "split.json"))
    with pytest.raises(DataError, match=r"nothing to train on[\s\S]*split\.json"):
        data.load()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_work_and_none_goes_without(world: int, crack_root: Path, cache_dir: Path) -> None:
    data = CrackData(root=str(crack_root), cache_dir=str(cache_dir), num_workers=0).load()
    cases, tiles, steps = [], [], set()
    for rank in range(world):
        data._place = lambda rank=rank: (rank, world)  # type: ignore[method-assign]  # what the trainer would say
        cases.append([case["case"] for case in data.test_dataloader()])
        tiles.append([case for batch in data.val_dataloader() for case in batch["case"]])
        steps.add(len(data.train_dataloader()))
    assert sorted(chain(*cases)) == sorted(record.id for record in data.test_records)
    assert sorted(chain(*tiles)) == sorted(record.id for record in data.records["val"])
    assert all(cases) and all(tiles) and len(steps) == 1


def test_a_half_written_phantom_never_gets_the_final_name(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        phantom_folder(tmp_path / "crack", fail)
    assert list(tmp_path.iterdir()) == []
    folder = phantom_folder(tmp_path / "crack", Path.mkdir)
    assert phantom_folder(folder, fail) == folder  # there already, not written again
