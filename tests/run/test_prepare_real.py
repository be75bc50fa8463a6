"""prepare on the real folders of ../shared/data, as typed on the command line: their known defects are found."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from run_jobs import composed

from seglab.errors import SeglabError
from seglab.run.prepare import prepare

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")]
NO_SPLIT = ["data.val_fraction=0", "data.test_fraction=0"]
CLOUDS = ["data=rasters", "data.images='{case}.npz'", "data.masks='{case}.npz'"]
COVER = "data.classes={cultivated:1,forest:2,grassland:3,shrub:4,artificial:8}"


def reported(folder: str, tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """report.json of a command, whether it accepts the data or not."""
    place = [f"data.root={REAL / folder}", f"paths.cache_dir={tmp_path / 'cache'}", f"report_dir={tmp_path}"]
    with suppress(SeglabError):
        prepare(composed("prepare", [*overrides, *place]))
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    return report


def found(report: dict[str, Any], severity: str) -> dict[str, list[tuple[str, str]]]:
    """What was found: file name and value of each place."""
    kinds = [kind for kind in report["findings"] if kind["severity"] == severity]
    return {kind["what"]: [(Path(place["file"]).name, place["value"]) for place in kind["places"]] for kind in kinds}


def test_orientation_has_an_origin_246_mm_off_and_reversed_rows(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    rows = [
        "whole,patient,example_ct.nii.gz,example_ct_liver.nii.gz",
        "part,patient,example_ct_sm.nii.gz,example_seg.nii.gz",
        "series,other,example_ct_dicom,example_seg_dicom.nii.gz",
    ]
    table.write_text("\n".join(["case,group,image,mask", *rows]))
    classes = "data.classes={background:[0,2-4,6-200],liver:[1,5]}"
    report = reported("orientation", tmp_path, "data=volumes", f"data.table={table}", classes, *NO_SPLIT)
    assert report["status"] == "ready" and report["n_cases"] == 3
    warnings, notes = found(report, "warning"), found(report, "note")
    assert warnings["lies elsewhere than a volume with the same slices"] == [
        ("example_ct_sm.nii.gz", "246 mm from example_ct.nii.gz (group patient), slices 83 to 112 of 112")
    ]
    assert notes["stores its axes in another order than its image"] == [
        ("example_seg_dicom.nii.gz", "mask LAS, image LPS")
    ]


def test_lits_has_two_axis_orders_and_no_tumour(tmp_path: Path) -> None:
    report = reported("lits", tmp_path, "data=lits", *NO_SPLIT)
    assert report["status"] == "ready" and found(report, "warning") == {"a class never occurs": [("", "tumour")]}
    assert found(report, "note")["volumes are stored in different axis orders"] == [("", "LPS: 1, RAS: 1")]


def test_lits_with_its_default_split_says_what_to_type(tmp_path: Path) -> None:
    report = reported("lits", tmp_path, "data=lits")
    assert report["status"] == "refused" and list(found(report, "error")) == ["there are fewer groups than splits"]


def test_dubai_has_palette_masks_and_black_pixels(tmp_path: Path) -> None:
    report = reported("satellite/dubai", tmp_path, "data=satellite")
    assert report["status"] == "ready" and report["n_cases"] == 54 and found(report, "warning") == {}
    notes = found(report, "note")
    palettes = notes["is a palette mask, whose colours or indices are classes as configured"]
    assert len(palettes) == len(list((REAL / "satellite/dubai/Tile 2/masks").glob("*.png")))
    assert "image_part_003.png" in dict(notes["holds the colour #000000, which counts in no loss and no metric"])


def test_clouds_hold_the_values_0_1_3_4(tmp_path: Path) -> None:
    refused = reported("satellite/clouds", tmp_path, *CLOUDS)
    (fault,) = [kind for kind in refused["findings"] if kind["severity"] == "error"]
    (place,) = fault["places"]
    assert (
        fault["what"] == "holds mask values that no class has" and "declare all its values (0, 1, 3, 4)" in fault["fix"]
    )
    assert place["value"] == "3 (113029 pixels), 4 (85929 pixels)"
    classes = "data.classes={shadow:0,water:1,land:3,cloud:4}"
    blocks = ["data.has_background=false", "data.block_px=128", "data.buffer_px=16"]
    report = reported("satellite/clouds", tmp_path, *CLOUDS, classes, *blocks)
    assert report["status"] == "ready" and report["counts"] == {"error": 0, "warning": 0, "note": 0}
    assert [split["n_cases"] for split in report["splits"]] == [10, 3, 3]


def test_sentinel2_has_one_mask_for_five_dates(tmp_path: Path) -> None:
    where = ["data.images='s2_{case}.tif'", "data.masks=lulc.tif", "data.has_background=false"]
    blocks = ["data.block_px=33", "data.buffer_px=4"]
    report = reported("satellite/sentinel2", tmp_path, "data=rasters", *where, COVER, *blocks)
    assert report["status"] == "ready" and report["n_cases"] == 5 and report["sizes"]["channels"] == [13]
    assert [split["n_cases"] for split in report["splits"]] == [5 * split["n_groups"] for split in report["splits"]]


@pytest.mark.parametrize(
    ("folder", "n_cases", "notes"),
    [("crack", 182, {"some groups are far larger than the others"}), ("em", 30, set()),
     ("nuclei", 130, {"loses its alpha channel"})],
)  # fmt: skip
def test_photos_and_slices_are_sound(folder: str, n_cases: int, notes: set[str], tmp_path: Path) -> None:
    report = reported(folder, tmp_path, f"data={folder}")
    assert (report["status"], report["n_cases"]) == ("ready", n_cases)
    assert found(report, "warning") == {} and set(found(report, "note")) == notes
    if folder == "crack":
        ((_, value),) = found(report, "note").popitem()[1]
        assert value.startswith("a_31: 22, ") and value.endswith("of 182 cases in 57 groups")
