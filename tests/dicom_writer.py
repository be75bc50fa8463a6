"""Writes small CT series as scanners do, without any third-party file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

SERIES, FRAME, STUDY = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
ROW_MM, COLUMN_MM, SLICE_MM = 0.8, 0.7, 2.5
AXIAL = np.eye(3)


def hu(shape: tuple[int, int, int] = (6, 5, 4)) -> np.ndarray:
    """(slices, rows, columns) without any symmetry."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 % 3001 - 700).astype(np.int16)


def write_series(
    folder: Path,
    values: np.ndarray,
    *,
    axes: np.ndarray = AXIAL,
    origin: tuple[float, float, float] = (-10.5, 20.25, 30.125),
    packed: bool = False,
    series: str = SERIES,
    prefix: str = "slice",
    change: Callable[[int, Dataset], Any] = lambda place, dataset: None,
) -> list[Path]:
    """Write (slices, rows, columns) of HU; names and numbers run against the places.

    Args:
        folder: made when missing.
        values: the stack, first slice at `origin`.
        axes: directions in LPS as rows: along a row (columns change), along a column, from slice to slice.
        packed: as JPEG 2000 without loss.
        change: called with the place and the data set of each slice before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for place, plane in enumerate(values):
        dataset = _slice(plane, np.asarray(origin) + place * SLICE_MM * axes[2], axes, packed=packed)
        dataset.SeriesInstanceUID, dataset.InstanceNumber = series, len(values) - place
        change(place, dataset)
        files.append(folder / f"{prefix}-{(place * 5) % 997:03d}.dcm")
        pydicom.dcmwrite(files[-1], dataset, enforce_file_format=True)
    return files


def _slice(plane: np.ndarray, position: np.ndarray, axes: np.ndarray, *, packed: bool) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless if packed else ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "A^B", "1", "", ""
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID, dataset.Modality = STUDY, FRAME, "CT"
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.ReferringPhysicianName = dataset.Manufacturer = dataset.PositionReferenceIndicator = ""
    dataset.SeriesNumber = 1
    dataset.Rows, dataset.Columns = plane.shape
    dataset.PixelSpacing = [ROW_MM, COLUMN_MM]
    dataset.ImagePositionPatient = [float(f"{value:.10g}") for value in position]
    dataset.ImageOrientationPatient = [float(f"{value:.10g}") for value in (*axes[0], *axes[1])]
    dataset.SliceThickness = 99.0  # wrong on purpose: positions count
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    stored = (plane + 1024).astype(np.uint16)
    dataset.PixelData = encapsulate([encode_array(stored, codec_format=0)]) if packed else stored.tobytes()
    if packed:
        dataset["PixelData"].VR = "OB"
    return dataset
