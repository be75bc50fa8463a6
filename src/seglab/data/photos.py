"""What data sets of photos share: an image and a mask of the same name in two folders, labels written as PNG."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import photo
from seglab.data.integrity import check_root, pair_files
from seglab.data.module import SegmentationData
from seglab.errors import DataError
from seglab.spec import Case, DataSpec


@dataclass(kw_only=True, eq=False, repr=False)
class PhotoData(SegmentationData):
    """Photos with two classes: a folder of images and one of masks of the same names."""

    image_folder: ClassVar[str] = "images"
    mask_folder: ClassVar[str] = "masks"
    kind = "photo"
    mask_values = (0, 255)
    suffixes = photo.SUFFIXES

    def find_cases(self, root: Path) -> list[Case]:
        """Pair images and masks by name."""
        folders = f"{self.image_folder}/ and {self.mask_folder}/"
        fix = f"set data.root=<folder with {folders}>, or train on a phantom: data.root=phantom"
        check_root(root, folders, fix)
        images, masks = list_photos(root / self.image_folder), list_photos(root / self.mask_folder)
        if not images:
            raise DataError(
                f"no photo under {root / self.image_folder} (data.root)",
                given=", ".join(sorted(file.name for file in root.iterdir())[:5]) or "an empty folder",
                allowed=f"files ending in {', '.join(photo.SUFFIXES)}",
                fix=fix,
            )
        groups = self.groups(root, images)
        pairs = pair_files(images, masks, key=lambda file: file.stem)
        return [Case(stem, image, mask, groups[image.name]) for stem, image, mask in pairs]

    def groups(self, root: Path, images: list[Path]) -> dict[str, str]:
        """Group of each image by file name; here every image is a group of its own."""
        return {image.name: image.stem for image in images}

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a photo as it is to be seen: (3, 1, H, W), 0 to 255."""
        image = photo.read_photo(file)
        return image, np.ones(image.shape[1:], bool), (1.0, 1.0, 1.0)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read a mask of the same size as its photo: 1 is foreground."""
        return photo.read_binary_mask(case.mask_file)

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write a grey PNG, 255 is foreground."""
        target = target_stem.with_name(f"{target_stem.name}.png")
        photo.write_labels(labels, target, mask_values=spec.mask_values, colors=spec.class_colors)
        return target


def list_photos(folder: Path) -> list[Path]:
    """Photos of a folder, sorted; hidden files do not count, and a missing folder has none."""
    files = (file for file in folder.glob("*") if not file.name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in photo.SUFFIXES)
