"""How a case is read and its prediction written: a GeoTIFF row by row, NIfTI labels as they are finished.

Maps beside the labels hold values from 0 to 1: probabilities by class, and the entropy. On a volume they are NIfTI, on
a GeoTIFF float32 bands, beside a picture a NumPy file.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from seglab.data.channels import sibling_files
from seglab.data.formats import nifti_parts, polygons, scene, scratch, volumes
from seglab.data.formats.nifti_parts import VoxelFile
from seglab.data.module import SegmentationData
from seglab.data.rasters import RasterData, is_geotiff
from seglab.data.volumes import VolumeData
from seglab.errors import ConfigError
from seglab.inference.cases import CaseImage, Part, Span
from seglab.inference.postprocess import Postprocess
from seglab.spec import IGNORE_INDEX, DataSpec


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is written for each case beside its labels.

    Args:
        probabilities: probability of each class.
        entropy: entropy of the probabilities as a share of the largest there can be.
        polygons: outlines of the classes of a GeoTIFF, as GeoJSON.
        cog: GeoTIFFs are cloud-optimised.
        postprocess: what is done to the labels.
    """

    probabilities: bool = False
    entropy: bool = False
    polygons: bool = False
    cog: bool = False
    postprocess: Postprocess | None = None


@dataclass(frozen=True)
class OpenedCase:
    """A case that is about to be predicted.

    Args:
        file: where it lies.
        image: of which parts can be read.
        pixel_size: what a pixel counts in the postprocessing: mm3 of a voxel for volumes, 1 elsewhere.
    """

    file: Path
    image: CaseImage
    pixel_size: float = 1.0


class MapWriter(Protocol):
    """Takes parts of maps in order."""

    def write(self, depth: Span, height: Span, maps: NDArray[Any]) -> None:
        """Write (N, d, h, W) of values from 0 to 1."""


class LabelWriter(Protocol):
    """Takes parts of labels in order."""

    def write(self, depth: Span, height: Span, labels: NDArray[np.uint8]) -> None:
        """Write (d, h, W) class indices."""


@dataclass(frozen=True)
class _StoredCase:
    """A case that was read: (C, D, H, W), in memory or in a file."""

    stored: NDArray[Any]

    @property
    def shape(self) -> Sequence[int]:
        """(C, D, H, W)."""
        return self.stored.shape

    def read(self, depth: Span, height: Span) -> torch.Tensor:
        """A view of (C, d, h, W); what was read before need not stay in memory."""
        scratch.forget(self.stored)
        return torch.from_numpy(self.stored[:, slice(*depth), slice(*height)])


@dataclass(frozen=True)
class CaseWriter:
    """Takes the parts of a case in order.

    Args:
        labels: writes labels.
        maps: write probabilities ("probs") and entropy, where they are wanted.
        post: what is done to labels.
    """

    labels: LabelWriter
    maps: Mapping[str, MapWriter]
    post: Postprocess

    def write(self, part: Part) -> None:
        """Write a part."""
        self.labels.write(part.depth, part.height, self.post.labels_of(part).cpu().numpy())
        for name, writer in self.maps.items():
            values = part.probs if name == "probs" else None if part.entropy is None else part.entropy[None]
            if values is not None:
                writer.write(part.depth, part.height, values.cpu().numpy())


@contextmanager
def opened(data: SegmentationData, file: Path, channels: Sequence[str] = ()) -> Iterator[OpenedCase]:
    """Open a case to be predicted.

    Args:
        data: of the kind the network was trained on.
        file: the case, of several files the one of the first channel.
        channels: what tells apart the files of a case in their names; empty for one file.

    Raises:
        DataError: a file that cannot be read, or files that do not fit together.
    """
    if not channels and isinstance(data, RasterData) and is_geotiff(file):
        with scene.opened(file, require_crs=data.require_crs) as image:
            yield OpenedCase(file, image)
        return
    stored, _, spacing = data.read_images(sibling_files(file, channels))
    pixel_size = float(np.prod(spacing)) if data.kind == "volume" else 1.0
    yield OpenedCase(file, _StoredCase(stored), pixel_size)


@contextmanager
def created(
    data: SegmentationData, spec: DataSpec, case: OpenedCase, stem: Path, wanted: Wanted
) -> Iterator[CaseWriter]:
    """Write a prediction beside `stem`, whose folder is a temporary one: after an error files are left half-written.

    Args:
        data: of the kind the network was trained on.
        spec: of the network.
        case: the opened case.
        stem: output path without ending.
        wanted: what is written.

    Raises:
        ConfigError: polygons of what is no GeoTIFF.
        SeglabError: a format that cannot hold the labels.
        OSError: when a file cannot be written.
    """
    if wanted.polygons and not isinstance(case.image, scene.Scene):
        raise ConfigError(
            f"{case.file.name} has no place on earth to draw polygons in",
            given="polygons=true",
            allowed="polygons of GeoTIFF rasters",
            fix="leave polygons out, or predict GeoTIFF files",
        )
    counts = {"probs": spec.num_classes} if wanted.probabilities else {}
    counts |= {"entropy": 1} if wanted.entropy else {}
    post = wanted.postprocess or Postprocess()
    with ExitStack() as stack:
        maps: dict[str, MapWriter] = {}
        for name, n_maps in counts.items():
            place = stem.with_name(f"{stem.name}.{name}")
            maps[name] = stack.enter_context(_maps(data, case, place, n_maps, cog=wanted.cog))
        by_parts = _by_parts(data, spec, case, stem, wanted)
        if by_parts is not None and not post.steps:
            yield CaseWriter(stack.enter_context(by_parts), maps, post)
        else:
            labels = np.empty(tuple(case.image.shape[1:]), np.uint8)
            yield CaseWriter(_WholeCase(labels), maps, post)
            labels = post(labels, case.pixel_size) if post.steps else labels
            if by_parts is None:
                data.write_labels(labels, case.file, stem, spec)
            else:
                _write_in_parts(labels, stack.enter_context(by_parts))


def _by_parts(
    data: SegmentationData, spec: DataSpec, case: OpenedCase, stem: Path, wanted: Wanted
) -> AbstractContextManager[LabelWriter] | None:
    """What writes labels as they are finished; None where a format is written as a whole."""
    if isinstance(case.image, scene.Scene):
        return _scene_labels(spec, case.image, stem, wanted)
    if isinstance(data, VolumeData):
        voxels = volumes.labels_created(case.file, stem, data.dicom_labels)
        return None if voxels is None else _volume_labels(spec, voxels)
    return None


def _write_in_parts(labels: NDArray[np.uint8], writer: LabelWriter) -> None:
    depth, height, _ = labels.shape
    for index in range(depth):
        for start in range(0, height, scene.TILE_PX):
            rows = (start, min(start + scene.TILE_PX, height))
            writer.write((index, index + 1), rows, labels[index : index + 1, slice(*rows)])


@dataclass(frozen=True)
class _WholeCase:
    """Labels collected in memory: (D, H, W)."""

    labels: NDArray[np.uint8]

    def write(self, depth: Span, height: Span, labels: NDArray[np.uint8]) -> None:
        """Labels into memory."""
        self.labels[slice(*depth), slice(*height)] = labels


@dataclass(frozen=True)
class _VolumeLabels:
    """Labels of a volume, as the numbers that stand for the classes."""

    voxels: VoxelFile
    values: NDArray[np.uint8]

    def write(self, depth: Span, height: Span, labels: NDArray[np.uint8]) -> None:
        """Values of the classes, in parts."""
        self.voxels.write(depth, height, self.values[labels][None])


@contextmanager
def _volume_labels(spec: DataSpec, created: AbstractContextManager[VoxelFile]) -> Iterator[_VolumeLabels]:
    with created as voxels:
        yield _VolumeLabels(voxels, np.asarray(spec.mask_values, np.uint8))


@dataclass(frozen=True)
class _SceneLabels:
    """Labels of a scene row by row, as the numbers that stand for the classes; nodata where there is none."""

    image: scene.Scene
    rows: scene.RowWriter
    table: NDArray[np.uint8]
    nodata: int

    def write(self, depth: Span, height: Span, labels: NDArray[np.uint8]) -> None:
        """Values of the classes row by row, nodata where the image has none."""
        written = self.table[labels[0]]
        written[~self.image.valid(height)] = self.nodata
        self.rows.write(written[None])


@contextmanager
def _scene_labels(spec: DataSpec, image: scene.Scene, stem: Path, wanted: Wanted) -> Iterator[_SceneLabels]:
    values = spec.mask_values
    nodata = next(value for value in range(IGNORE_INDEX, -1, -1) if value not in values)
    table = np.full(256, nodata, dtype=np.uint8)
    table[: len(values)] = values
    target = stem.with_name(f"{stem.name}.tif")
    colors = dict(zip(values, spec.class_colors, strict=True))
    with scene.created(target, image, dtype="uint8", nodata=nodata, colors=colors, cog=wanted.cog) as rows:
        yield _SceneLabels(image, rows, table, nodata)
    if wanted.polygons:
        names = dict(list(zip(values, spec.class_names, strict=True))[1 if spec.has_background else 0 :])
        polygons.write(target, stem.with_name(f"{stem.name}.geojson"), names)


@dataclass(frozen=True)
class _SceneMaps:
    """Maps of a scene, NaN where it holds no data."""

    image: scene.Scene
    rows: scene.RowWriter

    def write(self, depth: Span, height: Span, maps: NDArray[Any]) -> None:
        """Maps row by row, NaN where the image has no data."""
        values = maps[:, 0].copy()
        values[:, ~self.image.valid(height)] = np.nan
        self.rows.write(values)


@dataclass(frozen=True)
class _ArrayMaps:
    """Maps of a picture, collected in memory: (N, H, W)."""

    values: NDArray[np.float16]

    def write(self, depth: Span, height: Span, maps: NDArray[Any]) -> None:
        """Maps into memory."""
        self.values[:, slice(*height)] = maps[:, 0]


@contextmanager
def _maps(
    data: SegmentationData, case: OpenedCase, target_stem: Path, n_maps: int, *, cog: bool
) -> Iterator[MapWriter]:
    """Maps beside labels: NIfTI for a volume, GeoTIFF for a scene, NumPy for a picture."""
    image = case.image
    if isinstance(image, scene.Scene):
        target = target_stem.with_name(f"{target_stem.name}.tif")
        with scene.created(target, image, dtype="float32", count=n_maps, nodata=np.nan, cog=cog) as rows:
            yield _SceneMaps(image, rows)
    elif data.kind == "volume":
        target = target_stem.with_name(f"{target_stem.name}.nii.gz")
        with nifti_parts.maps_created(target, volumes.read_geometry(case.file, channels=True), n_maps) as volume_maps:
            yield volume_maps
    else:
        values = np.zeros((n_maps, *image.shape[2:]), np.float16)
        yield _ArrayMaps(values)
        np.save(target_stem.with_name(f"{target_stem.name}.npy"), values)
