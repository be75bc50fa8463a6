"""Implicit U-Net (Naval Marimont, Tarroni 2022, https://arxiv.org/abs/2206.15217): a decoder that is asked at points.

Differs from the paper: 2-D by the same rules, and any number of poolings. The paper's abstract says that a localisation
network for points takes the place of the convolutional decoder, that 40 % of the parameters go, and that training and
inference are sparse. Ours is the rest: the widths (35 % of the parameters go), the residual perceptrons, the norm, and
the rule by which inference refines. Coordinates are relative to the image that the network sees, so a network is
applied to windows of the size it was trained on.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError, ShapeError
from seglab.nets.base import SegmentationNet
from seglab.nets.blocks import CONV, INSTANCE_NORM, LINEAR_UPSAMPLING, MAX_POOL, check_range, init_he
from seglab.nets.implicit_points import axis_centres, grid, refine, sample

SLOPE = 0.01  # of every leaky ReLU
POINTS_AT_ONCE = 2**16  # bounds the memory of inference: about 1000 numbers per point with the default widths
DEEP, SKIP, POINT = range(3)  # the parts of a perceptron's input


class ImplicitUNet(SegmentationNet):
    """Implicit U-Net for 2-D and 3-D images (Naval Marimont, Tarroni 2022): decodes points; returns logits.

    Train on points with `encode` and `decode`. `forward` decodes all voxel centres, and `predict_coarse_to_fine` only
    those near a boundary. A point has coordinates in the order of the spatial axes, (z, y, x) or (y, x), which is the
    reverse of that of `grid_sample`; -1 and 1 are the outer faces of the first and last voxel. All voxel centres of an
    image, last axis fastest, are `implicit_points.voxel_centres(size)`.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2 or 3.
        base_channels: channels of the first level; each pooling doubles them.
        n_poolings: poolings, at least 1; the network has one level more.

    Shape:
        image (N, in_channels, *spatial) -> logits (N, num_classes, *spatial), sizes in multiples of 2**n_poolings, and
        the deepest level needs two voxels, because a norm of one voxel is zero.

    Raises:
        ConfigError: an argument is out of range.
        ShapeError: from `forward`, names the size to pad to.
    """

    paper = "https://arxiv.org/abs/2206.15217"
    faithfulness = "reconstruction"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 3,
        base_channels: int = 32,
        n_poolings: int = 4,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_range("ImplicitUNet", "base_channels", base_channels, at_least=1)
        check_range("ImplicitUNet", "n_poolings", n_poolings, at_least=1)
        self.size_multiple = 2**n_poolings
        widths = [base_channels * 2**level for level in range(n_poolings + 1)]
        self.encoder = nn.ModuleList(
            encoder_level(spatial_dims, before, width) for before, width in pairwise([in_channels, *widths])
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.decoder = PointDecoder(spatial_dims, widths, num_classes)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at all voxel centres, slab by slab along the first axis; shapes as in the class."""
        maps = self.decoder.project(self.encode(image))
        first, *rest = image.shape[2:]
        axes = [axis_centres(length, image.device) for length in (first, *rest)]
        columns = [self._resize(x, [first, *x.shape[3:]]) for x in maps]  # (N, C, first, *rest / 2**level)
        step = max(1, POINTS_AT_ONCE // math.prod(rest))
        slabs = []
        for start in range(0, first, step):
            points = grid([axes[0][start : start + step], *axes[1:]])  # (slab, *rest, D)
            parts = [self._resize(x[:, :, start : start + step], points.shape[:-1]) for x in columns]
            slabs.append(self.decoder([x.movedim(1, -1) for x in parts], points))  # (N, slab, *rest, num_classes)
        return torch.cat(slabs, dim=1).movedim(-1, 1)  # (N, num_classes, *spatial)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of every level, shallow to deep.

        Shape:
            image (N, in_channels, *spatial) -> per level (N, base_channels * 2**level, *spatial / 2**level).
        """
        self.check_input(image)
        features = [self.encoder[0](image)]
        for level in self.encoder[1:]:
            features.append(level(self.pool(features[-1])))
        return features

    def decode(self, features: list[Tensor], points: Tensor) -> Tensor:
        """Logits at points.

        Args:
            features: what `encode` returned.
            points: coordinates in axis order, in [-1, 1].

        Shape:
            points (N, P, spatial_dims) -> (N, P, num_classes).

        Raises:
            ShapeError: the points are not those of this many images, or have another number of coordinates.
        """
        n_images = len(features[0])
        if points.ndim != 3 or len(points) != n_images or points.shape[-1] != self.spatial_dims:
            raise ShapeError(
                "ImplicitUNet cannot decode these points",
                given=f"points of shape {tuple(points.shape)} for {n_images} images",
                allowed=f"({n_images}, P, {self.spatial_dims}), coordinates in axis order",
                fix="pass points.expand(n_images, -1, -1) to ask for the same points of every image",
            )
        return self._decode_maps(self.decoder.project(features), points)

    @torch.no_grad()
    def predict_coarse_to_fine(self, image: Tensor, stride: int = 4, threshold: float = 0.9) -> tuple[Tensor, int]:
        """Logits of an image of which only the doubtful parts are decoded at every voxel.

        Every `stride`-th voxel is decoded first. A cell between them whose corners name different classes, or one of
        which is less than `threshold` sure, is decoded at half the stride, and so on down to single voxels; in the
        other cells logits are interpolated.

        Args:
            image: as in `forward`.
            stride: a power of two.
            threshold: probability of a corner's class from which on it is sure, in [0, 1].

        Returns:
            Logits (N, num_classes, *spatial), and the number of decoded points of all images together.

        Raises:
            ConfigError: an argument is out of range.
        """
        if stride < 1 or stride & (stride - 1) or not 0 <= threshold <= 1:
            raise ConfigError(
                "ImplicitUNet cannot refine like this",
                given=f"stride={stride}, threshold={threshold}",
                allowed="a stride of 1, 2, 4, 8, ... and a threshold in [0, 1]",
                fix="pass stride=4, threshold=0.9",
            )
        maps = self.decoder.project(self.encode(image))
        logits, n_points = [], 0
        for n in range(len(image)):
            decode = partial(self._decode_chunks, [x[n : n + 1] for x in maps])
            refined, n_decoded = refine(decode, image.shape[2:], image.device, stride=stride, threshold=threshold)
            logits.append(refined)
            n_points += n_decoded
        return torch.stack(logits), n_points

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`: two voxels on the deepest level."""
        *rest, last = super().input_size_for(size)
        is_single = max(*rest, last) == self.size_multiple
        return (*rest, 2 * last) if is_single else (*rest, last)

    def check_input(self, image: Tensor) -> None:
        """Refuse an image of the wrong rank, channel count or size.

        Raises:
            ShapeError: names the size to pad to.
        """
        self.check_axes(image)
        size = tuple(image.shape[2:])
        if set(size) == {self.size_multiple}:
            wanted = self.input_size_for(size)
            raise ShapeError(
                "ImplicitUNet cannot normalise its deepest level, a single voxel at this size",
                given="x".join(map(str, size)),
                allowed=f"multiples of {self.size_multiple}, larger ones along at least one axis",
                fix=f"pad to {'x'.join(map(str, wanted))} or set data.patch_size=[{','.join(map(str, wanted))}]",
            )
        super().check_input(image)

    def _resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(x, size=list(size), mode=LINEAR_UPSAMPLING[self.spatial_dims], align_corners=False)

    def _decode_maps(self, maps: list[Tensor], points: Tensor) -> Tensor:
        return self.decoder([sample(x, points) for x in maps], points)  # type: ignore[no-any-return]

    def _decode_chunks(self, maps: list[Tensor], points: Tensor) -> Tensor:
        """Logits (P, num_classes) at points (P, D) of one image."""
        return torch.cat([self._decode_maps(maps, chunk[None])[0] for chunk in torch.split(points, POINTS_AT_ONCE)])


def encoder_level(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice a 3-wide convolution without bias, an instance norm with scale and shift, and a leaky ReLU."""
    layers: list[nn.Module] = []
    for before in (in_channels, out_channels):
        layers.append(CONV[spatial_dims](before, out_channels, 3, padding=1, bias=False))
        layers.append(INSTANCE_NORM[spatial_dims](out_channels, affine=True))
        layers.append(nn.LeakyReLU(SLOPE, inplace=True))
    return nn.Sequential(*layers)


class PointDecoder(nn.Module):
    """The localisation network: from the deepest level up, one residual perceptron per level, then a linear head.

    The first layer of a perceptron is linear, and so is the interpolation of features between voxels; they commute.
    So `project` applies those layers once per voxel of each level, and only what they give is interpolated at points:
    for all voxels of an image this takes a third of the multiplications.

    Args:
        spatial_dims: coordinates of a point.
        widths: channels of the encoder's levels, shallow to deep; the perceptrons are as wide as their skips.
        num_classes: classes of the logits.

    Shape:
        sampled: per map of `project` (N, *points, 2 * width); points (N, *points, D) or (*points, D)
        -> (N, *points, num_classes).
    """

    def __init__(self, spatial_dims: int, widths: list[int], num_classes: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(ResMLP(deep, skip, spatial_dims) for skip, deep in reversed(list(pairwise(widths))))
        self.head = nn.Linear(widths[0], num_classes)

    def project(self, features: list[Tensor]) -> list[Tensor]:
        """What the features contribute to the perceptrons: of the deepest level, then of each skip from there up.

        Shape:
            features per level (N, width, *size) -> (N, 2 * width of the perceptron, *size), channels last in memory.
        """
        *skips, deepest = [feature.movedim(1, -1) for feature in features]
        levels = self._perceptrons()
        projected = [levels[0].project(deepest, DEEP)]
        projected += [level.project(skip, SKIP) for level, skip in zip(levels, reversed(skips), strict=True)]
        return [x.movedim(-1, 1) for x in projected]

    def forward(self, sampled: list[Tensor], points: Tensor) -> Tensor:
        """Logits at points; shapes as in the class."""
        below, *skips = sampled
        first, *others = self._perceptrons()
        x = first(below, skips[0], points)
        for level, skip in zip(others, skips[1:], strict=True):
            x = level(level.project(x, DEEP), skip, points)  # (N, *points, half the width)
        return self.head(x)  # type: ignore[no-any-return]

    def _perceptrons(self) -> "list[ResMLP]":
        return cast("list[ResMLP]", list(self.levels))


class ResMLP(nn.Module):
    """Residual perceptron of z = [feature from below, skip feature, coordinates]: lrelu(W2 lrelu(W1 z) + Ws z).

    Args:
        deep_channels: channels from below.
        skip_channels: channels of the skip and of the output.
        n_coordinates: coordinates of a point.

    Shape:
        below, skip (N, *points, 2 * skip_channels): what they contribute; points (..., n_coordinates)
        -> (N, *points, skip_channels).
    """

    def __init__(self, deep_channels: int, skip_channels: int, n_coordinates: int) -> None:
        super().__init__()
        self.parts = [deep_channels, skip_channels, n_coordinates]
        self.first = nn.Linear(sum(self.parts), skip_channels)
        self.second = nn.Linear(skip_channels, skip_channels)
        self.shortcut = nn.Linear(sum(self.parts), skip_channels, bias=False)

    def project(self, x: Tensor, part: int) -> Tensor:
        """What one part of z contributes to W1 z and, behind it, to Ws z: (..., part) -> (..., 2 * skip_channels)."""
        weight = torch.cat([self.first.weight, self.shortcut.weight])
        return F.linear(x, torch.split(weight, self.parts, dim=1)[part])

    def forward(self, below: Tensor, skip: Tensor, points: Tensor) -> Tensor:
        """Output at points; shapes as in the class. Sums are taken in place: they are the largest tensors of all."""
        total = below + skip
        total += self.project(points.to(self.first.weight.dtype), POINT)
        hidden, shortcut = total.chunk(2, dim=-1)
        out = self.second(F.leaky_relu(hidden + self.first.bias, SLOPE))
        out += shortcut
        return F.leaky_relu(out, SLOPE, inplace=True)
