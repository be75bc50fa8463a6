"""Volumes of any format by their name: NIfTI, MHA, NRRD, NumPy files, or a folder with a DICOM series."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import arrays, dicom, dicom_seg, itk, nifti
from seglab.data.formats.dicom_files import is_series
from seglab.data.formats.nifti_parts import VoxelFile
from seglab.spec import Geometry

SUFFIXES = (*nifti.SUFFIXES, *itk.SUFFIXES, *arrays.SUFFIXES)

DicomLabels = Literal["nifti", "seg"]
"""What labels of a DICOM series are written as."""


def is_volume(path: Path) -> bool:
    """Whether a path is named like a volume or is a folder with a DICOM series."""
    return is_series(path) if path.is_dir() else path.name.lower().endswith(SUFFIXES)


def read_volume(
    path: Path, *, channels: bool = False, scratch_dir: Path | None = None
) -> tuple[NDArray[Any], Geometry]:
    """Read (C, D, H, W) and the geometry; raises as the reader of the format does.

    Args:
        path: file or folder.
        channels: take a fourth axis of NIfTI as channels; else C is 1.
        scratch_dir: voxels of NIfTI lie in a file there instead of memory, see `scratch`.
    """
    if path.name.lower().endswith(nifti.SUFFIXES):
        return nifti.read_volume(path, channels=channels, scratch_dir=scratch_dir)
    return dicom.read_volume(path) if is_series(path) else _reader(path).read_volume(path)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read labels (D, H, W); raises as the reader of the format does."""
    labels: NDArray[np.uint8] = _reader(path).read_mask(path)
    return labels


def read_geometry(path: Path, *, channels: bool = False) -> Geometry:
    """Read where a volume lies; raises as the reader of the format does."""
    if path.name.lower().endswith(nifti.SUFFIXES):
        return nifti.read_geometry(path, channels=channels)
    return dicom.read_geometry(path) if is_series(path) else _reader(path).read_geometry(path)


def write_labels(
    labels: NDArray[np.uint8],
    like: Path,
    target_stem: Path,
    *,
    class_names: tuple[str, ...],
    dicom_labels: DicomLabels = "nifti",
) -> Path:
    """Write labels on the grid of a volume and in its format: NIfTI gzipped, NumPy as .npz, DICOM by choice.

    Args:
        labels: (D, H, W) in reading order.
        like: the volume that was read.
        target_stem: output path without ending.
        class_names: index is the class; for DICOM-SEG.
        dicom_labels: what labels of a series become.

    Returns:
        The written file.
    """
    suffix = ".nii.gz" if like.name.lower().endswith(nifti.SUFFIXES) else like.suffix.lower()
    if is_series(like):
        suffix = ".nii.gz" if dicom_labels == "nifti" else dicom_seg.SUFFIX
    target = target_stem.with_name(f"{target_stem.name}{'.npz' if suffix in arrays.SUFFIXES else suffix}")
    if suffix == dicom_seg.SUFFIX:
        dicom_seg.write_labels(labels, like, target, class_names=class_names)
    elif is_series(like):
        nifti.write_new(labels, read_geometry(like), target)
    elif suffix in arrays.SUFFIXES:
        arrays.write_labels(labels, read_geometry(like), target)
    else:
        _reader(like).write_labels(labels, like, target)
    return target


def labels_created(
    like: Path, target_stem: Path, dicom_labels: DicomLabels
) -> AbstractContextManager[VoxelFile] | None:
    """What writes labels part by part, where they become NIfTI; None where a format is written as a whole.

    Args:
        like: the volume that is read.
        target_stem: output path without ending.
        dicom_labels: what labels of a series become.
    """
    target = target_stem.with_name(f"{target_stem.name}.nii.gz")
    if like.name.lower().endswith(nifti.SUFFIXES):
        return nifti.labels_created(like, target)
    if is_series(like) and dicom_labels == "nifti":
        return nifti.new_created(dicom.read_geometry(like), target)
    return None


def _reader(path: Path) -> Any:
    name = path.name.lower()
    return next((module for module in (itk, arrays) if name.endswith(module.SUFFIXES)), nifti)
