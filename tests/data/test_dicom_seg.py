from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_writer import FRAME, SERIES, STUDY, hu, write_series

from seglab.data.formats import dicom, dicom_seg
from seglab.errors import DataError

NAMES = ("background", "liver", "tumour", "something else")


def labelled(shape: tuple[int, int, int]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[1:4, 1:3, 1:3], labels[2, 2, 2], labels[5, 4, 3] = 1, 2, 3
    return labels


def test_segments_lie_on_the_source_slices_in_their_frame_of_reference(tmp_path: Path) -> None:
    axes = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float)  # sagittal slices, from left to right
    files = write_series(tmp_path / "ct", hu((4, 6, 5)), axes=axes)
    image, _ = dicom.read_volume(tmp_path / "ct")
    assert image.shape == (1, 6, 5, 4)
    labels = labelled((6, 5, 4))
    dicom_seg.write_labels(labels, tmp_path / "ct", tmp_path / "seg.dcm", class_names=NAMES)
    plain = pydicom.dcmread(tmp_path / "seg.dcm")
    assert plain.Modality == "SEG" and plain.FrameOfReferenceUID == FRAME and plain.StudyInstanceUID == STUDY
    assert plain.SeriesInstanceUID != SERIES and plain.PatientID == "1"
    assert plain.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    assert [segment.SegmentLabel for segment in plain.SegmentSequence] == list(NAMES[1:])
    assert plain.pixel_array.shape[1:] == (6, 5)

    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = {file: pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files}
    found = segmentation.get_pixels_by_source_instance(
        [str(uid) for uid in uids.values()], combine_segments=True, assert_missing_frames_are_empty=True
    )  # (slices, rows, columns); rows run down, columns to the back, slices to the right
    assert np.array_equal(found, labels.transpose(2, 0, 1)[::-1, ::-1])
    volume = segmentation.get_volume(combine_segments=True)
    assert volume.frame_of_reference_uid == FRAME and np.allclose(volume.direction.T[1:], axes[[1, 0]])


def test_no_foreground_at_all_is_written_too_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "ct", hu())
    caplog.set_level("INFO")
    dicom_seg.write_labels(np.zeros((6, 5, 4), np.uint8), tmp_path / "ct", tmp_path / "seg.dcm", class_names=NAMES)
    assert pydicom.dcmread(tmp_path / "seg.dcm").pixel_array.max() == 0 and caplog.text == ""


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hu())
    write = dicom_seg.write_labels
    with pytest.raises(DataError, match="on the grid of"):
        write(np.zeros((6, 4, 5), np.uint8), tmp_path / "ct", tmp_path / "seg.dcm", class_names=NAMES)
    with pytest.raises(DataError, match="labels up to 4 for 4 classes"):
        write(np.full((6, 5, 4), 4, np.uint8), tmp_path / "ct", tmp_path / "seg.dcm", class_names=NAMES)

    def anonymous(place: int, dataset: pydicom.Dataset) -> None:
        del dataset.StudyInstanceUID

    write_series(tmp_path / "bare", hu(), change=anonymous)
    with pytest.raises(DataError, match="without StudyInstanceUID"):
        write(np.zeros((6, 5, 4), np.uint8), tmp_path / "bare", tmp_path / "seg.dcm", class_names=NAMES)
    assert not list(tmp_path.glob("*seg*"))
