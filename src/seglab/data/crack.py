"""Crack photos: images and masks of the same names, split by photo."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import photo_labels
from seglab.data.phantoms import cracks
from seglab.data.photos import PhotoData
from seglab.errors import DataError
from seglab.spec import Case


@dataclass(kw_only=True, eq=False, repr=False)
class CrackData(PhotoData):
    """Crack photos: images/ and masks/ of the same names (png, jpg, bmp, tif); split by photo.

    groups.csv beside the two folders (file name, photo) tells which images are patches of one photo; without it every
    image is a photo of its own. EXIF rotation is applied, grey and RGBA images are brought to RGB.

    Args:
        foreground_values: mask values that mean crack; None: above 127.
    """

    foreground_values: list[int] | None = None

    dataset: ClassVar[str] = "crack"
    class_names = ("background", "crack")
    class_colors = ((0, 0, 0), (255, 200, 0))

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the meaning of mask values."""
        return {**super().settings, "foreground_values": self.foreground_values}

    def write_phantom(self, folder: Path) -> None:
        """Walls and asphalt with cracks."""
        cracks.write(folder)

    def groups(self, root: Path, images: list[Path]) -> dict[str, str]:
        """The photo that each image is a patch of, from groups.csv where it exists."""
        return read_groups(root / "groups.csv", images)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read a mask of the same size as its photo: 1 is crack."""
        values = tuple(self.foreground_values) if self.foreground_values is not None else None
        return photo_labels.read_binary_mask(case.mask_file, values)


def read_groups(file: Path, images: list[Path]) -> dict[str, str]:
    """Group of each image by file name: from the CSV (first column file, second group), else the image itself.

    Raises:
        DataError: an image that the file leaves out or puts into two groups, or a file that is no such CSV.
    """
    if not file.is_file():
        return {image.name: image.stem for image in images}
    groups_of = _groups_by_stem(file)
    groups = {image.name: groups_of.get(image.stem, set()) for image in images}
    wrong = sorted(name for name, found in groups.items() if len(found) != 1)
    if wrong:
        raise DataError(
            f"groups.csv gives no group, or two groups, for {len(wrong)} image(s)",
            given=f"{file}: {', '.join(wrong[:5])}",
            allowed="one row 'file name, photo' for every image",
            fix="correct the rows, or remove groups.csv when every image is a photo of its own",
        )
    return {name: next(iter(found)) for name, found in groups.items()}


def _groups_by_stem(file: Path) -> dict[str, set[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if len(row) >= 2 and row[1].strip()]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            "groups.csv cannot be read",
            given=f"{file}: {error}",
            allowed="comma-separated text in UTF-8, a row 'file name, photo' for every image",
            fix="save the table again as CSV (UTF-8)",
        ) from error
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for name, group, *_ in rows:
        groups[Path(name.strip()).stem].add(group.strip())
    return groups
