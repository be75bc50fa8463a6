"""Crack photos: images and masks of the same names, split by photo."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import photo
from seglab.data.integrity import check_root, pair_files
from seglab.data.module import SegmentationData
from seglab.data.phantoms import cracks
from seglab.errors import DataError
from seglab.spec import Case, DataSpec

FIX = "set data.root=<folder with images/ and masks/>, or train on a phantom: data.root=phantom"


@dataclass(kw_only=True, eq=False, repr=False)
class CrackData(SegmentationData):
    """Crack photos: images/ and masks/ of the same names (png, jpg, bmp, tif); split by photo.

    groups.csv beside the two folders (file name, photo) tells which images are patches of one photo; without it every
    image is a photo of its own. EXIF rotation is applied, grey and RGBA images are brought to RGB.

    Args:
        foreground_values: mask values that mean crack; None: above 127.
    """

    foreground_values: list[int] | None = None

    dataset: ClassVar[str] = "crack"
    kind = "photo"
    class_names = ("background", "crack")
    class_colors = ((0, 0, 0), (255, 200, 0))
    mask_values = (0, 255)
    suffixes = photo.SUFFIXES

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the meaning of mask values."""
        return {**super().settings, "foreground_values": self.foreground_values}

    def write_phantom(self, folder: Path) -> None:
        """Walls and asphalt with cracks."""
        cracks.write(folder)

    def find_cases(self, root: Path) -> list[Case]:
        """Pair images and masks by name; the photo is the group."""
        check_root(root, "images/ and masks/", FIX)
        images, masks = list_photos(root / "images"), list_photos(root / "masks")
        if not images:
            raise DataError(
                f"no photo under {root / 'images'} (data.root)",
                given=", ".join(sorted(file.name for file in root.iterdir())[:5]) or "an empty folder",
                allowed=f"files ending in {', '.join(photo.SUFFIXES)}",
                fix=FIX,
            )
        groups = read_groups(root / "groups.csv", images)
        pairs = pair_files(images, masks, key=lambda file: file.stem)
        return [Case(stem, image, mask, groups[image.name]) for stem, image, mask in pairs]

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a photo as it is to be seen: (3, 1, H, W) uint8."""
        image = photo.read_photo(file)
        return image, np.ones(image.shape[1:], bool), (1.0, 1.0, 1.0)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read a mask of the same size as its photo: 1 is crack."""
        values = tuple(self.foreground_values) if self.foreground_values is not None else None
        return photo.read_binary_mask(case.mask_file, values)

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write a grey PNG, 255 is crack."""
        target = target_stem.with_name(f"{target_stem.name}.png")
        photo.write_labels(labels, target, mask_values=spec.mask_values, colors=spec.class_colors)
        return target


def list_photos(folder: Path) -> list[Path]:
    """Photos of a folder, sorted; hidden files do not count, and a missing folder has none."""
    files = (file for file in folder.glob("*") if not file.name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in photo.SUFFIXES)


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
