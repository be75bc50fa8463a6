"""Splits by group: no patient, photo or scene stands in two of train, val and test."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seglab.data.dealing import Held, deal
from seglab.data.integrity import shorten
from seglab.errors import ConfigError, DataError
from seglab.files import write_text
from seglab.spec import Case

SPLITS = ("train", "val", "test")
Splits = dict[str, tuple[str, ...]]
"""Group names of each split."""


def make_splits(groups: Mapping[str, Held], *, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Share out groups so that the cases, and those that show each class, come close to the fractions.

    Groups come in an order drawn from the seed and their names alone, not from the platform. Each wanted split gets one
    group first, the others are dealt out by what they hold (`deal`).

    Args:
        groups: what each group holds.
        val_fraction: share of cases for validation, 0 for none.
        test_fraction: share of cases for the test, 0 for none.
        seed: any integer.

    Raises:
        DataError: fractions that leave nothing to train on, or fewer groups than splits.
    """
    fractions = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
    if not (min(val_fraction, test_fraction) >= 0 and fractions["train"] > 1e-9):
        raise _nothing_to_train_on(val_fraction, test_fraction)
    wanted = [split for split in reversed(SPLITS) if fractions[split] > 0]
    if len(groups) < len(wanted):
        raise DataError(
            "there are fewer groups than splits",
            given=f"{len(groups)} group(s) ({', '.join(sorted(groups))}) for {', '.join(sorted(wanted))}",
            allowed="at least one group (patient, photo or scene) for each split",
            fix="add data, cut rasters into blocks with data.block_px=256, or set data.test_fraction=0 or "
            "data.val_fraction=0 (the last checkpoint is kept)",
        )
    order = sorted(groups, key=lambda name: _draw(seed, name))
    dealt = deal(groups, order, {split: fractions[split] for split in wanted}, one_each=True)
    return {split: tuple(sorted(dealt.get(split, ()))) for split in SPLITS}


def block_splits(groups: Iterable[str], *, val_fraction: float, test_fraction: float) -> Splits:
    """Cut an ordered stack into three blocks: train first, then val, then test; nothing is drawn.

    Groups stand in the order of the numbers in their names.

    Args:
        groups: names of the slices, photos or tiles, one group each.
        val_fraction: share of groups for validation, 0 for none.
        test_fraction: share of groups for the test, 0 for none.

    Raises:
        DataError: fractions that leave nothing to train on.
    """
    ordered = sorted(groups, key=_natural)
    n_test, n_val = round(test_fraction * len(ordered)), round(val_fraction * len(ordered))
    n_train = len(ordered) - n_val - n_test
    if n_train < 1 or min(val_fraction, test_fraction) < 0:
        raise _nothing_to_train_on(val_fraction, test_fraction)
    blocks = ordered[:n_train], ordered[n_train : n_train + n_val], ordered[n_train + n_val :]
    return dict(zip(SPLITS, map(tuple, blocks), strict=True))


def declared_splits(cases: Sequence[Case]) -> Splits | None:
    """The splits that the cases themselves name, such as a column of a table; None when none does.

    Raises:
        DataError: cases without a split beside others that have one, an unknown split, or a group in two splits.
    """
    if all(case.split is None for case in cases):
        return None
    members: dict[str, set[str]] = {split: set() for split in SPLITS}
    for case in cases:
        members.setdefault(case.split or "", set()).add(case.group)
    counts = Counter(group for groups in members.values() for group in groups)
    wrong = [f"{case.id}: {case.split or 'nothing'}" for case in cases if case.split not in SPLITS]
    across = [f"group {group} in two splits" for group, n in sorted(counts.items()) if n > 1]
    if wrong or across:
        raise DataError(
            "the splits that the cases name cannot be used",
            given=shorten([*wrong, *across]),
            allowed=f"{', '.join(SPLITS)} for every case, and all cases of a group in the same",
            fix="correct the column split, or remove it to have the split drawn",
        )
    return {split: tuple(sorted(groups)) for split, groups in members.items()}


def fold_of(splits: Splits, fold: int, n_folds: int, *, groups: Mapping[str, Held], in_blocks: bool) -> Splits:
    """Another share-out of train and val: fold `fold` of `n_folds` validates, the others train, the test stays.

    Args:
        splits: the test groups, and train and val, which are joined and cut anew.
        fold: from 0.
        n_folds: from 2.
        groups: what each group holds; folds get about equally many cases, and equally many that show each class.
        in_blocks: keep neighbours of an ordered stack together; else the order of names decides nothing.

    Raises:
        DataError: more folds than groups.
    """
    rest = sorted((*splits["train"], *splits["val"]), key=_natural if in_blocks else lambda name: _draw(n_folds, name))
    if len(rest) < n_folds:
        raise DataError(
            "there are fewer groups than folds",
            given=f"data.n_folds={n_folds}, {len(rest)} group(s) beside the test",
            allowed="at least one group (patient, photo or scene) for each fold",
            fix=f"set data.n_folds={max(2, len(rest))}",
        )
    if in_blocks:
        starts = [round(number * len(rest) / n_folds) for number in range(n_folds + 1)]
        chosen = rest[starts[fold] : starts[fold + 1]]
    else:
        largest_first = sorted(rest, key=lambda name: -groups[name][0])
        held = {name: groups[name] for name in rest}
        chosen = deal(held, largest_first, dict.fromkeys(range(n_folds), 1 / n_folds), one_each=False)[fold]
    return {"train": tuple(sorted(set(rest) - set(chosen))), "val": tuple(sorted(chosen)), "test": splits["test"]}


def check_fold(fold: int | None, n_folds: int) -> None:
    """Refuse a fold that does not exist.

    Raises:
        ConfigError: names the folds there are.
    """
    if n_folds < 2 or (fold is not None and not 0 <= fold < n_folds):
        raise ConfigError(
            "there is no such fold",
            given=f"data.fold={fold}, data.n_folds={n_folds}",
            allowed="data.n_folds from 2 up, data.fold from 0 up to one less",
            fix="set data.fold=0 data.n_folds=5",
        )


def read_splits(file: Path, groups: set[str]) -> Splits:
    """Read a split file and hold it against the groups that exist.

    The file is JSON: {"train": [groups], "val": [groups], "test": [groups]}; a split may be empty or left out.

    Raises:
        DataError: unreadable file, a group in two splits, an unknown group, or a group in no split.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        splits = {split: _names(content.get(split, [])) for split in SPLITS}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            "the split file cannot be read",
            given=f"{file}: {error}",
            allowed='JSON such as {"train": ["1", "2"], "val": ["3"], "test": ["4"]}',
            fix="correct the file, or leave data.split_file out to have one drawn",
        ) from error
    _check_splits(splits, groups, file)
    return splits


def write_splits(file: Path, splits: Splits) -> None:
    """Write a split file; it is reused by every later run on the same data and settings."""
    write_text(file, json.dumps(splits, indent=2) + "\n")


def _nothing_to_train_on(val_fraction: float, test_fraction: float) -> DataError:
    return DataError(
        "the split leaves nothing to train on",
        given=f"val_fraction={val_fraction}, test_fraction={test_fraction}",
        allowed="two numbers from 0 up whose sum is below 1",
        fix="set data.val_fraction=0.15 data.test_fraction=0.15",
    )


def _natural(name: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", name)], name


def _names(groups: object) -> tuple[str, ...]:
    if not isinstance(groups, list):
        raise TypeError(f"{groups!r} is no list of groups")
    return tuple(map(str, groups))


def _check_splits(splits: Splits, groups: set[str], file: Path) -> None:
    counts = Counter(group for members in splits.values() for group in members)
    faults = {
        "stand in two splits": [group for group, n in counts.items() if n > 1],
        "do not exist in the data": sorted(counts.keys() - groups),
        "stand in no split": sorted(groups - counts.keys()),
    }
    for fault, names in faults.items():
        if names:
            raise DataError(
                f"the split file does not fit the data: {len(names)} group(s) {fault}",
                given=f"{file}: {', '.join(names[:5])}",
                allowed="every group of the data in exactly one of train, val, test",
                fix="correct the file, or leave data.split_file out to have one drawn",
            )


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
