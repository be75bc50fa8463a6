"""Electron microscopy: slices are split in blocks, brought to one size, and labels go back to the slice's own size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.em import EMData
from seglab.data.phantoms import membranes
from seglab.data.splits import block_splits
from seglab.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "em"


def em(root: Path, cache: Path, **settings: object) -> EMData:
    return EMData(**{"root": str(root), "cache_dir": str(cache), "num_workers": 0, "val_fraction": 0.0} | settings)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("em")
    membranes.write(folder, n_slices=12)
    return folder


def test_blocks_follow_the_numbers_of_the_slices_and_nothing_is_drawn() -> None:
    names = [str(number) for number in range(30)]
    splits = block_splits(reversed(names), val_fraction=0.0, test_fraction=0.2)
    assert splits["train"] == tuple(names[:24]) and splits["val"] == () and splits["test"] == tuple(names[24:])
    with_val = block_splits(names, val_fraction=0.2, test_fraction=0.2)
    assert with_val["val"] == tuple(names[18:24]) and with_val["train"] == tuple(names[:18])


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.2, 1.0)])
def test_blocks_that_leave_nothing_to_train_on_are_refused(val: float, test: float) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        block_splits(["0", "1", "2"], val_fraction=val, test_fraction=test)


def test_slices_have_one_channel_the_wanted_size_and_two_labels(stack: Path, tmp_path: Path) -> None:
    data = em(stack, tmp_path, size_px=128).load()
    assert data.spec.in_channels == 1 and data.spec.patch_size == (128, 128)
    assert data.spec.class_names == ("membrane", "cell")
    assert {record.shape for record in data.store.records} == {(1, 1, 128, 128)}
    assert set(np.unique(data.store.mask("3"))) == {0, 1}
    assert [record.id for record in data.records["test"]] == ["10", "11"]


def test_masks_are_resized_by_the_nearest_pixel_and_images_by_area(stack: Path, tmp_path: Path) -> None:
    data = em(stack, tmp_path, size_px=128).load()
    label = np.asarray(Image.open(stack / "label" / "0.png")) > 0
    image = np.asarray(Image.open(stack / "image" / "0.png")).astype(float)
    assert np.array_equal(data.store.mask("0")[0], label[::2, ::2])
    blocks = image.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.abs(data.store.image("0")[0, 0] - blocks).max() <= 0.51


def test_labels_are_written_in_the_size_of_the_slice(stack: Path, tmp_path: Path) -> None:
    data = em(stack, tmp_path, size_px=128).load()
    labels = np.zeros((1, 128, 128), np.uint8)
    labels[:, :64] = 1
    written = data.write_labels(labels, stack / "image" / "0.png", tmp_path / "out" / "0", data.spec)
    mask = np.asarray(Image.open(written))
    assert mask.shape == (256, 256) and (mask[:128] == 255).all() and (mask[128:] == 0).all()


def test_another_size_is_another_store_and_none_keeps_the_files(stack: Path, tmp_path: Path) -> None:
    small, whole = em(stack, tmp_path, size_px=64).load(), em(stack, tmp_path, size_px=None).load()
    assert small.store.folder != whole.store.folder
    assert whole.store.records[0].shape == (1, 1, 256, 256)


def test_a_size_below_a_patch_is_refused(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.size_px=4[\s\S]*data\.size_px=256"):
        em(stack, tmp_path, size_px=4)


def test_the_phantom_is_the_same_each_time_and_no_threshold_solves_it(stack: Path, tmp_path: Path) -> None:
    membranes.write(tmp_path, n_slices=2)
    for part in ("image", "label"):
        assert (tmp_path / part / "1.png").read_bytes() == (stack / part / "1.png").read_bytes()
    image, label = (np.asarray(Image.open(stack / part / "0.png")) for part in ("image", "label"))
    is_cell = label == 255
    assert 0.6 < is_cell.mean() < 0.95
    ious = [((image > level) & is_cell).sum() / ((image > level) | is_cell).sum() for level in range(0, 256, 4)]
    assert max(ious) < 0.98


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/em is missing")
def test_the_real_stack_is_split_as_published_results_need_it(tmp_path: Path) -> None:
    data = em(SHARED, tmp_path).load()
    assert [record.id for record in data.records["train"]] == sorted(map(str, range(24)))
    assert [record.id for record in data.records["test"]] == [str(number) for number in range(24, 30)]
    assert {record.shape for record in data.store.records} == {(1, 1, 256, 256)}
    membrane = np.mean([(data.store.mask(record.id) == 0).mean() for record in data.store.records])
    assert membrane == pytest.approx(0.22, abs=0.02)
