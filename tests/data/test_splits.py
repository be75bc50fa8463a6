import json
from pathlib import Path

import numpy as np
import pytest

from seglab.data.splits import check_fold, fold_of, make_splits, read_splits, write_splits
from seglab.errors import ConfigError, DataError

GOLDEN = {
    "train": ("patient_0", "patient_1", "patient_2", "patient_4", "patient_7", "patient_9"),
    "val": ("patient_5", "patient_6"),
    "test": ("patient_3", "patient_8"),
}
TEN = {f"patient_{number}": (1,) for number in range(10)}


def held(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Groups of so many cases, of no class."""
    return {name: (size,) for name, size in sizes.items()}


def test_the_draw_is_the_same_on_every_platform() -> None:
    assert make_splits(TEN, val_fraction=0.2, test_fraction=0.2, seed=0) == GOLDEN


def test_the_order_of_the_groups_plays_no_part_but_the_seed_does() -> None:
    def draw(groups: dict[str, tuple[int, ...]], seed: int) -> dict[str, tuple[str, ...]]:
        return make_splits(groups, val_fraction=0.2, test_fraction=0.2, seed=seed)

    assert draw(TEN, 0) == draw(dict(reversed(TEN.items())), 0)
    assert len({str(draw(TEN, seed)) for seed in range(10)}) > 5


@pytest.mark.parametrize("seed", range(20))
def test_each_group_stands_in_exactly_one_split_and_shares_come_near(seed: int) -> None:
    sizes = {f"g{number}": 1 + number * seed % 7 for number in range(60)}
    splits = make_splits(held(sizes), val_fraction=0.15, test_fraction=0.25, seed=seed)
    assert sorted(group for groups in splits.values() for group in groups) == sorted(sizes)
    share = {name: sum(sizes[group] for group in groups) / sum(sizes.values()) for name, groups in splits.items()}
    assert share == pytest.approx({"train": 0.6, "val": 0.15, "test": 0.25}, abs=0.04)


@pytest.mark.parametrize("seed", range(10))
def test_every_wanted_split_gets_a_group_even_when_one_group_is_nearly_all(seed: int) -> None:
    splits = make_splits(held({"a": 1000, "b": 1, "c": 1}), val_fraction=0.1, test_fraction=0.1, seed=seed)
    assert [len(groups) for groups in splits.values()] == [1, 1, 1]


def test_a_fraction_of_zero_gives_an_empty_split() -> None:
    splits = make_splits(held({"a": 1, "b": 1}), val_fraction=0, test_fraction=0.5, seed=0)
    assert splits["val"] == () and len(splits["train"]) == len(splits["test"]) == 1
    assert make_splits(held({"a": 1}), val_fraction=0, test_fraction=0, seed=0)["train"] == ("a",)


def test_fewer_groups_than_splits_are_refused_and_named() -> None:
    with pytest.raises(DataError, match=r"2 group\(s\) \(a, b\)[\s\S]*data\.val_fraction=0"):
        make_splits(held({"a": 50, "b": 50}), val_fraction=0.1, test_fraction=0.1, seed=0)


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.7, 0.3), (0.2, 1.0), (float("nan"), 0.1)])
def test_fractions_that_leave_nothing_to_train_on_are_refused(val: float, test: float) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        make_splits(TEN, val_fraction=val, test_fraction=test, seed=0)


def test_a_split_file_is_read_back_as_written(tmp_path: Path) -> None:
    splits = make_splits(TEN, val_fraction=0.2, test_fraction=0.2, seed=3)
    write_splits(tmp_path / "split.json", splits)
    assert read_splits(tmp_path / "split.json", set(TEN)) == splits


def test_numbers_and_missing_splits_are_legal_in_a_split_file(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    file.write_text('{"train": [1, 2], "test": [3]}')
    assert read_splits(file, {"1", "2", "3"}) == {"train": ("1", "2"), "val": (), "test": ("3",)}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"train": ["a", "b"], "val": ["b"], "test": ["c"]}, r"1 group\(s\) stand in two splits[\s\S]*: b\n"),
        ({"train": ["a", "b", "c", "x"]}, r"1 group\(s\) do not exist in the data[\s\S]*: x\n"),
        ({"train": ["a"], "val": ["b"]}, r"1 group\(s\) stand in no split[\s\S]*: c\n"),
        (["a", "b", "c"], "cannot be read"),
        ({"train": 5}, "cannot be read"),
        ({"train": "abc"}, "cannot be read"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused_in_four_parts(content: object, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=fault) as error:
        read_splits(file, {"a", "b", "c"})
    assert str(file) in error.value.given and error.value.allowed and "data.split_file" in error.value.fix


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_a_broken_or_missing_split_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_bytes(content)
    for name in ("split.json", "missing.json"):
        with pytest.raises(DataError, match="cannot be read"):
            read_splits(tmp_path / name, {"a"})


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_each_group_validates_in_exactly_one_fold_and_the_test_stays(n_folds: int, in_blocks: bool) -> None:
    sizes = {str(number): 1 + number % 3 for number in range(13)}
    splits = make_splits(held(sizes), val_fraction=0.2, test_fraction=0.2, seed=1)
    folds = [fold_of(splits, fold, n_folds, groups=held(sizes), in_blocks=in_blocks) for fold in range(n_folds)]
    assert all(fold["test"] == splits["test"] for fold in folds)
    rest = {*splits["train"], *splits["val"]}
    assert sorted(group for fold in folds for group in fold["val"]) == sorted(rest)
    assert all(set(fold["train"]) == rest - set(fold["val"]) for fold in folds)
    n_cases = [sum(sizes[group] for group in fold["val"]) for fold in folds]
    assert max(n_cases) - min(n_cases) <= (6 if in_blocks else 2)


def test_folds_of_an_ordered_stack_are_blocks_in_the_order_of_numbers() -> None:
    sizes = {f"slice_{number}": 1 for number in range(12)}
    splits = {"train": tuple(sizes)[:10], "val": (), "test": tuple(sizes)[10:]}
    fold = fold_of(splits, 1, 5, groups=held(sizes), in_blocks=True)
    assert fold["val"] == ("slice_2", "slice_3") and len(fold["train"]) == 8


def test_more_folds_than_groups_are_refused() -> None:
    splits = {"train": ("a", "b"), "val": ("c",), "test": ("d",)}
    with pytest.raises(DataError, match=r"data\.n_folds=4, 3 group\(s\)[\s\S]*set data\.n_folds=3"):
        fold_of(splits, 0, 4, groups=held(dict.fromkeys("abcd", 1)), in_blocks=False)


@pytest.mark.parametrize(("fold", "n_folds"), [(5, 5), (-1, 5), (0, 1), (None, 0)])
def test_a_fold_that_does_not_exist_is_refused(fold: int | None, n_folds: int) -> None:
    check_fold(4, 5), check_fold(None, 2)
    with pytest.raises(ConfigError, match=rf"data\.fold={fold}, data\.n_folds={n_folds}"):
        check_fold(fold, n_folds)


# Groups of (cases, cases with background, with a common class, with a rare class).
MIXED = {
    f"p{number}": (n := 1 + number % 3, n, n - (number % 4 == 0), number % 6 == 0) for number in range(60)
}  # 120 cases, 105 of the common class, 10 of the rare one


def shares(parts: dict[object, tuple[str, ...]]) -> np.ndarray:
    """Share of each part, of the cases and of those with each class."""
    sums = np.array([[sum(MIXED[name][k] for name in names) for k in range(4)] for names in parts.values()])
    return sums / sums.sum(axis=0)


@pytest.mark.parametrize("seed", range(10))
def test_every_split_gets_its_share_of_each_class(seed: int) -> None:
    splits = make_splits(MIXED, val_fraction=0.2, test_fraction=0.3, seed=seed)
    assert shares(splits)[:, :3] == pytest.approx(np.array([[0.5] * 3, [0.2] * 3, [0.3] * 3]), abs=0.03)
    assert shares(splits)[:, 3].tolist() == pytest.approx([0.5, 0.2, 0.3])


def test_every_fold_gets_its_share_of_each_class() -> None:
    splits = {"train": tuple(MIXED), "val": (), "test": ()}
    folds = {fold: fold_of(splits, fold, 5, groups=MIXED, in_blocks=False)["val"] for fold in range(5)}
    assert shares(folds) == pytest.approx(np.full((5, 4), 0.2), abs=0.02)


def test_a_class_of_one_group_is_trained_on_and_of_two_groups_also_scored() -> None:
    groups = {f"g{number}": (1, 1, 0) for number in range(10)} | {"a": (1, 1, 1)}
    for seed in range(5):
        assert "a" in make_splits(groups, val_fraction=0.2, test_fraction=0.2, seed=seed)["train"]
        two = make_splits(groups | {"b": (1, 1, 1)}, val_fraction=0.4, test_fraction=0, seed=seed)
        assert sum(name in two["train"] for name in "ab") == sum(name in two["val"] for name in "ab") == 1
