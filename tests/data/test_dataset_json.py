"""dataset.json of nnU-Net, first and second version, and of the Decathlon."""

import json
from pathlib import Path
from typing import Any

import pytest

from seglab.data.dataset_json import read_dataset_json
from seglab.data.findings import going_on
from seglab.data.listing import Listed
from seglab.errors import DataError

SUFFIXES = (".nii.gz", ".png")


def written(root: Path, content: Any, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def read(root: Path) -> Listed:
    return read_dataset_json(root, lambda file: file.name.endswith(SUFFIXES), SUFFIXES)


def pair(case: str, *channels: str, ending: str = ".nii.gz") -> list[str]:
    return [*(f"imagesTr/{case}_{channel}{ending}" for channel in channels), f"labelsTr/{case}{ending}"]


def test_nnunet_channels_classes_and_what_is_ignored(tmp_path: Path) -> None:
    labels = {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    root = written(
        tmp_path, content, *pair("p_1", "0000", "0001"), *pair("p_2", "0000", "0001"), "imagesTs/p_3_0000.nii.gz"
    )
    found = read(root)
    assert [case.id for case in found.cases] == ["p_1", "p_2"] and found.channels == ("0000", "0001")
    assert [file.name for file in found.cases[0].files] == ["p_1_0000.nii.gz", "p_1_0001.nii.gz", "p_1.nii.gz"]
    assert found.classes is not None and found.classes.names == ("background", "organ", "tumour")
    assert found.classes.ignored == {3} and found.classes.regions == ()


def test_nnunet_regions_come_from_the_outside_in_whatever_their_order(tmp_path: Path) -> None:
    labels = {"background": 0, "enhancing": 3, "whole": [1, 2, 3], "core": [2, 3]}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "regions_class_order": [3, 1, 2], "file_ending": ".png"}
    found = read(written(tmp_path, content, *pair("a", "0000", ending=".png")))
    assert found.classes is not None and found.classes.names == ("background", "whole", "core", "enhancing")
    assert found.classes.regions == ((0,), (1, 2, 3), (2, 3), (3,)) and found.channels == ()


def test_nnunet_may_list_its_files(tmp_path: Path) -> None:
    entry = {"images": ["raw/x_t1.png", "raw/x_t2.png"], "label": "seg/x.png"}
    content = {"channel_names": {"0": "a", "1": "b"}, "labels": {"bg": 0, "fg": 1}, "dataset": {"case x": entry}}
    (case,) = read(written(tmp_path, content, "raw/x_t1.png", "raw/x_t2.png", "seg/x.png")).cases
    assert case.id == "case_x" and [file.name for file in case.files] == ["x_t1.png", "x_t2.png", "x.png"]


def test_the_decathlon_lists_pairs_and_names_values(tmp_path: Path) -> None:
    content = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": [{"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}],
    }
    found = read(
        written(tmp_path, content, "imagesTr/liver_1.nii.gz", "labelsTr/liver_1.nii.gz", "imagesTr/._liver_1.nii.gz")
    )
    assert [case.id for case in found.cases] == ["liver_1"] and found.channels == ()
    assert found.classes is not None and found.classes.names == ("background", "liver", "cancer")


def test_nnunet_s_first_version_lists_names_without_channels(tmp_path: Path) -> None:
    content = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    (case,) = read(written(tmp_path, content, *pair("a", "0000"))).cases
    assert case.id == "a" and case.image_file.name == "a_0000.nii.gz"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "cannot be used[\\s\\S]*JSONDecodeError"),
        ([], 'no "labels"'),
        ({"channel_names": {"0": "CT"}}, 'no "labels"'),
        ({"labels": {"bg": 0, "fg": 1}}, 'neither "channel_names"'),
        ({"labels": {"bg": 0, "fg": 1}, "training": ["a.nii.gz"]}, '"training" is no list'),
        ({"labels": {"bg": 0, "fg": 1}, "training": []}, "0 entries"),
        ({"labels": {"bg": 0, "fg": 1}, "channel_names": {"0": "a"}, "dataset": {"a": {}}}, '"dataset" is no table'),
        ({"labels": {"bg": 0, "fg": 1}, "channel_names": {"0": "a"}}, r"no image under[\s\S]*imagesTr"),
    ],
)
def test_a_dataset_json_of_another_form_is_refused(content: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=fault):
        read(written(tmp_path, content))


def test_files_that_are_listed_and_missing_are_named_all_at_once(tmp_path: Path) -> None:
    training = [{"image": f"i/{name}.png", "label": f"l/{name}.png"} for name in "ab"]
    content = {"labels": {"0": "bg", "1": "fg"}, "training": [*training, training[0]]}
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, content, "i/a.png", "l/b.png"))
    assert "2 files are missing" in str(caught.value) and "l/a.png, i/b.png" in str(caught.value)
    assert "3 entries with 2 different names" in str(caught.value)


def test_cases_that_lack_files_are_left_out_where_a_block_goes_on(tmp_path: Path) -> None:
    training = [{"image": f"i/{name}.png", "label": f"l/{name}.png"} for name in "abc"]
    content = {"labels": {"0": "bg", "1": "fg"}, "training": training}
    with going_on() as left:
        found = read(written(tmp_path / "d", content, "i/a.png", "l/a.png", "i/b.png", "l/b.png", "i/c.png"))
    assert [case.id for case in found.cases] == ["a", "b"] and list(left) == [str(tmp_path / "d/l/c.png")]
    content = {"channel_names": {"0": "x", "1": "y"}, "labels": {"bg": 0, "fg": 1}, "numTraining": 3}
    whole = [name for case in "ab" for name in pair(case, "0000", "0001")]
    with going_on() as left:
        found = read(written(tmp_path / "n", content, *whole, *pair("c", "0000")))
    assert [case.id for case in found.cases] == ["a", "b"] and "no 0001" in str(left.popitem()[1])


def test_another_number_of_cases_than_announced_is_refused(tmp_path: Path) -> None:
    content = {"channel_names": {"0": "CT"}, "labels": {"bg": 0, "fg": 1}, "numTraining": 5}
    with pytest.raises(DataError, match="numTraining 5; 1 cases"):
        read(written(tmp_path, content, *pair("a", "0000")))
