"""Cases by patterns of file names: fields, channels, and what is refused."""

from pathlib import Path

import pytest

from seglab.data.listing import Patterns
from seglab.data.patterns import Pattern
from seglab.errors import ConfigError, DataError

SUFFIXES = (".nii", ".nii.gz", ".png", ".jpg")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def patterns(images: str, masks: str, *channels: str) -> Patterns:
    return Patterns(images=images, masks=masks, suffixes=SUFFIXES, channels=channels)


def reads(file: Path) -> bool:
    return file.name.endswith(SUFFIXES)


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        ("images/*.jpg", "images/a.b.jpg", {"case": "a.b"}),
        ("images/{case}.*", "images/a.b.nii.gz", {"case": "a.b"}),
        ("images/{case}.*", "images/a.txt", None),
        ("{group}/img/{case}.png", "Tile 1/img/7.png", {"group": "Tile 1", "case": "7"}),
        ("{group}/img/{case}.png", "x/Tile 1/img/7.png", None),
        ("**/{case}/{case}_{channel}.*", "a/b/p1/p1_t1.nii", {"case": "p1", "channel": "t1"}),
        ("**/{case}/{case}_{channel}.*", "p1/p2_t1.nii", None),
        ("{case}_{channel}.png", "a_b_t1.png", {"case": "a_b", "channel": "t1"}),
        ("{case}_{channel}.png", "a_b_t3.png", None),
        ("s?.png", "s1.png", {"case": "s1"}),
        ("{site}-{case}.png", "x-1.png", {"site": "x", "case": "1"}),
    ],
)
def test_a_pattern_takes_fields_out_of_a_path(pattern: str, path: str, fields: dict | None) -> None:
    assert Pattern(pattern, "data.images", SUFFIXES, ("t1", "t2")).fields_of(path) == fields


@pytest.mark.parametrize("text", ["/abs/*.png", "../x/*.png", "a{/b.png", "a}b", "", "{a-b}.png"])
def test_what_is_no_pattern_below_the_root_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.images"):
        Pattern(text, "data.images", SUFFIXES)


def test_fields_become_the_group_the_split_and_what_is_kept_with_the_case(tmp_path: Path) -> None:
    names = ("train/site-a/p1/images/1.png", "test/site-b/p2/images/1.png")
    touch(tmp_path, *names, *(name.replace("images", "masks") for name in names), ".x/site-a/p9/images/1.png")
    found = patterns("{split}/{site}/{group}/images/{case}.png", "{split}/{site}/{group}/masks/{case}.*")
    cases = found.find(tmp_path, reads).cases
    assert [(case.id, case.group, case.split, dict(case.metadata)) for case in cases] == [
        ("test-site-b-p2-1", "p2", "test", {"site": "site-b"}),
        ("train-site-a-p1-1", "p1", "train", {"site": "site-a"}),
    ]


def test_any_ending_takes_a_folder_with_a_series_whatever_dots_are_in_its_name(tmp_path: Path) -> None:
    touch(
        tmp_path, "images/p1.v2/1.dcm", "images/p2/1.dcm", "images/notes/readme.txt", "masks/p1.v2.nii", "masks/p2.nii"
    )

    def is_read(path: Path) -> bool:
        return path.is_dir() and path.name.startswith("p")

    cases = patterns("images/{case}.*", "masks/{case}.*").find(tmp_path, is_read).cases
    assert [(case.id, case.image_file.name, case.mask_file.name) for case in cases] == [
        ("p1.v2", "p1.v2", "p1.v2.nii"),
        ("p2", "p2", "p2.nii"),
    ]


def test_a_mask_is_found_by_the_fields_it_shares(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "m/1_mask_x.png", "m/2_mask_y.png", "m/notes.txt")
    cases = patterns("a/*.jpg", "m/{case}_mask_*.png").find(tmp_path, reads).cases
    assert [(case.id, case.image_file.name, case.mask_file.name) for case in cases] == [
        ("1", "1.jpg", "1_mask_x.png"),
        ("2", "2.jpg", "2_mask_y.png"),
    ]


def test_files_of_one_case_are_its_channels_in_their_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{case}/{case}_{part}.nii.gz" for case in ("p1", "p2") for part in ("t2", "t1", "flair", "seg")))
    listed = patterns("{case}/{case}_{channel}.*", "{case}/{case}_seg.*", "t1", "t2").find(tmp_path, reads)
    assert [[file.name for file in case.files] for case in listed.cases] == [
        [f"{case}_{part}.nii.gz" for part in ("t1", "t2", "seg")] for case in ("p1", "p2")
    ]
    assert listed.channels == ("t1", "t2")


def test_a_file_that_both_patterns_match_is_a_mask(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_mask.png")
    (case,) = patterns("*.png", "{case}_mask.png").find(tmp_path, reads).cases
    assert (case.id, case.mask_file.name) == ("a", "a_mask.png")


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (["i/a.png", "i/b.png", "m/a.png", "m/c.png"], r"1 images without mask \(.*b\.png\), 1 masks .*c\.png"),
        (["i/a.png", "m/a.png", "m/a.jpg"], "1 cases have more than one file"),
        (["i/a.png", "i/a.jpg", "m/a.png"], "1 cases have more than one file"),
        (["x/a.png"], r"no image under[\s\S]*files i/\{case\}"),
    ],
)
def test_files_without_partner_doubled_or_missing_are_named(files: list[str], fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=fault):
        patterns("i/{case}.*", "m/{case}.*").find(touch(tmp_path, *files), reads)


def test_missing_files_of_channels_are_named_all_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "a_t1.png", "b_t1.png", "b_t2.png", "c_t1.png", *(f"{case}_seg.png" for case in "acd"))
    with pytest.raises(DataError, match=r"2 files are missing[\s\S]*a_t1\.png: no t2, c_t1\.png: no t2") as caught:
        patterns("{case}_{channel}.png", "{case}_seg.png", "t1", "t2").find(tmp_path, reads)
    assert "1 images without mask" in str(caught.value) and "1 masks without image" in str(caught.value)


@pytest.mark.parametrize(
    ("images", "masks", "channels"),
    [
        ("{case}_{channel}.png", "{case}.png", ()),
        ("{case}.png", "m/{case}.png", ("t1", "t2")),
        ("i/{case}.png", "{group}/{case}.png", ()),
    ],
)
def test_patterns_that_do_not_fit_each_other_are_refused(images: str, masks: str, channels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"do not fit each other[\s\S]*data\.masks="):
        patterns(images, masks, *channels)


def test_a_filled_pattern_matches_itself() -> None:
    for text in ("**/{case}/{case}_{channel}.*", "{group}/x/{case}.*", "images/*.jpg", "a/{case}_seg.nii"):
        pattern = Pattern(text, "data.images", SUFFIXES, ("t1",))
        fields = {name: f"{name}1" for name in (*pattern.fields, "case")} | (
            {"channel": "t1"} if "chan" in text else {}
        )
        filled = pattern.fill(fields, ".nii.gz")
        found = pattern.fields_of(filled)
        assert found is not None and {name: fields[name] for name in found} == found


def test_one_mask_is_that_of_all_images_which_are_one_group(tmp_path: Path) -> None:
    touch(tmp_path, "date_1.tif", "date_2.tif", "land.tif")
    cases = Patterns(images="date_{case}.tif", masks="land.tif", suffixes=(".tif",)).find(tmp_path, reads).cases
    assert [(case.id, case.group, case.mask_file.name) for case in cases] == [
        ("1", "land", "land.tif"),
        ("2", "land", "land.tif"),
    ]


def test_a_file_may_hold_image_and_mask(tmp_path: Path) -> None:
    touch(tmp_path, "a.npz", "b.npz")
    cases = Patterns(images="{case}.npz", masks="{case}.npz", suffixes=(".npz",)).find(tmp_path, reads).cases
    assert [(case.id, case.group, case.image_file == case.mask_file) for case in cases] == [
        ("a", "a", True),
        ("b", "b", True),
    ]
