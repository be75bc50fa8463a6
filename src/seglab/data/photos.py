"""Photos: how they and their masks are read and written, and a data set of anybody's photos."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.classes import BINARY, Classes
from seglab.data.formats import photo, photo_labels
from seglab.data.integrity import check_root
from seglab.data.listed import OwnData
from seglab.data.listing import Patterns
from seglab.data.module import SegmentationData
from seglab.data.phantoms import cracks
from seglab.spec import IGNORE_INDEX, Case, DataSpec


@dataclass(kw_only=True, eq=False, repr=False)
class PhotoData(SegmentationData):
    """Photos with two classes: a folder of images and one of masks of the same names."""

    image_folder: ClassVar[str] = "images"
    mask_folder: ClassVar[str] = "masks"
    kind = "photo"
    suffixes = photo.SUFFIXES

    @property
    def mask_values(self) -> tuple[int, ...]:
        """Black and white."""
        return 0, 255

    def find_cases(self, root: Path) -> list[Case]:
        """Pair images and masks by name."""
        folders = f"{self.image_folder}/ and {self.mask_folder}/"
        fix = f"set data.root=<folder with {folders}>, or train on a phantom: data.root=phantom"
        check_root(root, folders, fix)
        patterns = Patterns(
            images=f"{self.image_folder}/{{case}}.*",
            masks=f"{self.mask_folder}/{{case}}.*",
            suffixes=photo.SUFFIXES,
            what="photo",
            fix=fix,
        )
        cases = patterns.find(root, self.reads).cases
        groups = self.groups(root, [case.image_file for case in cases])
        return [replace(case, group=groups[case.image_file.name]) for case in cases]

    def groups(self, root: Path, images: list[Path]) -> dict[str, str]:
        """Group of each image by file name; here every image is a group of its own."""
        return {image.name: image.stem for image in images}

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a photo as it is to be seen: (3, 1, H, W), 0 to 255."""
        image = photo.read_photo(file)
        return image, np.ones(image.shape[1:], bool), (1.0, 1.0, 1.0)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read a mask of the same size as its photo: 1 is foreground."""
        return photo_labels.read_binary_mask(case.mask_file)

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write a PNG: grey for two classes, else with the classes' colours as palette."""
        target = target_stem.with_name(f"{target_stem.name}.png")
        photo_labels.write_labels(labels, target, mask_values=spec.mask_values, colors=spec.class_colors)
        return target


@dataclass(kw_only=True, eq=False, repr=False)
class PhotosData(OwnData, PhotoData):
    """Anybody's photos: PNG, JPEG, BMP or TIFF, 8 or 16 bits, with masks of class values or of class colours.

    Without declared classes masks are black and white: above 127 is foreground. Several files of one case give three
    channels each.
    """

    dataset: ClassVar[str] = "photos"

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read a mask of the same size as its photo, by the declared classes."""
        if self.file_coding is BINARY:
            return photo_labels.read_binary_mask(
                case.mask_file, fix="declare data.classes='{background: 0, foreground: 1}'"
            )
        if self.file_coding.in_colors:
            return photo_labels.read_color_mask(case.mask_file, self.file_coding.table)
        return self.file_coding.indices(photo_labels.read_values(case.mask_file), case.mask_file)

    @property
    def mask_values(self) -> tuple[int, ...]:
        """As `values_in_pictures`."""
        return values_in_pictures(self.coding)

    def write_phantom(self, folder: Path) -> None:
        """Walls and asphalt with cracks."""
        cracks.write(folder)


def values_in_pictures(coding: Classes) -> tuple[int, ...]:
    """Numbers of classes in a mask that is looked at: two are black and white unless each has one value of its own."""
    single = all(len(values) == 1 for values in coding.values) and not coding.in_colors
    return (0, IGNORE_INDEX) if len(coding.names) == 2 and not single else coding.written
