"""Single DICOM files: told apart from others, their headers checked, their pixels decoded completely."""

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError
from seglab.extras import load

NO_SLICES = (".txt", ".md", ".csv", ".json", ".xml", ".html", ".pdf", ".nii", ".gz", ".png", ".jpg")
"""Endings of files that may lie beside the slices; anything else that is no DICOM is refused as a broken slice."""

PREAMBLE = 128
_MAGIC = b"DICM"
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    struct.error,
)
_WANTED = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
_SIZE_AT = 8
"""Where a JPEG 2000 stream tells its size."""

_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


@dataclass(frozen=True)
class Slice:
    """Header of one slice.

    Args:
        file: where it lies.
        series: SeriesInstanceUID; anonymised files may lack it.
        description: of the series.
        frame: FrameOfReferenceUID.
        size: rows, columns.
        pixel_mm: distance of rows, of columns.
        position: centre of the first pixel, LPS mm.
        row: direction along a row, LPS.
        column: direction along a column, LPS.
    """

    file: Path
    series: str
    description: str
    frame: str
    size: tuple[int, int]
    pixel_mm: tuple[float, float]
    position: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]


def is_dicom(file: Path) -> bool:
    """Whether a file starts like DICOM; needs no package."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(PREAMBLE + len(_MAGIC))[PREAMBLE:] == _MAGIC


def is_series(folder: Path) -> bool:
    """Whether a folder holds DICOM files itself."""
    return folder.is_dir() and any(is_dicom(file) for file in sorted(folder.iterdir())[:5])


def open_slices(folder: Path) -> list[Slice]:
    """Headers of all slices of a folder, by file name.

    Raises:
        DataError: no folder, no slice in it, or a file that is no slice.
    """
    visible = sorted(file for file in folder.iterdir() if not file.name.startswith(".")) if folder.is_dir() else []
    files = [file for file in visible if file.is_file() and _may_be_slice(file)]
    if not files:
        _refuse(folder, "holds no DICOM series", f"{len(visible)} files", "a folder with the files of one series")
    return [_header(file) for file in files]


def decode(item: Slice) -> NDArray[np.float32]:
    """Pixels of a slice, (rows, columns), with slope and intercept applied.

    Raises:
        DataError: cut or broken pixels, or a compression without a decoder.
    """
    dataset = _read(item.file, pixels=True)
    try:
        _check_complete(dataset)
        stored = dataset.pixel_array
        if stored.shape != item.size:
            raise ValueError(f"{stored.shape} pixels instead of {item.size}")
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    except _faults() as error:
        raise _broken(item.file, error) from error
    values: NDArray[np.float32] = (stored * slope + intercept).astype(np.float32)
    if not np.isfinite(values).all():
        _refuse(item.file, "has an impossible rescale", f"slope {slope}, intercept {intercept}", "finite numbers")
    return values


def _may_be_slice(file: Path) -> bool:
    return file.name != "DICOMDIR" and (is_dicom(file) or not file.name.lower().endswith(NO_SLICES))


def _header(file: Path) -> Slice:
    if not is_dicom(file):
        _refuse(file, "is no DICOM file", f"{file.stat().st_size} bytes", "only slices, texts and pictures in a series")
    dataset = _read(file, pixels=False)
    try:
        lacking = [name for name in _WANTED if dataset.get(name) in (None, "")]
        if lacking:
            _refuse(file, "is no slice of a volume", f"without {', '.join(lacking)}", "CT or MR slices")
        orientation = np.asarray(dataset.ImageOrientationPatient, dtype=np.float64)
        found = Slice(
            file=file,
            series=str(dataset.get("SeriesInstanceUID", "")),
            description=str(dataset.get("SeriesDescription", "")),
            frame=str(dataset.get("FrameOfReferenceUID", "")),
            size=(int(dataset.Rows), int(dataset.Columns)),
            pixel_mm=(float(dataset.PixelSpacing[0]), float(dataset.PixelSpacing[1])),
            position=np.asarray(dataset.ImagePositionPatient, dtype=np.float64),
            row=orientation[:3],
            column=orientation[3:],
        )
        _check_kind(dataset, found)
    except _faults() as error:
        raise _broken(file, error) from error
    return found


def _check_kind(dataset: Any, found: Slice) -> None:
    axes = np.stack([found.row, found.column])
    is_square = axes.shape == (2, 3) and np.allclose(axes @ axes.T, np.eye(2), atol=1e-3)
    if found.position.shape != (3,) or not np.isfinite(found.position).all() or not is_square:
        given = f"position {found.position.tolist()}, directions {axes.tolist()}"
        _refuse(found.file, "lies nowhere", given, "a finite position, two unit directions at right angles")
    if not all(np.isfinite(side) and side > 0 for side in found.pixel_mm):
        _refuse(found.file, "has impossible pixels", f"spacing {found.pixel_mm}", "positive distances in mm")
    facts = {
        "NumberOfFrames": (int(dataset.get("NumberOfFrames") or 1), 1),
        "SamplesPerPixel": (int(dataset.get("SamplesPerPixel", 1)), 1),
        "PhotometricInterpretation": (str(dataset.get("PhotometricInterpretation", "")), "MONOCHROME2"),
    }
    odd = [f"{name} {value}" for name, (value, wanted) in facts.items() if value != wanted]
    if odd:
        _refuse(found.file, "is not a plain grey slice", ", ".join(odd), "one grey slice (MONOCHROME2) for each file")
    if dataset.get("Modality") == "CT" and dataset.get("RescaleIntercept") in (None, ""):
        _refuse(found.file, "has lost its rescale intercept", "CT without RescaleIntercept", "the scanner's own files")


def _check_complete(dataset: Any) -> None:
    """See that a compressed slice is whole: some decoders fill what is missing."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in _JPEG_2000:
        return
    encaps = load("pydicom.encaps", "volumes", "reading DICOM")
    stream = b"".join(encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    if not stream.rstrip(b"\x00").endswith(b"\xff\xd9"):
        raise EOFError("the JPEG 2000 stream has no end")
    width, height, left, top = struct.unpack_from(">4I", stream, _SIZE_AT)
    if (height - top, width - left) != (dataset.Rows, dataset.Columns):  # or memory is taken for what is announced
        raise ValueError(f"the JPEG 2000 stream is {width - left} x {height - top} pixels")


def _read(file: Path, *, pixels: bool) -> Any:
    pydicom = load("pydicom", "volumes", "reading DICOM")
    try:
        # from memory: of a file, as much would be allocated as a broken element announces
        return pydicom.dcmread(BytesIO(file.read_bytes()), stop_before_pixels=not pixels)
    except _faults() as error:
        raise _broken(file, error) from error


def _faults() -> tuple[type[Exception], ...]:
    """What broken files raise, some of it only when a damaged element is looked at."""
    errors = load("pydicom.errors", "volumes", "reading DICOM")
    return (*_BROKEN, errors.InvalidDicomError, errors.BytesLengthException)


def _broken(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read as DICOM",
        given=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        allowed="a complete slice; uncompressed, RLE, JPEG-LS or JPEG 2000",
        fix="fetch or export the file again, or take the series out of the data set",
    )


def _refuse(path: Path, what: str, given: str, allowed: str) -> NoReturn:
    raise DataError(
        f"{path} {what}",
        given=given,
        allowed=allowed,
        fix="fetch or export the series again, or take it out of the data set",
    )
