"""Label files of any program against true ones: pairing, classes, grids, and the same numbers as by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def moved(kind: str) -> np.ndarray:
    """The affine of labels that lie elsewhere than those with voxels of 1 x 1 x 3 mm."""
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    if kind == "voxels":
        affine[0, 0] = 2
    elif kind == "origin":
        affine[2, 3] = 1.5
    elif kind == "flipped":
        affine[0, 0] = -1
    else:
        affine[:2, :2] = [[0.98, -0.2], [0.2, 0.98]]
    return affine


@pytest.mark.parametrize("kind", ["voxels", "origin", "flipped", "turned"])
def test_volumes_that_lie_elsewhere_are_refused_by_name_unless_told_otherwise(
    kind: str, tmp_path: Path, write_nifti: Callable[..., Path]
) -> None:
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[1:3, 1:4, 1:3] = 1
    write_nifti(tmp_path / "truth" / "a.nii", labels, np.diag([1.0, 1.0, 3.0, 1.0]))
    write_nifti(tmp_path / "pred" / "a.nii.gz", labels, moved(kind))
    with pytest.raises(DataError, match=r"pred/a\.nii\.gz lies on another grid") as caught:
        score(tmp_path)
    assert "mm apart" in caught.value.given and "grid=array" in caught.value.fix
    assert not (tmp_path / "out" / "metrics.json").exists()
    found = score(tmp_path, "grid=array", "metrics=[surface]")
    assert found["test/case_dice/foreground"] == 1 and found["test/case_hd/foreground"] == 0


def test_volumes_stored_in_another_order_of_axes_lie_in_the_same_place(
    tmp_path: Path, write_nifti: Callable[..., Path]
) -> None:
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[1:3, 1:4, 1:3] = 1
    write_nifti(tmp_path / "truth" / "a.nii", labels, np.diag([1.0, 1.0, 3.0, 1.0]))
    turned = np.array([[0, 0, -1.0, 5], [1, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "pred" / "a.nii", labels[::-1].transpose(1, 2, 0), turned)
    assert score(tmp_path, "metrics=[surface]")["test/case_hd/foreground"] == 0


@pytest.mark.parametrize(("place", "given"), [({"west": 500_010.0}, "apart"), ({"crs": "EPSG:32634"}, "CRS")])
def test_rasters_that_lie_elsewhere_are_refused_by_name_unless_told_otherwise(
    place: dict[str, Any], given: str, tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    labels = np.zeros((1, 8, 9), np.uint8)
    labels[0, 2:5, 3:7] = 1
    write_raster(tmp_path / "truth" / "a.tif", labels)
    write_raster(tmp_path / "pred" / "a.tif", labels)
    assert score(tmp_path, "metrics=[]")["test/dice/foreground"] == 1
    write_raster(tmp_path / "pred" / "a.tif", labels, **place)
    with pytest.raises(DataError, match=r"pred/a\.tif lies on another grid") as caught:
        score(tmp_path)
    assert given in caught.value.given
    assert score(tmp_path, "grid=array", "metrics=[]")["test/dice/foreground"] == 1


def test_an_unknown_way_of_comparing_grids_is_refused(photos: Path) -> None:
    with pytest.raises(ConfigError, match="grid=header"):
        score(photos, "grid=header")


def test_values_that_are_no_class_are_refused(photos: Path, write_picture: Callable[..., Path]) -> None:
    write_picture(photos / "pred" / "b.png", np.full((20, 30), 7, np.uint8))
    with pytest.raises(DataError, match="no class"):
        score(photos)


@pytest.mark.parametrize("key", ["truth", "metadata"])
def test_what_is_not_there_is_refused(photos: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}="):
        score(photos, f"{key}={photos / 'nowhere'}")
