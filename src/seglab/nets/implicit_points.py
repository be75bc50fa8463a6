"""Points of an image for Implicit U-Net: where voxels lie, features between them, and which points are worth asking.

Coordinates are in axis order, (z, y, x) or (y, x); -1 and 1 are the outer faces of the first and last voxel.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.nets.blocks import LINEAR_UPSAMPLING, MAX_POOL


def sample(x: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation of a feature map at points in axis order; its edge goes on outside.

    Shape:
        x (N, C, *spatial), points (N, P, D) -> (N, P, C).
    """
    dtype = torch.promote_types(x.dtype, points.dtype)  # coordinates in half precision would miss their voxels
    n_points, dims = points.shape[1:]
    where = points.to(dtype).flip(-1).reshape(-1, n_points, *[1] * (dims - 1), dims)  # (N, P, 1, 1, D), x first
    values = F.grid_sample(x.to(dtype), where, padding_mode="border", align_corners=False)
    return values.flatten(2).transpose(1, 2).to(x.dtype)


def voxel_centres(size: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Coordinates of all voxel centres of an image, the last axis running fastest.

    Shape:
        size of D axes -> (number of voxels, D), in (-1, 1), axis order.
    """
    return grid([axis_centres(length, device) for length in size]).flatten(0, -2)


def axis_centres(length: int, device: torch.device | None) -> Tensor:
    """Coordinates of the voxel centres along one axis."""
    return (2 * torch.arange(length, device=device) + 1) / length - 1


def grid(axes: Sequence[Tensor]) -> Tensor:
    """All points whose coordinates are taken from the axes: (*lengths, D)."""
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def refine(
    decode: Callable[[Tensor], Tensor], size: Sequence[int], device: torch.device, *, stride: int, threshold: float
) -> tuple[Tensor, int]:
    """Logits of one image, decoded at every voxel only in doubtful cells and interpolated elsewhere.

    Nodes stand at every `stride`-th voxel and at the last one. Around doubtful cells (`doubtful_cells`) all nodes of
    half the stride are decoded, and so on down to single voxels.

    Args:
        decode: points (P, D) -> logits (P, K).
        size: of the image, at least 2 along each axis.
        device: of the points.
        stride: a power of two.
        threshold: probability from which on a node is sure.

    Returns:
        Logits (K, *size) and the number of decoded points.
    """
    points = node_points(size, stride, device)
    logits = decode(points.flatten(0, -2)).T.reshape(-1, *points.shape[:-1])  # (K, *nodes)
    known = torch.ones_like(logits[0], dtype=torch.bool)
    n_points = known.numel()
    while stride > 1:
        stride //= 2
        cells = doubtful_cells(logits, threshold)
        points = node_points(size, stride, device)
        kept = tuple(slice(length) for length in points.shape[:-1])  # twice as many cells may reach past the image
        logits, known, todo = halve_cells(logits, known, cells)
        logits, known, todo = logits[(slice(None), *kept)], known[kept], todo[kept]
        if todo.any():
            logits[:, todo] = decode(points[todo]).T
        known = known | todo
        n_points += int(todo.sum())
    return logits, n_points


def node_points(size: Sequence[int], stride: int, device: torch.device) -> Tensor:
    """Coordinates of every `stride`-th voxel and of the last, until no voxel lies behind: (*nodes, D)."""
    axes = []
    for length in size:
        nodes = stride * torch.arange(-(-(length - 1) // stride) + 1, device=device)
        axes.append(axis_centres(length, device)[nodes.clamp(max=length - 1)])
    return grid(axes)


def doubtful_cells(logits: Tensor, threshold: float) -> Tensor:
    """Which cells have corners of different classes, or one whose class has less than the probability `threshold`.

    Shape:
        logits (K, *nodes) -> bool (*nodes - 1); a single class is the foreground, as after a sigmoid.
    """
    logits = torch.cat([torch.zeros_like(logits), logits]) if len(logits) == 1 else logits
    sure, label = logits.float().softmax(dim=0).max(dim=0)
    corners = torch.stack([label.float(), -label.float(), -sure])
    high, minus_low, minus_sure = MAX_POOL[label.ndim](2, stride=1)(corners)
    doubtful: Tensor = (high > -minus_low) | (-minus_sure < threshold)
    return doubtful


def halve_cells(logits: Tensor, known: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put a node between each two.

    Args:
        logits: (K, *nodes).
        known: bool (*nodes), which of them were decoded.
        cells: bool (*nodes - 1), which cells are to be decoded.

    Returns:
        For 2 * nodes - 1 along each axis: logits, interpolated where new; which were decoded; which are to be.
    """
    dims, finer = known.ndim, [2 * length - 1 for length in known.shape]
    was_known, inside = (torch.zeros(finer, device=known.device) for _ in range(2))
    was_known[(slice(None, None, 2),) * dims] = known.float()
    inside[(slice(1, None, 2),) * dims] = cells.float()
    around = MAX_POOL[dims](3, stride=1, padding=1)(inside[None])[0]  # the corners, edges and faces of those cells
    logits = F.interpolate(logits[None], finer, mode=LINEAR_UPSAMPLING[dims], align_corners=True)[0]
    return logits, was_known > 0, around > was_known
