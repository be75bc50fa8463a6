"""Which files a prediction takes, and where the output of each goes."""

import csv
import glob
from collections.abc import Sequence
from pathlib import Path

from seglab.data.formats.dicom_files import is_series
from seglab.errors import ConfigError


def find_inputs(pattern: str, output: Path, column: str = "image") -> list[Path]:
    """Files of a file name, a folder (with subfolders), a glob or a CSV; folders with a DICOM series count as one.

    Of a folder, hidden files do not count, nor what earlier predictions left in an output folder inside it. A CSV
    names files in one of its columns, relative to its own folder; they are taken as they are.

    Args:
        pattern: what names the files.
        output: the output folder.
        column: of a CSV.

    Returns:
        Sorted paths; in the order of the rows for a CSV.

    Raises:
        ConfigError: when nothing is found.
    """
    path = Path(pattern)
    if path.is_file() and path.suffix.lower() == ".csv":
        return _listed(path, column)
    if path.is_dir():
        skipped = output.resolve() if path.resolve() in output.resolve().parents else None
        visible = (file for file in path.rglob("*") if not file.name.startswith("."))
        found = [file for file in visible if skipped not in file.resolve().parents]
    else:
        found = [path] if path.is_file() else [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207  # absolute patterns
    found = [file for file in found if file.is_file()]
    series = {folder for folder in {file.parent for file in found} if is_series(folder)} if found != [path] else set()
    files = sorted({file.parent if file.parent in series else file for file in found})
    if not files:
        raise ConfigError(
            "there is nothing to predict",
            given=f"input={pattern}",
            allowed="an existing file, a folder with files, a glob that matches some, or a CSV with a column of files",
            fix="check the path; quote a glob: 'input=\"scans/*.nii.gz\"'",
        )
    return files


def name_outputs(files: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Output path without ending of each input; subfolders are kept."""
    parents = [file.parent.resolve() for file in files]
    base = parents[0]
    while not all(parent.is_relative_to(base) for parent in parents):
        base = base.parent
    return {file: output / parent.relative_to(base) / _stem(file) for file, parent in zip(files, parents, strict=True)}


def _listed(file: Path, column: str) -> list[Path]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = reader.fieldnames or []
        names = [row[column] for row in reader if row.get(column)] if column in columns else []
    if not names:
        raise ConfigError(
            "the table names no files to predict",
            given=f"{file}: columns {', '.join(columns) or 'none'}; column={column}",
            allowed="a CSV whose first row names its columns, with a file in one of them in each row",
            fix=f"set column={columns[0]}" if columns and column not in columns else "fill the column",
        )
    return list(dict.fromkeys(file.parent / name for name in names))


def _stem(path: Path) -> str:
    return (not path.is_dir() and path.name.removesuffix(".gz").rpartition(".")[0]) or path.name
