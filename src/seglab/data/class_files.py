"""One mask file for each class of a case: found together, and laid over each other in the order of the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seglab.data.classes import PALETTE, Classes
from seglab.data.findings import Findings, notice
from seglab.data.listing import Listed, Patterns, Reads
from seglab.errors import ConfigError
from seglab.spec import IGNORE_INDEX, Case

BACKGROUND = "background"


def classes_of_files(names: Sequence[str]) -> Classes:
    """Background and a class for each file, numbered in their order.

    Raises:
        ConfigError: no class, or one that is called background.
    """
    if not names or BACKGROUND in names:
        raise ConfigError(
            "the files of masks name no classes",
            given=f"data.masks with {', '.join(names) or 'no class'}",
            allowed="a pattern for each class; background is where no file has anything",
            fix="""set data.masks='{liver: "{case}/liver.nii.gz", tumour: "{case}/tumour.nii.gz"}'""",
        )
    values = tuple(frozenset([number]) for number in range(len(names) + 1))
    colors = tuple(PALETTE[number % len(PALETTE)] for number in range(len(names) + 1))
    return Classes((BACKGROUND, *map(str, names)), values, colors)


def find_class_files(root: Path, patterns: Mapping[str, Patterns], reads: Reads) -> Listed:
    """Cases whose classes lie in files of their own.

    Args:
        root: folder of the data.
        patterns: of each class, all with the same images.
        reads: whether a file is of a kind that is read.

    Raises:
        DataError: as `Patterns.find`, of each class; an image without the file of a class.
    """
    findings, found = Findings(), []
    for each in patterns.values():
        with findings.noting():
            found.append(each.find(root, reads))
    findings.settle()
    first, *others = found
    tables = [{case.id: case.mask_file for case in listed.cases} for listed in others]
    whole = [case for case in first.cases if all(case.id in table for table in tables)]  # others have been told
    cases = [replace(case, more_mask_files=tuple(table[case.id] for table in tables)) for case in whole]
    return replace(first, cases=cases)


def laid_over(masks: Sequence[NDArray[np.uint8]], case: Case, names: Sequence[str]) -> NDArray[np.uint8]:
    """One mask of several: a pixel has the last class whose file has it, and counts nowhere if a file says so.

    Classes that share pixels are noted, and a warning tells of one that later ones hide altogether.

    Args:
        masks: 0, 1 or 255, one for each class, of one size.
        case: names the files.
        names: of the classes, background first.

    Returns:
        Class indices, or 255, of the same shape.
    """
    label, void = np.zeros(masks[0].shape, np.uint8), np.zeros(masks[0].shape, bool)
    for number, mask in enumerate(masks, start=1):
        is_own = mask == 1
        hidden = np.bincount(label[is_own], minlength=number)
        for lower, n_pixels in enumerate(hidden.tolist()):
            if lower and n_pixels:
                _tell(case.mask_files[lower - 1], names[lower], names[number], n_pixels)
        label[is_own] = number
        void |= mask == IGNORE_INDEX
    for number, mask in enumerate(masks, start=1):
        if (mask == 1).any() and not (label == number).any():
            fix = "put the part after its whole in data.masks: the last class wins"
            notice("warning", case.mask_files[number - 1], "is hidden by later classes", value=names[number], fix=fix)
    label[void] = IGNORE_INDEX
    return label


def _tell(file: Path, lower: str, upper: str, n_pixels: int) -> None:
    value, fix = f"{n_pixels} pixels of {lower} become {upper}", "nothing, if the order of data.masks is meant so"
    notice("note", file, "shares pixels with a later class", value=value, fix=fix)
