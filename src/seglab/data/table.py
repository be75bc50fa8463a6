"""A table of cases as CSV: image, mask and, where wanted, case, group, split and anything else that is known."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seglab.data.findings import Findings
from seglab.data.integrity import check_present, shorten
from seglab.data.listing import Listed, slug
from seglab.errors import DataError
from seglab.spec import Case

MASK = "mask"
OWN = ("case", MASK, "group", "split")
"""Columns with a meaning beside those of the image."""


def read_table(file: Path, root: Path, channels: Sequence[str] = (), class_columns: Sequence[str] = (MASK,)) -> Listed:
    """The cases of a table.

    Columns: `image`, or one for each channel by its name; `mask`, or one for each class; optional `case`, the name
    (else that of the image file), `group`, what must not be split apart, and `split`, one of train, val, test. All
    others are kept with the case. Paths start from the root.

    Args:
        file: CSV in UTF-8 with a header.
        root: folder of the data.
        channels: columns of the image files; empty for the one column `image`.
        class_columns: columns of the mask files, in the order of the classes.

    Raises:
        DataError: no such table, a column that is missing, rows without image or mask, files that do not exist, or
            cases that stand in two rows.
    """
    rows = _rows(file)
    image_columns = tuple(channels) or ("image",)
    columns = (*image_columns, *class_columns)
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise DataError(
            f"the table lacks {'rows' if not rows else f'the column {missing[0]}'}",
            given=f"{file}: columns {', '.join(rows[0]) if rows else 'of an empty table'}",
            allowed=f"a header with {', '.join(columns)}, and group, split or others as you like",
            fix="name the columns so, with commas between them, or say how they are called: data.channels=[t1,t2] for "
            "images, data.masks='{liver: liver_file, tumour: tumour_file}' for a mask file of each class",
        )
    findings = Findings()
    absent = [[column for column in columns if not row[column] or not (root / row[column]).exists()] for row in rows]
    with findings.noting():
        check_present(_missing(file, root, rows, absent), sum(not each for each in absent), file.name, root)
    whole = [row for row, missing in zip(rows, absent, strict=True) if not missing]
    cases = [_case(row, root, image_columns, class_columns) for row in whole]
    with findings.noting():
        _check_names(file, cases)
    findings.settle()
    return Listed(sorted(cases, key=lambda case: case.id), None, tuple(channels))


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True, strict=True, restkey="")
            rows = [row for row in reader if any(row.values())]
        if any("" in row or None in row.values() for row in rows):
            raise csv.Error("a row has more or fewer cells than the header")
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            "the table of cases cannot be read",
            given=f"{file}: {error}",
            allowed="comma-separated text in UTF-8 with a header and one row for each case",
            fix="set data.table=<file below data.root>, saved as CSV (UTF-8)",
        ) from error
    return [{str(name).strip(): value.strip() for name, value in row.items()} for row in rows]


def _missing(file: Path, root: Path, rows: Sequence[dict[str, str]], absent: Sequence[Sequence[str]]) -> dict[str, str]:
    """Cells that are empty or lead nowhere, with their rows as a text editor counts them."""
    return {
        str(root / row[column] if row[column] else f"{file}, row {number}, {column}"): f"row {number}: {column} "
        f"{row[column] or 'is empty'}"
        for number, (row, columns) in enumerate(zip(rows, absent, strict=True), start=2)
        for column in columns
    }


def _check_names(file: Path, cases: Sequence[Case]) -> None:
    """Refuse cases of one name and images that stand in two rows."""
    names = Counter(case.id for case in cases)
    images = Counter(case.image_file for case in cases)
    twice = [name for name, n in names.items() if n > 1] + [str(image) for image, n in images.items() if n > 1]
    if twice:
        raise DataError(
            "cases stand in two rows of the table",
            given=f"{file}: {shorten(dict.fromkeys(twice))}",
            allowed="one row for each case, with a name of its own",
            fix="remove the rows that repeat, or add a column case with distinct names",
        )


def _case(row: dict[str, str], root: Path, image_columns: Sequence[str], class_columns: Sequence[str]) -> Case:
    images, masks = ([root / row[column] for column in columns] for columns in (image_columns, class_columns))
    name = slug(row.get("case") or images[0].name.removesuffix(".gz").rpartition(".")[0] or images[0].name)
    metadata = {key: value for key, value in row.items() if key not in (*OWN, *image_columns, *class_columns)}
    group, split = row.get("group") or name, row.get("split")
    return Case(name, images[0], masks[0], group, tuple(images[1:]), split, metadata, more_mask_files=tuple(masks[1:]))
