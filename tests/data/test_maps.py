"""Distance maps: hand cases, slow twins, what edges and ignored pixels may not do, and the way into a batch."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from seglab.data.augment import Augment
from seglab.data.crack import CrackData
from seglab.data.dataset import PatchDataset
from seglab.data.maps import FAR, MAPS, border_map, distance_maps, outline_map, signed_map
from seglab.errors import ConfigError
from seglab.spec import IGNORE_INDEX

EVERY_MAP = pytest.mark.parametrize("name", MAPS)
SHAPES = pytest.mark.parametrize("shape", [(17, 23), (5, 9, 11)])


def blobs(shape: tuple[int, ...], seed: int = 0, n_classes: int = 3) -> np.ndarray:
    """Random blobs of several classes with some ignored pixels."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2)
    mask = np.where(field > np.quantile(field, 0.7), rng.integers(1, n_classes), 0)
    half = np.arange(shape[-1]) < shape[-1] // 2
    mask = np.where((mask > 0) & half, 3 - mask, mask)  # both classes appear, and touch
    return np.where(rng.random(shape) < 0.05, IGNORE_INDEX, mask)


def neighbours(point: tuple[int, ...], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    near = []
    for axis in range(len(shape)):
        for step in (-1, 1):
            other = tuple(p + step * (a == axis) for a, p in enumerate(point))
            if all(0 <= o < n for o, n in zip(other, shape, strict=True)):
                near.append(other)
    return near


def to_points(points: list[tuple[int, ...]], shape: tuple[int, ...]) -> np.ndarray:
    """Distance of every pixel to the nearest of some points."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.min([np.sqrt(((grid - np.array(p)) ** 2).sum(axis=-1)) for p in points], axis=0)


def edge(inside: np.ndarray, valid: np.ndarray) -> list[tuple[int, ...]]:
    """Pixels inside with a valid neighbour outside."""
    points = [tuple(map(int, p)) for p in np.argwhere(inside)]
    return [p for p in points if any(valid[q] and not inside[q] for q in neighbours(p, inside.shape))]


@SHAPES
@pytest.mark.parametrize("seed", range(4))
def test_border_map_is_its_slow_twin(shape: tuple[int, ...], seed: int) -> None:
    mask = blobs(shape, seed)
    valid = mask != IGNORE_INDEX
    distances = []
    for value in (1, 2):
        parts, n_parts = ndimage.label(mask == value, np.ones((3,) * mask.ndim))
        borders = [edge(parts == part, valid) for part in range(1, n_parts + 1)]
        distances += [to_points(border, shape) for border in borders if border]
    assert len(distances) > 2
    expected = np.sort(distances, axis=0)[:2].sum(axis=0)
    np.testing.assert_allclose(border_map(mask), expected, rtol=1e-6)


@SHAPES
def test_outline_and_signed_maps_are_their_slow_twins(shape: tuple[int, ...]) -> None:
    mask = blobs(shape)
    valid = mask != IGNORE_INDEX
    inside, outside = (mask > 0) & valid, mask == 0
    np.testing.assert_allclose(outline_map(mask), to_points(edge(inside, valid), shape), rtol=1e-6)
    from_outside, from_inside = (to_points(list(map(tuple, np.argwhere(part))), shape) for part in (outside, inside))
    expected = np.where(inside, 0.5 - from_outside, from_inside - 0.5)
    np.testing.assert_allclose(signed_map(mask)[valid], expected[valid], rtol=1e-6)
    assert (signed_map(mask)[~valid] == 0).all()
    assert (signed_map(mask)[inside] < 0).all() and (signed_map(mask)[outside] > 0).all()


def test_distances_are_exact_wherever_an_array_lies_and_however_large_it_is() -> None:
    points = np.random.default_rng(0).random((900, 1000)) < 3e-5
    points[-1, -1] = True
    for size in ((900, 1000), (450, 331), (899, 997)):
        part = points[-size[0] :, -size[1] :]
        fast = outline_map(part.astype(np.int64))  # a lone pixel is its own outline
        np.testing.assert_array_equal(fast, ndimage.distance_transform_edt(~part).astype(np.float32))
    wide = np.zeros((2, 2000), np.int64)
    wide[:, 0] = 1
    assert outline_map(wide)[0].tolist() == list(range(2000))


def test_maps_of_two_bars_by_hand() -> None:
    mask = np.array([[0, 1, 1, 1, 0, 0, 1, 0]])
    assert border_map(mask).tolist() == [[7, 5, 5, 3, 3, 3, 3, 5]]
    assert outline_map(mask).tolist() == [[1, 0, 1, 0, 1, 1, 0, 1]]
    assert signed_map(mask).tolist() == [[0.5, -0.5, -1.5, -0.5, 0.5, 0.5, -0.5, 0.5]]


def test_touching_instances_of_two_classes_have_a_border_between_them() -> None:
    mask = np.array([[0, 1, 1, 2, 2, 0]])
    assert border_map(mask).tolist() == [[4, 2, 1, 1, 2, 4]]
    assert outline_map(mask).tolist() == [[1, 0, 1, 1, 0, 1]]  # the union has none


def test_pixels_that_touch_at_a_corner_are_one_instance() -> None:
    diagonal = np.eye(6, dtype=np.int64)
    assert (border_map(diagonal) >= FAR).all()


def test_fewer_than_two_instances_are_far_apart() -> None:
    one = np.zeros((8, 8), np.int64)
    one[2:4, 2:4] = 1
    for mask in (np.zeros((8, 8), np.int64), one, np.ones((8, 8), np.int64), np.full((8, 8), IGNORE_INDEX)):
        far = border_map(mask)
        assert (far >= FAR).all() and np.isfinite(far).all()


@pytest.mark.parametrize("value", [0, 1, IGNORE_INDEX])
def test_without_an_outline_it_is_far_and_the_signed_distance_zero(value: int) -> None:
    mask = np.full((4, 5, 6), value)
    assert (outline_map(mask) == FAR).all() and (signed_map(mask) == 0).all()


def test_neither_the_edge_of_the_patch_nor_that_of_ignored_pixels_is_a_border() -> None:
    mask = np.array([[1, 1, 1, IGNORE_INDEX, 1, 0, 0, 2, 2]])
    assert outline_map(mask).tolist() == [[4, 3, 2, 1, 0, 1, 1, 0, 1]]
    assert border_map(mask)[0, 4] == 3  # the first bar has no border: 0 to the second, 3 to the third


@EVERY_MAP
@SHAPES
def test_flipping_and_turning_the_mask_does_so_to_the_map(name: str, shape: tuple[int, ...]) -> None:
    mask = blobs(shape)
    expected = MAPS[name](mask, IGNORE_INDEX)
    for change in (np.flipud, np.fliplr, np.transpose):
        np.testing.assert_allclose(MAPS[name](change(mask), IGNORE_INDEX), change(expected), rtol=1e-6)


@EVERY_MAP
def test_a_volume_of_one_slice_is_the_slice(name: str) -> None:
    mask = blobs((17, 23))
    np.testing.assert_allclose(
        MAPS[name](mask[None], IGNORE_INDEX)[0], MAPS[name](mask, IGNORE_INDEX), rtol=1e-6, atol=1e-6
    )


@EVERY_MAP
def test_renumbering_the_foreground_classes_changes_nothing(name: str) -> None:
    mask = blobs((17, 23))
    swapped = np.select([mask == 1, mask == 2], [2, 1], mask)
    np.testing.assert_array_equal(MAPS[name](swapped, IGNORE_INDEX), MAPS[name](mask, IGNORE_INDEX))


@EVERY_MAP
def test_maps_of_a_tensor_are_float32_and_a_wrong_name_is_refused(name: str) -> None:
    mask = torch.from_numpy(blobs((17, 23)))
    maps = distance_maps(mask, (name,))
    assert list(maps) == [name] and maps[name].dtype == torch.float32 and maps[name].shape == mask.shape
    with pytest.raises(ConfigError, match=r"nearest[\s\S]*border, outline, signed"):
        distance_maps(mask, (name, "nearest"))


# The way into a batch


def cracks(root: Path, cache: Path, **settings: object) -> CrackData:
    data = CrackData(root=str(root), cache_dir=str(cache), num_workers=0, batch_size=4, **settings)
    data.load()
    return data


def test_a_batch_holds_the_maps_of_its_augmented_masks(crack_root: Path, cache_dir: Path) -> None:
    data = cracks(crack_root, cache_dir, augment=Augment(turn=0.5), patch_size=[48, 48])
    plain = next(iter(data.train_dataloader()))
    data.map_names = ("border", "signed")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = next(iter(loader))
        assert set(batch) == {"image", "mask", "case", "maps"} and list(batch["maps"]) == ["border", "signed"]
        for name, maps in batch["maps"].items():
            expected = np.stack([MAPS[name](mask.numpy(), IGNORE_INDEX) for mask in batch["mask"]])
            assert maps.dtype == torch.float32 and torch.equal(maps, torch.from_numpy(expected))
    again = next(iter(data.train_dataloader()))
    assert torch.equal(again["image"], plain["image"]) and torch.equal(again["mask"], plain["mask"])
    assert (again["mask"] > 0).any() and "maps" not in plain


def test_volume_patches_get_volume_maps(ct_root: Path, cache_dir: Path) -> None:
    from seglab.data.lits import LitsData

    data = LitsData(root=str(ct_root), cache_dir=str(cache_dir), num_workers=0, dims=3, patch_size=[16, 24, 32]).load()
    settings = {"n_samples": None, "foreground_fraction": 1.0, "class_odds": (0, 1, 1), "augment": None, "seed": 0}
    dataset = PatchDataset(data.store, data.records["train"], data.spec, map_names=("outline",), **settings)
    assert dataset[0, 0]["maps"]["outline"].shape == (16, 24, 32)


def test_map_names_are_no_argument_and_empty_unless_set(crack_root: Path, cache_dir: Path) -> None:
    assert "map_names" not in inspect.signature(CrackData).parameters
    assert cracks(crack_root, cache_dir).map_names == ()
