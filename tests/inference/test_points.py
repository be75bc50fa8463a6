"""Points of a mask: where they lie, what they are called, and that chance repeats itself."""

import pytest
import torch
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.inference.points import near_boundary, sample_points
from seglab.nets.implicit_points import voxel_centres
from seglab.spec import IGNORE_INDEX


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def voxels(points: Tensor, size: tuple[int, ...]) -> Tensor:
    """Indices of the voxels at whose centres the points lie."""
    indices = ((points + 1) * torch.tensor(size) - 1) / 2
    torch.testing.assert_close(indices, indices.round(), rtol=0, atol=1e-4)
    return indices.round().long()


def blobs(*size: int) -> Tensor:
    """Random masks of three classes in lumps of 4 voxels, a fifth of them ignored."""
    coarse = torch.randint(0, 5, [length // 4 for length in size], generator=seeded(1))
    mask = coarse
    for axis in range(mask.ndim):
        mask = mask.repeat_interleave(4, dim=axis)
    return torch.where(mask == 4, IGNORE_INDEX, mask.clamp(max=2))[None]


def near_by_hand(mask: Tensor, n_voxels: int) -> Tensor:
    """Every voxel against every other."""
    size = mask.shape
    places = torch.stack(torch.meshgrid(*[torch.arange(n) for n in size], indexing="ij"), -1).flatten(0, -2)
    labels = mask.flatten()
    is_close = (places[:, None] - places).abs().amax(-1) <= n_voxels
    is_other = (labels[:, None] != labels) & (labels != IGNORE_INDEX) & (labels[:, None] != IGNORE_INDEX)
    return (is_close & is_other).any(1).reshape(size)


@pytest.mark.parametrize("size", [(20, 28), (8, 12, 8)])
@pytest.mark.parametrize("n_voxels", [1, 2, 3])
def test_near_a_boundary_is_what_comparing_all_voxels_says(size: tuple[int, ...], n_voxels: int) -> None:
    mask = blobs(*size)
    assert torch.equal(near_boundary(mask, n_voxels)[0], near_by_hand(mask[0], n_voxels))


def test_three_voxels_to_each_side_of_an_edge_are_near() -> None:
    mask = torch.zeros(1, 4, 16, dtype=torch.long)
    mask[..., 8:] = 1
    assert near_boundary(mask, 3)[0, 0].nonzero().flatten().tolist() == [5, 6, 7, 8, 9, 10]
    mask[..., 8] = IGNORE_INDEX
    assert near_boundary(mask, 3)[0, 0].nonzero().flatten().tolist() == [6, 7, 9, 10]


@pytest.mark.parametrize("size", [(20, 28), (8, 12, 16)])
def test_labels_are_those_of_the_voxels_and_half_of_the_points_lie_near_a_boundary(size: tuple[int, ...]) -> None:
    mask = torch.cat([blobs(*size), blobs(*size).flip(1)])
    points, labels = sample_points(mask, 401, generator=seeded(), boundary_voxels=1)
    assert points.shape == (2, 401, len(size)) and points.dtype == torch.float32
    assert labels.shape == (2, 401) and labels.dtype == torch.int64
    near = near_boundary(mask, 1)
    for n in range(2):
        index = tuple(voxels(points[n], size).T)
        assert torch.equal(mask[n][index], labels[n])
        assert near[n][index][201:].all() and not near[n][index][:201].all()
    assert not (labels == IGNORE_INDEX).any()


def test_coordinates_are_those_of_the_network_to_the_last_bit() -> None:
    size = (5, 7, 12)
    points, _ = sample_points(torch.zeros(1, *size, dtype=torch.long), 3000, generator=seeded())
    centres = voxel_centres(size)
    assert torch.equal(points[0].unique(dim=0), centres.unique(dim=0))  # 420 voxels, all of them drawn


def test_the_uniform_half_is_uniform() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.long)
    mask[0, 0, 0] = IGNORE_INDEX
    points, _ = sample_points(mask, 15_000, generator=seeded())
    counts = torch.bincount((voxels(points[0], (4, 4)) * torch.tensor([4, 1])).sum(1), minlength=16)
    assert counts[0] == 0 and counts[1:].min() > 850 and counts[1:].max() < 1150  # 1000 +- 5 sigma


def test_the_same_seed_gives_the_same_points_and_another_gives_others() -> None:
    mask = blobs(16, 16)
    first, again, other = (sample_points(mask, 64, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    generator = seeded()
    assert not torch.equal(*(sample_points(mask, 64, generator=generator)[0] for _ in range(2)))
    torch.manual_seed(3)
    chance = sample_points(mask, 64)[0]
    torch.manual_seed(3)
    assert torch.equal(chance, sample_points(mask, 64)[0])


def test_a_mask_of_one_class_gives_all_its_points_anywhere() -> None:
    points, labels = sample_points(torch.ones(1, 8, 8, dtype=torch.long), 100, generator=seeded())
    assert (labels == 1).all() and len(points[0].unique(dim=0)) > 40


def test_a_mask_that_is_ignored_everywhere_gives_ignored_points() -> None:
    _, labels = sample_points(torch.full((1, 8, 8), IGNORE_INDEX), 10, generator=seeded())
    assert (labels == IGNORE_INDEX).all()


@pytest.mark.parametrize(("n_points", "boundary_voxels"), [(0, 3), (5, 0)])
def test_ill_numbers_are_refused(n_points: int, boundary_voxels: int) -> None:
    with pytest.raises(ConfigError, match=f"n_points={n_points}, boundary_voxels={boundary_voxels}"):
        sample_points(torch.zeros(1, 8, 8, dtype=torch.long), n_points, boundary_voxels=boundary_voxels)


@pytest.mark.parametrize("shape", [(8, 8), (1, 0, 8), (1, 1, 8, 8, 8)])
def test_ill_masks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="points cannot be drawn from this mask"):
        sample_points(torch.zeros(shape, dtype=torch.long), 5)
