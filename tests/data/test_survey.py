"""What is odd with a data set as a whole is told once; sound data sets, our phantoms and real ones, are not doubted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seglab.data import survey as rules
from seglab.data.crack import CrackData
from seglab.data.doubts import Fit
from seglab.data.findings import Finding
from seglab.data.headers import Header
from seglab.data.intensity import Moments
from seglab.data.lits import LitsData
from seglab.data.module import SegmentationData
from seglab.data.satellite import SatelliteData
from seglab.data.store import Record
from seglab.data.survey import survey

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
RASTER = Header("uint16", (100, 100), ((10.0, 0.0, 0.0), (0.0, -10.0, 1000.0)), "EPSG:32633")
RECORD = Record(
    id="a",
    group="a",
    image_file="images/a.tif",
    mask_file="masks/a.tif",
    entry="a-0",
    shape=(1, 1, 100, 100),
    spacing=(1.0, 10.0, 10.0),
    limits=(0, 3000),
    class_pixels=(9000, 1000),
    moments=Moments(10_000, (1e6,), (1e8,)),
    header=RASTER,
)


def records(n: int, **changed: object) -> list[Record]:
    """Sound records, the last of which is changed; each lies east of the one before."""
    sound = [
        replace(
            RECORD,
            id=f"r{number}",
            group=f"g{number}",
            header=replace(RASTER, affine=((10.0, 0.0, 1e4 * number), (0.0, -10.0, 1000.0))),
        )
        for number in range(n)
    ]
    return [*sound[:-1], replace(sound[-1], **changed)]


def told(rule: Callable[..., object], found: list[Record]) -> list[tuple[str, str]]:
    findings: list[Finding] = list(rule(found))  # type: ignore[call-overload]
    return [(each.severity, each.value) for each in findings]


ODD = [
    (rules._orientations, {"header": Header(orientation="LPS")}, "note", "LPS: 1"),
    (rules._steps, {"spacing": (1.0, 60.0, 60.0)}, "warning", "1 x 60 x 60, usually 1 x 10 x 10"),
    (rules._storage, {"header": replace(RASTER, stored="uint8")}, "warning", "uint16: 4, uint8: 1"),
    (rules._brightness, {"moments": Moments(10_000, (1e3,), (1e5,))}, "warning", "mean 0.1, usually 100"),
    (rules._places, {"header": replace(RASTER, crs="EPSG:32632")}, "note", "EPSG:32633: 4, EPSG:32632: 1"),
    (rules._overlaps, {"header": replace(RASTER, affine=((10.0, 0.0, 500.0), (0.0, -10.0, 1000.0)))}, "warning", "50%"),
    (rules._fits, {"fit": Fit(0.01, 0.4, "with reversed rows")}, "warning", "1.0% of the image as it is, 40.0%"),
]


@pytest.mark.parametrize(("rule", "changed", "severity", "value"), ODD)
def test_an_odd_case_is_told_and_its_twins_are_not(
    rule: Callable[..., object], changed: dict[str, object], severity: str, value: str
) -> None:
    sound = [replace(record, fit=Fit(0.4, 0.1, "turned by half")) for record in records(5)]
    if rule is rules._orientations:
        sound = [replace(record, header=Header(orientation="RAS")) for record in sound]
    assert told(rule, sound) == []
    found = [*sound[:-1], replace(sound[-1], **changed)]  # type: ignore[arg-type]
    ((severity_told, value_told),) = told(rule, found)
    assert severity_told == severity and value in value_told


def test_masks_that_fit_nothing_much_are_not_taken_for_mirrored() -> None:
    unclear = [replace(record, fit=Fit(0.02, 0.2, "turned by half")) for record in records(2)]
    others = [replace(record, fit=Fit(0.01, 0.03, "with reversed rows")) for record in records(4)]
    assert told(rules._fits, [*unclear, *others]) == []
    assert len(told(rules._fits, [replace(r, fit=Fit(0.02, 0.2, "with reversed rows")) for r in records(4)])) == 4


def test_one_mask_is_not_taken_for_mirrored_where_half_of_all_explain_their_images_hardly() -> None:
    right = [replace(record, fit=Fit(0.2, 0.2, "with reversed slices")) for record in records(5)]
    mirrored = replace(records(1)[0], fit=Fit(0.03, 0.1, "with reversed columns"))
    unclear = [replace(record, fit=Fit(0.03, 0.03, "with reversed slices")) for record in records(6)]
    assert len(told(rules._fits, [*right, mirrored])) == 1
    assert told(rules._fits, [*right, mirrored, *unclear]) == []


def test_large_groups_and_names_of_patches_are_told() -> None:
    grouped = [replace(record, group=f"g{number // 10 * 10 if number < 20 else number}") for number, record in
               enumerate(records(40))]  # fmt: skip
    assert told(rules._groups, grouped) == [("note", "g0: 10, g10: 10 of 40 cases in 22 groups")]
    assert told(rules._groups, records(40)) == []
    patches = [
        replace(r, id=f"wall_{n // 4}_{n % 4}", group=f"wall_{n // 4}_{n % 4}") for n, r in enumerate(records(12))
    ]
    assert told(rules._patches, patches) == [("warning", "wall_0: 4 cases, wall_1: 4 cases, wall_2: 4 cases")]
    assert told(rules._patches, [replace(r, group="g") for r in patches]) == []
    assert told(rules._patches, [replace(r, id=f"img_{n}", group=f"img_{n}") for n, r in enumerate(patches)]) == []


def loaded(data: SegmentationData) -> list[Finding]:
    data.load()
    return survey(data.store, data)


def of(found: list[Finding], severity: str) -> set[str]:
    return {each.what for each in found if each.severity == severity}


def test_the_phantoms_are_not_doubted(ct_root: Path, crack_root: Path, scene_root: Path, cache_dir: Path) -> None:
    for data in (
        LitsData(root=str(ct_root), cache_dir=str(cache_dir)),
        CrackData(root=str(crack_root), cache_dir=str(cache_dir)),
        SatelliteData(root=str(scene_root), cache_dir=str(cache_dir)),
    ):
        assert of(loaded(data), "warning") == set()


@real
@pytest.mark.slow
def test_the_real_photos_have_large_groups_and_nothing_to_doubt(tmp_path: Path) -> None:
    found = loaded(CrackData(root=str(REAL / "crack"), cache_dir=str(tmp_path)))
    assert [(each.severity, each.value[:8]) for each in found] == [("note", "a_31: 22")]


@real
@pytest.mark.slow
def test_palettes_and_black_pixels_of_the_real_aerial_tiles_are_told(tmp_path: Path) -> None:
    colors = {"water": "E2A929", "land": "8429F6", "road": "6EC1E4", "building": "3C1098", "vegetation": "FEDD3A"}
    voids = ["9B9B9B", "000000"]
    root = REAL / "satellite" / "dubai"
    found = loaded(SatelliteData(root=str(root), cache_dir=str(tmp_path), color_classes=colors, void_colors=voids))
    assert of(found, "warning") == set()
    palettes = {each.file for each in found if "palette" in each.what}
    assert palettes == {str(file) for file in root.glob("Tile 2/masks/*.png")}
    black = [each.file for each in found if "#000000" in each.what]
    assert str(root / "Tile 8" / "masks" / "image_part_003.png") in black


@real
@pytest.mark.slow
def test_the_wrong_origin_of_the_real_ct_is_measured(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    import nibabel as nib

    source, root = REAL / "orientation", tmp_path / "raw"
    for number, volume in ((1, "example_ct"), (2, "example_ct_sm")):
        image = nib.load(source / f"{volume}.nii.gz")
        voxels = np.asarray(image.dataobj)
        write_nifti(root / f"volume-{number}.nii.gz", voxels.astype(np.int16), image.affine)
        write_nifti(root / f"segmentation-{number}.nii.gz", (voxels > 40).astype(np.uint8), image.affine)
    fractions = {"val_fraction": 0.0, "test_fraction": 0.0}
    found = loaded(LitsData(root=str(root), cache_dir=str(tmp_path), **fractions))
    (offset,) = [each for each in found if "lies elsewhere" in each.what]
    assert offset.value.startswith("246 mm from volume-1.nii.gz")
