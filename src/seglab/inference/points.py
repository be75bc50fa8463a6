"""Points of a mask to train on: half anywhere, half where classes meet."""

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.errors import ConfigError, ShapeError
from seglab.spec import IGNORE_INDEX

MAX_POOL = {2: F.max_pool2d, 3: F.max_pool3d}


def sample_points(
    mask: Tensor, n_points: int, *, generator: torch.Generator | None = None, boundary_voxels: int = 3
) -> tuple[Tensor, Tensor]:
    """Voxel centres of every mask and their classes: first half of them anywhere, then half near a boundary.

    Voxels are drawn with replacement, on the generator's device: the points do not depend on where the mask lies.
    Ignored voxels are never drawn and are no boundary. A mask without a boundary gives all its points anywhere; one
    whose voxels are all ignored gives points that are ignored too.

    Args:
        mask: int64 with values of classes and 255 where ignored.
        n_points: points per mask; of an odd number the odd one lies anywhere.
        generator: source of chance; None takes torch's own.
        boundary_voxels: how far from a voxel, along each axis, one of another class may be that it is near.

    Shape:
        mask (N, *spatial) -> points (N, n_points, D) in axis order, where -1 and 1 are the outer faces of the image,
        as float32, and labels (N, n_points) int64.

    Raises:
        ConfigError: no points, or no voxels.
        ShapeError: the mask has not two or three spatial axes.
    """
    _check(mask, n_points, boundary_voxels)
    size = torch.tensor(mask.shape[1:], device=mask.device)
    near = near_boundary(mask, boundary_voxels).flatten(1)
    labels = mask.flatten(1)
    chosen = torch.stack([_draw(labels[n], near[n], n_points, generator) for n in range(len(mask))])  # (N, P)
    voxels = torch.stack(torch.unravel_index(chosen, mask.shape[1:]), dim=-1)  # (N, P, D)
    return (2 * voxels + 1) / size - 1, labels.gather(1, chosen)


def near_boundary(mask: Tensor, n_voxels: int) -> Tensor:
    """Which voxels have a voxel of another class at most `n_voxels` away along each axis; none that is ignored.

    Shape:
        mask (N, *spatial) -> bool (N, *spatial).
    """
    is_valid = mask != IGNORE_INDEX
    labels = mask.float()
    high = _dilate(labels.where(is_valid, -torch.inf), n_voxels)
    low = -_dilate((-labels).where(is_valid, -torch.inf), n_voxels)
    return is_valid & (high > low)


def _dilate(values: Tensor, n_voxels: int) -> Tensor:
    """Largest value in the cube around each voxel, one axis after the other."""
    dims = values.ndim - 1
    for axis in range(dims):
        kernel = [2 * n_voxels + 1 if other == axis else 1 for other in range(dims)]
        values = MAX_POOL[dims](values, kernel, stride=1, padding=[width // 2 for width in kernel])
    return values


def _draw(labels: Tensor, near: Tensor, n_points: int, generator: torch.Generator | None) -> Tensor:
    """Indices of the voxels drawn from one flat mask: (n_points,)."""
    valid, boundary = (labels != IGNORE_INDEX).nonzero()[:, 0], near.nonzero()[:, 0]
    valid = valid if len(valid) else torch.arange(len(labels), device=labels.device)
    n_near = n_points // 2 if len(boundary) else 0
    device = generator.device if generator is not None else torch.device("cpu")
    drawn = [
        pool[torch.randint(len(pool), (n,), generator=generator, device=device).to(pool.device)]
        for pool, n in ((valid, n_points - n_near), (boundary, n_near))
        if n
    ]
    return torch.cat(drawn)


def _check(mask: Tensor, n_points: int, boundary_voxels: int) -> None:
    if n_points < 1 or boundary_voxels < 1:
        raise ConfigError(
            "points cannot be drawn like this",
            given=f"n_points={n_points}, boundary_voxels={boundary_voxels}",
            allowed="integers from 1 up",
            fix="pass n_points=16384, boundary_voxels=3",
        )
    if mask.ndim - 1 not in MAX_POOL or mask.numel() == 0:
        raise ShapeError(
            "points cannot be drawn from this mask",
            given=f"a mask of shape {tuple(mask.shape)}",
            allowed="(N, H, W) or (N, D, H, W), not empty",
            fix="pass mask[None] for a single one",
        )
