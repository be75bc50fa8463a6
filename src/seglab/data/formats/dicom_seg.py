"""DICOM-SEG: labels written as a segmentation object that refers to the slices it was predicted from."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab import __version__
from seglab.data.formats import dicom, grid
from seglab.data.formats.dicom_files import Slice
from seglab.errors import DataError
from seglab.extras import load
from seglab.files import atomic_path

SUFFIX = ".dcm"
_NAME = "seglab"
_PURPOSE = "writing DICOM-SEG"
_NEEDED = ("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")


def write_labels(labels: NDArray[np.uint8], like: Path, target: Path, *, class_names: Sequence[str]) -> None:
    """Write labels on the slices of a series, one segment for each class but the first, in one piece.

    Patient, study and frame of reference are those of the series, as whoever opens the object must find both together.

    Args:
        labels: (D, H, W) class indices in reading order.
        like: folder of the series that was read.
        target: ends in .dcm.
        class_names: index is the class; class 0 is background.

    Raises:
        DataError: labels of another size or without a class, a series without the identifiers that a reference needs,
            or a target with another ending.
        ConfigError: highdicom is not installed.
        OSError: when the target cannot be written; no file is left under its name.
    """
    highdicom = load("highdicom", "volumes", _PURPOSE)
    logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells each group of attributes that it copies
    slices = dicom.read_series(like)
    stored = grid.to_file_order(labels, dicom.geometry_of(slices, like), like)
    if target.suffix != SUFFIX or labels.max(initial=0) >= len(class_names):
        raise DataError(
            f"labels cannot be written to {target}",
            given=f"labels up to {labels.max(initial=0)} for {len(class_names)} classes",
            allowed=f"labels below the number of classes, a target in {SUFFIX}",
            fix="give a name for each class and a .dcm name",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values of the scanner's own files that do not keep to the standard
        segmentation = highdicom.seg.Segmentation(
            source_images=_sources(slices),
            pixel_array=stored.transpose(2, 1, 0),  # (slices, rows, columns)
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(highdicom, number, class_names) for number in range(1, len(class_names))],
            series_instance_uid=highdicom.UID(),
            series_number=9000,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_NAME,
            manufacturer_model_name=_NAME,
            software_versions=__version__,
            device_serial_number="0",
            omit_empty_frames=bool(labels.any()),
        )
        with atomic_path(target) as temporary:
            segmentation.save_as(temporary)


def _sources(slices: Sequence[Slice]) -> list[Any]:
    pydicom = load("pydicom", "volumes", _PURPOSE)
    sources = [pydicom.dcmread(item.file, stop_before_pixels=True) for item in slices]
    lacking = [name for name in _NEEDED if not sources[0].get(name)]
    if lacking:
        raise DataError(
            f"{slices[0].file.parent} cannot be referred to by a segmentation",
            given=f"slices without {', '.join(lacking)}",
            allowed="slices with the identifiers of series, study, instance and frame of reference",
            fix="write the labels as NIfTI, or fetch the series with its identifiers",
        )
    for source in sources:
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            source.setdefault(name, "")  # may be empty but not missing
        for name in ("StudyDate", "StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator"):
            source.setdefault(name, "")
    return sources


def _segment(highdicom: Any, number: int, class_names: Sequence[str]) -> Any:
    codes = load("pydicom.sr.codedict", "volumes", _PURPOSE).codes
    code = load("pydicom.sr.coding", "volumes", _PURPOSE).Code
    name = class_names[number]
    known = {
        "liver": (codes.SCT.Organ, codes.SCT.Liver),
        "tumour": (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm),
    }
    category, kind = known.get(name, (codes.SCT.Tissue, code(f"class-{number}", "99SEGLAB", name[:64])))
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_NAME, version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
    )
