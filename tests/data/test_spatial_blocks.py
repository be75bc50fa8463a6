from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt

from seglab.data.blocks import BlockStore
from seglab.data.rasters import RastersData
from seglab.data.satellite import SatelliteData
from seglab.errors import ConfigError

SIDE, BUFFER = 32, 7


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, write_raster: Callable[..., Path]) -> Path:
    """One scene of 160x128 pixels; class 2 in one corner, and a block without labels."""
    root, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(0)
    mask = rng.integers(0, 2, (1, 160, 128)).astype(np.uint8)
    mask[0, :20, :20] = 2
    mask[0, 128:, 96:] = 255
    write_raster(root / "images" / "a.tif", rng.integers(1, 200, (3, 160, 128)).astype(np.uint8))
    write_raster(root / "masks" / "a.tif", mask, nodata=255)
    return root


def load(root: Path, cache: Path, **settings: Any) -> SatelliteData:
    given = {"block_px": SIDE, "buffer_px": BUFFER, "patch_size": [16, 16], "num_workers": 0, "batch_size": 2}
    data = SatelliteData(root=str(root), cache_dir=str(cache), index_classes=["a", "b", "c"], **(given | settings))
    return data.load()


def roles(data: SatelliteData) -> np.ndarray:
    """Of each pixel of the scene: 0 nobody's, 1 training, 2 validation or test."""
    found = np.zeros(data.prepared.records[0].shape[2:], int)
    assert isinstance(data.store, BlockStore)
    for split in ("train", "val", "test"):
        for record in data.records[split]:
            box = data.store.boxes[record.id]
            found[slice(*box.rows), slice(*box.columns)] = 1 if split == "train" else 2
    return found


@pytest.mark.parametrize("fold", [None, 0, 3])
def test_no_training_pixel_lies_within_the_buffer_of_another_split(
    fold: int | None, scene: Path, cache_dir: Path
) -> None:
    role = roles(load(scene, cache_dir, fold=fold))
    assert (role == 1).mean() > 0.25 and (role == 2).mean() > 0.25
    assert distance_transform_cdt(role != 2, metric="chessboard")[role == 1].min() > BUFFER


def test_without_buffer_every_labelled_block_belongs_to_somebody(scene: Path, cache_dir: Path) -> None:
    data = load(scene, cache_dir, buffer_px=0)
    role = roles(data)
    assert (role[128:, 96:] == 0).all() and (role > 0).sum() == role.size - SIDE**2
    assert len(data.store.records) == 19


def test_a_block_is_a_cut_of_its_scene_with_facts_of_its_own(scene: Path, cache_dir: Path) -> None:
    data = load(scene, cache_dir)
    image, mask = (np.asarray(part(data.prepared.records[0].id)) for part in (data.prepared.image, data.prepared.mask))
    for record in data.store.records:
        box = data.store.boxes[record.id]
        place = (..., slice(*box.rows), slice(*box.columns))
        assert np.array_equal(data.store.image(record.id), image[place])
        assert np.array_equal(data.store.mask(record.id), mask[place])
        assert record.class_pixels == tuple(int((mask[place] == label).sum()) for label in range(3))
        assert record.moments.n == sum(record.class_pixels) and record.shape == (3, *mask[place].shape)
        rows = data.store.foreground(record.id)
        assert (mask[place][tuple(rows[:, 1:].T)] == rows[:, 0]).all()


def test_batches_come_from_the_blocks_and_a_second_load_splits_alike(scene: Path, cache_dir: Path) -> None:
    data, again = load(scene, cache_dir), load(scene, cache_dir)
    assert data.splits == again.splits
    assert {case for batch in data.train_dataloader() for case in batch["case"]} <= set(data.splits["train"])
    assert [case["case"] for case in data.test_dataloader()] == [record.id for record in data.records["test"]]


@pytest.mark.parametrize("sizes", [{"block_px": 0}, {"buffer_px": 8}, {"buffer_px": -1}])
def test_blocks_that_a_buffer_would_use_up_are_refused(sizes: dict[str, int], scene: Path, cache_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.block_px=\d+, data\.buffer_px=-?\d+"):
        load(scene, cache_dir, **sizes)


def test_dates_of_one_place_are_cut_and_split_alike(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        write_raster(tmp_path / f"date_{number}.tif", rng.integers(1, 200, (3, 96, 96)).astype(np.uint8))
    write_raster(tmp_path / "land.tif", rng.integers(0, 2, (1, 96, 96)).astype(np.uint8))
    where = {"images": "date_{case}.tif", "masks": "land.tif", "block_px": SIDE, "buffer_px": BUFFER}
    data = RastersData(root=str(tmp_path), cache_dir=str(tmp_path / "cache"), **where).load()
    places = [{record.id[1:] for record in data.records[split]} for split in ("train", "val", "test")]
    assert sum(map(len, places)) == len(set.union(*places)) == 9 and all(places)
    assert [len(data.records[split]) for split in ("train", "val", "test")] == [3 * len(place) for place in places]
