"""A table of cases: columns with a meaning, others that are kept, and every fault of it at once."""

from pathlib import Path

import pytest

from seglab.data.findings import going_on
from seglab.data.splits import declared_splits
from seglab.data.table import read_table
from seglab.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png", "a_t2.png", "m/a.png", "m/b.png", "m/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def table(root: Path, text: str) -> Path:
    (root / "cases.csv").write_text(text, encoding="utf-8")
    return root / "cases.csv"


def test_columns_decide_group_and_split_and_the_others_are_kept(root: Path) -> None:
    text = "\ufeffimage, mask ,group,split,scanner,age\nb.png,m/b.png,p1,test,GE,61\na.png,m/a.png,,train,,40\n\n"
    cases = read_table(table(root, text), root, ()).cases
    assert [(case.id, case.group, case.split, dict(case.metadata)) for case in cases] == [
        ("a", "a", "train", {"scanner": "", "age": "40"}),
        ("b", "p1", "test", {"scanner": "GE", "age": "61"}),
    ]
    assert cases[1].files == (root / "b.png", root / "m" / "b.png")
    assert declared_splits(cases) == {"train": ("a",), "val": (), "test": ("p1",)}


def test_channels_are_columns_of_their_own_and_a_case_may_have_a_name(root: Path) -> None:
    listed = read_table(table(root, "case,t1,t2,mask\nfirst case,a.png,a_t2.png,m/a.png\n"), root, ("t1", "t2"))
    assert [file.name for file in listed.cases[0].image_files] == ["a.png", "a_t2.png"]
    assert listed.cases[0].id == "first_case" and listed.channels == ("t1", "t2")
    assert declared_splits(listed.cases) is None


def test_classes_are_columns_of_their_own(root: Path) -> None:
    text = "image,first,second,age\na.png,m/a.png,m/b.png,7\nc.png,m/c.png,m/b.png,8\n"
    cases = read_table(table(root, text), root, class_columns=("first", "second")).cases
    assert [[file.name for file in case.mask_files] for case in cases] == [["a.png", "b.png"], ["c.png", "b.png"]]
    assert cases[0].metadata == {"age": "7"} and cases[0].files[-1] == root / "m/b.png"
    with pytest.raises(DataError, match=r"lacks the column third[\s\S]*data\.masks='\{liver: liver_file"):
        read_table(table(root, text), root, class_columns=("first", "third"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("image,label\na.png,m/a.png\n", r"lacks the column mask[\s\S]*columns image, label"),
        ("image;mask\na.png;m/a.png\n", r"lacks the column image[\s\S]*image;mask[\s\S]*commas"),
        ("image,mask\n", "lacks rows"),
        ("", "lacks rows"),
        ("image,mask\na.png,m/a.png,extra\n", "more or fewer cells"),
        ("image,mask\na.png\n", "more or fewer cells"),
        ('image,mask\n"a.png,m/a.png\n', "cannot be read"),
    ],
)
def test_a_table_of_another_form_is_refused(text: str, fault: str, root: Path) -> None:
    with pytest.raises(DataError, match=fault):
        read_table(table(root, text), root, ())


def test_missing_files_and_rows_that_repeat_are_told_at_once(root: Path) -> None:
    text = "image,mask\na.png,m/a.png\na.png,m/b.png\nx.png,\nc.png,m/y.png\n"
    with pytest.raises(DataError) as caught:
        read_table(table(root, text), root, ())
    told = str(caught.value)
    assert "3 files are missing" in told and "row 4: image x.png, row 4: mask is empty" in told
    assert "row 5: mask m/y.png" in told and "cases stand in two rows" in told


def test_rows_that_lack_files_are_left_out_where_a_block_goes_on(root: Path) -> None:
    text = "image,mask\na.png,m/a.png\nb.png,\nx.png,m/b.png\nc.png,m/c.png\n"
    with going_on() as left:
        cases = read_table(table(root, text), root, ()).cases
    assert [case.id for case in cases] == ["a", "c"]
    assert set(left) == {f"{root / 'cases.csv'}, row 3, mask", str(root / "x.png")}
    assert "row 4: image x.png" in str(left[str(root / "x.png")])
    text += "y.png,m/y.png\n"  # most rows are wrong now: the root or the names of the files are misread
    with pytest.raises(DataError, match="4 files are missing"), going_on():
        read_table(table(root, text), root, ())


def test_a_missing_table_and_another_encoding_say_what_to_set(root: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv[\s\S]*data\.table="):
        read_table(root / "none.csv", root, ())
    (root / "cases.csv").write_bytes(b"image,mask\n\xe4.png,m/a.png\n")
    with pytest.raises(DataError, match=r"UTF-8"):
        read_table(root / "cases.csv", root, ())


def test_splits_that_are_unknown_missing_or_cut_a_group_are_told_at_once(root: Path) -> None:
    text = "image,mask,group,split\na.png,m/a.png,p,train\nb.png,m/b.png,p,validation\nc.png,m/c.png,q,\n"
    with pytest.raises(DataError) as caught:
        declared_splits(read_table(table(root, text), root, ()).cases)
    assert "b: validation, c: nothing, group p in two splits" in caught.value.given
    assert "train, val, test" in caught.value.allowed
