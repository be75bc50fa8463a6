"""Label files of any program against true ones: pairing, classes, grids, and the same numbers as by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from run_jobs import composed, read

from seglab.errors import ConfigError, DataError
from seglab.run.evaluate import evaluate


def score(folder: Path, *overrides: str) -> dict[str, float]:
    places = [f"predictions={folder / 'pred'}", f"truth={folder / 'truth'}", f"output={folder / 'out'}"]
    return evaluate(composed("evaluate", [*places, *overrides]))


@pytest.fixture
def photos(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """Two binary masks of 0 and 255: one shifted by a pixel, one missed."""
    truth = np.zeros((20, 30), np.uint8)
    truth[5:9, 4:24] = 255
    for name, pred in (("a", np.roll(truth, 1, axis=0)), ("b", np.zeros_like(truth))):
        write_picture(tmp_path / "truth" / f"{name}.png", truth)
        write_picture(tmp_path / "pred" / f"{name}.png", pred)
    return tmp_path


def test_binary_photos_are_scored_as_by_hand(photos: Path) -> None:
    found = score(photos, "metrics=[surface,thin]")
    assert found["test/case_dice/foreground"] == pytest.approx((2 * 60 / 160 + 0) / 2)
    assert found["test/case_dice/foreground/found"] == pytest.approx(0.75)
    assert found["test/case_dice/foreground/n_missed"] == 1
    assert found["test/dice/foreground"] == pytest.approx(2 * 60 / (80 + 160))
    assert found["test/case_hd/foreground"] == pytest.approx((1 + np.hypot(20, 30)) / 2)
    assert found["test/case_f1_2px/foreground/found"] == 1
    assert (photos / "out" / "report.html").is_file() and (photos / "out" / "cases.csv").is_file()


def test_metadata_gives_groups_and_subgroups(photos: Path) -> None:
    (photos / "cases.csv").write_text("case,group,camera\na,wall,old\nb,wall,new\n")
    found = score(photos, f"metadata={photos / 'cases.csv'}", "subgroups=[camera]", "metrics=[]")
    parts = read(photos / "out" / "subgroups.json")["camera"]
    assert parts["old"]["case_dice/foreground"] == 0.75 and parts["new"]["case_dice/foreground"] == 0
    assert np.isnan(found["test/case_dice/foreground/ci_low"])  # one group


def test_volumes_are_paired_by_number_and_measured_in_mm(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    truth = np.zeros((12, 10, 6), np.uint8)
    truth[3:9, 3:7, 2:5] = 1
    truth[4:6, 4:6, 3] = 2
    affine = np.diag([2.0, 1.0, 5.0, 1.0])
    for number in (7, 12):
        write_nifti(tmp_path / "truth" / f"segmentation-{number}.nii", truth, affine)
        write_nifti(tmp_path / "pred" / f"volume-{number}.nii.gz", np.roll(truth, 1, axis=0), affine)
        write_nifti(tmp_path / "images" / f"volume-{number}.nii", truth.astype(np.int16) * 40, affine)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "tumour": 2}}')
    found = score(tmp_path, f"images={tmp_path / 'images'}")
    assert found["test/case_hd/liver"] == found["test/case_hd95/tumour"] == 2.0
    assert found["test/case_volume_difference/liver"] == 0 and found["test/case_dice/liver/n"] == 2
    assert len(list((tmp_path / "out" / "cases").glob("*.jpg"))) == 2


def test_ignored_pixels_count_nowhere(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    truth = np.array([[0, 1, 2, 255], [0, 1, 2, 255]], np.uint8)
    write_picture(tmp_path / "truth" / "x.png", truth)
    write_picture(tmp_path / "pred" / "x.png", np.where(truth == 255, 1, truth).astype(np.uint8))
    found = score(tmp_path, "classes=[background,road,water]", "metrics=[]")
    assert found["test/dice/road"] == found["test/case_dice/water"] == found["test/accuracy"] == 1


def test_truth_without_prediction_is_named(photos: Path) -> None:
    (photos / "pred" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png"):
        score(photos)


def test_another_grid_is_refused(photos: Path, write_picture: Callable[..., Path]) -> None:
    write_picture(photos / "pred" / "b.png", np.zeros((10, 15), np.uint8))
    with pytest.raises(DataError, match="another grid"):
        score(photos)


def test_voxels_of_another_size_are_refused(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    labels = np.ones((4, 4, 4), np.uint8)
    write_nifti(tmp_path / "truth" / "a.nii", labels)
    write_nifti(tmp_path / "pred" / "a.nii", labels, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(DataError, match="mm"):
        score(tmp_path)


def test_values_that_are_no_class_are_refused(photos: Path, write_picture: Callable[..., Path]) -> None:
    write_picture(photos / "pred" / "b.png", np.full((20, 30), 7, np.uint8))
    with pytest.raises(DataError, match="no class"):
        score(photos)


@pytest.mark.parametrize("key", ["truth", "metadata"])
def test_what_is_not_there_is_refused(photos: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}="):
        score(photos, f"{key}={photos / 'nowhere'}")
