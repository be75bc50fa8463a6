"""Classes by value, range or colour, and classes that lie within each other."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from seglab.data.classes import BINARY, Classes, packed, read_classes
from seglab.errors import ConfigError, DataError

NESTED = {"background": 0, "whole": {"value": [1, 2, 4], "color": "3CB464"}, "core": [1, 4], "enhancing": 4}
MASK = np.array([[[0, 1, 2, 4]]], np.uint8)


def test_a_pixel_belongs_to_the_innermost_class_and_regions_say_what_counts_as_each() -> None:
    classes = read_classes(NESTED)
    assert classes.indices(MASK, Path("m")).tolist() == [[[0, 2, 1, 3]]]
    assert classes.regions == ((0,), (1, 2, 3), (2, 3), (3,))
    assert classes.written == (0, 2, 1, 4)  # a label goes back to the value that it alone has
    assert classes.colors[1] == (60, 180, 100)


def test_labels_read_and_written_again_are_the_file_s_own_values() -> None:
    classes = read_classes(NESTED)
    assert np.array_equal(np.array(classes.written)[classes.indices(MASK, Path("m"))], MASK)


def test_classes_apart_have_no_regions_whatever_their_values() -> None:
    classes = read_classes({"a": 7, "b": [3, 5], "c": "100-200"}).ignoring([255])
    assert classes.regions == () and classes.written == (7, 3, 100)
    stored = np.array([7, 5, 3, 100, 200, 255], np.uint16)
    assert classes.indices(stored, Path("m")).tolist() == [0, 1, 1, 2, 2, 255]


def test_instances_are_one_class_by_a_range_of_16_bits() -> None:
    classes = read_classes({"background": 0, "nucleus": "1-65535"})
    assert classes.indices(np.array([0, 1, 65535], np.uint16), Path("m")).tolist() == [0, 1, 1]


@pytest.mark.parametrize("value", [6, 70_000, -1])
def test_a_value_without_a_class_is_counted_and_named(value: int) -> None:
    with pytest.raises(DataError, match=rf"{value} \(2 pixels\)[\s\S]*tumour=2[\s\S]*data\.ignore") as caught:
        read_classes({"background": 0, "tumour": 2}).indices(np.array([0, value, value]), Path("mask.png"))
    assert "mask.png" in caught.value.what


def test_colours_make_a_table_with_what_is_ignored() -> None:
    classes = read_classes({"water": {"color": "#0000FF"}, "land": {"color": "00FF00"}}).ignoring(["000000"])
    assert classes.in_colors and classes.table == {(0, 0, 255): 0, (0, 255, 0): 1, (0, 0, 0): 255}
    assert classes.written == (0, 1) and packed((1, 2, 3)) == 0x010203


@pytest.mark.parametrize(
    ("declared", "ignore", "fault"),
    [
        ({"a": 0}, [], "too few"),
        ({"a": 0, "b": {"color": "FF0000"}}, [], "without a value: b"),
        ({"a": {"color": "FF0000"}, "b": {"color": "FF0000"}}, [], "the same colour"),
        ({"part": 2, "whole": [1, 2]}, [], "part within whole"),
        ({"a": 1, "b": 1}, [], "a within b"),
        ({"a": 0, "b": 1}, [1], "ignored"),
        ({"a": 0, "b": 1}, ["1-x"], "ignore has values that no mask can hold"),
        ({"a": 0, "b": 1.5}, [], "whole numbers"),
        ({"a": 0, "b": True}, [], "whole numbers"),
        ({"a": 0, "b": 65_536}, [], "0 to 65535"),
        ({"a": 0, "b": "9-3"}, [], "whole numbers"),
        ({"a": 0, "b": []}, [], "no value"),
        ({"a": 0, "b": {"colour": "FF0000"}}, [], "value, color"),
        ({"a": 0, "b": {"value": 1, "color": "red"}}, [], "no colour"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(declared: dict, ignore: list, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        read_classes(declared).ignoring(ignore)
    assert caught.value.given and caught.value.fix


def test_the_key_changes_with_the_meaning_and_not_with_names_or_colours() -> None:
    keys = [read_classes(each).key for each in ({"a": 0, "b": 1}, {"x": 0, "y": {"value": 1, "color": "010203"}})]
    assert keys[0] == keys[1] != read_classes({"a": 0, "b": 2}).key
    assert keys[0] != read_classes({"a": 0, "b": 1}).ignoring([2]).key


@pytest.mark.parametrize(
    ("declared", "added", "regions"),
    [
        ({"a": [1, 2], "b": [2, 3]}, {"a_and_b": [2]}, {"a": [1, 2], "b": [2, 3], "a_and_b": [2]}),
        ({"a": [1, 2], "b": [2, 3], "c": 2}, {}, {"a": [1, 2], "b": [2, 3], "c": [2]}),
        ({"a": [1, 2], "b": [2, 3], "c": [1, 3]}, {"b_and_c": [3]}, {"a": [1, 2], "b": [2, 3], "c": [1, 3]}),
        (
            {"a": [1, 4, 5, 7], "b": [2, 4, 6, 7], "c": [3, 5, 6, 7]},
            {"a_and_b": [4], "a_and_c": [5], "b_and_c": [6], "a_and_b_and_c": [7]},
            {"a": [1, 4, 5, 7], "b": [2, 4, 6, 7], "c": [3, 5, 6, 7]},
        ),
        ({"w": [1, 2, 3, 4], "a": [1, 2], "b": [2, 3]}, {"a_and_b": [2]}, {"w": [1, 2, 3, 4], "a": [1, 2]}),
    ],
)
def test_classes_that_overlap_in_part_are_scored_whole_by_a_class_of_what_they_share(
    declared: dict, added: dict, regions: dict
) -> None:
    classes = read_classes({"background": 0, **declared})
    assert classes.names == ("background", *declared, *added)
    stored = np.array(sorted({value for values in declared.values() for value in np.atleast_1d(values)}))
    labels = classes.indices(stored, Path("m"))
    for name, values in regions.items():
        assert stored[np.isin(labels, classes.regions[classes.names.index(name)])].tolist() == values
    if set(labels) == set(range(1, len(classes.names))):  # each class has a value of its own
        assert np.array(classes.written)[labels].tolist() == stored.tolist()


def test_a_class_of_nothing_but_its_parts_still_has_its_region() -> None:
    values = tuple(map(frozenset, ([0], [1, 2], [1], [2])))
    classes = Classes(("bg", "organ", "left", "right"), values, ((0, 0, 0),) * 4)
    assert classes.regions[1] == (1, 2, 3)
    with pytest.raises(ConfigError, match="a and b"):
        Classes(("a", "b"), (frozenset([1, 2]), frozenset([2, 3])), ((0, 0, 0),) * 2)
    assert classes.written == (0, 1, 2, 3)  # no own value for all of them: the indices


def test_what_an_unknown_value_is_answered_with_is_one_word_of_the_shell() -> None:
    with pytest.raises(DataError) as caught:
        BINARY.indices(np.arange(8, dtype=np.uint8), Path("mask.png"))
    assert "all its values (0, 1, 2, 3, 4, 5, 6, 7)" in caught.value.fix
    (word,) = [word for word in shlex.split(caught.value.fix) if word.startswith("data.classes=")]
    declared = yaml.safe_load(word.removeprefix("data.classes=").rstrip(";"))
    assert read_classes(declared).names == ("background", "liver", "tumour")
