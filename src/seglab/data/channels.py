"""Several files of one case as channels: modalities, bands, views, told apart by a text in their names."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seglab.errors import DataError


def check_equal_shapes(shapes: Mapping[Path, Sequence[int]]) -> None:
    """Refuse modalities of different size; nothing is ever resampled to fit.

    Args:
        shapes: (D, H, W) of each file of a case.

    Raises:
        DataError: names each file with its size.
    """
    if len(set(map(tuple, shapes.values()))) > 1:
        raise DataError(
            "the files of one case have different sizes",
            given="; ".join(f"{file}: {'x'.join(map(str, shape))}" for file, shape in shapes.items()),
            allowed="one grid for all channels of a case (depth x height x width)",
            fix="bring the files of the case onto one grid, or take the case out of the data set",
        )


def sibling_files(file: Path, channels: Sequence[str]) -> tuple[Path, ...]:
    """The files of the case that a file is the first channel of, by the last place of the channel's text in its name.

    Args:
        file: of the first channel, such as scan_0000.nii.gz.
        channels: text of each channel, such as ("0000", "0001"); empty for a case of one file.

    Raises:
        DataError: a name without the text of the first channel, or a channel without file.
    """
    if not channels:
        return (file,)
    before, found, after = file.name.rpartition(channels[0])
    files = tuple(file.with_name(f"{before}{channel}{after}") for channel in channels)
    missing = [other.name for other in files if not other.exists()]
    if not found or missing:
        raise DataError(
            f"{file.name} is not the first of the {len(channels)} files of a case",
            given=f"no {', '.join(missing)}" if found else f"{channels[0]!r} is not in the name",
            allowed=f"files whose names differ in {', '.join(channels)}",
            fix="put the files of all channels beside each other, named as in the training",
        )
    return files


def first_channels(files: Iterable[Path], channels: Sequence[str]) -> list[Path]:
    """Of files in any order those that stand for a case: all but the further channels of another file that is there."""
    given = list(files)
    further: set[Path] = set()
    for file in given if channels else ():
        before, found, after = file.name.rpartition(channels[0])
        if found:
            further |= {file.with_name(f"{before}{channel}{after}") for channel in channels[1:]}
    return [file for file in given if file not in further]
