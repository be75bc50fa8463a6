"""Deep Lake datasets: one row is one case, with an image and a mask in two of its columns."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglab import __version__
from seglab.data.contents import key_of
from seglab.data.declared import DeclaredClasses
from seglab.data.formats import lake, photo_labels
from seglab.data.formats.lake import Lake
from seglab.data.listing import Patterns
from seglab.data.phantoms import cracks
from seglab.data.phantoms.described import Described
from seglab.data.phantoms.folder import phantom_folder
from seglab.data.photos import PhotoData, values_in_pictures
from seglab.errors import DataError
from seglab.spec import Case


@dataclass(kw_only=True, eq=False, repr=False)
class DeepLakeData(DeclaredClasses, PhotoData):
    """Photos and masks in the rows of a Deep Lake dataset, in a local folder or at a remote address.

    Rows are read once, into the store; a commit to the dataset makes new entries. What is predicted is photo files.

    Args:
        image_column: images of 8 or 16 bits, grey, RGB or RGBA.
        mask_column: masks of class values or of class colours.
        group_column: what must not be split apart, a text or number; None makes each row a group of its own.
        split_column: train, val or test, which then decides the split; None has one drawn.

    Raises:
        ConfigError: classes that contradict each other; in `load`, deeplake is not installed.
        DataError: in `load`, no such dataset or column, a column without pictures, or rows that cannot be used.
    """

    image_column: str = "image"
    mask_column: str = "mask"
    group_column: str | None = None
    split_column: str | None = None

    opened: Lake | None = field(default=None, init=False)
    """The dataset, once its cases were listed."""

    dataset: ClassVar[str] = "deeplake"

    @property
    def mask_values(self) -> tuple[int, ...]:
        """As `values_in_pictures`."""
        return values_in_pictures(self.coding)

    @property
    def description(self) -> tuple[Any, ...]:
        """Includes the columns."""
        return *super().description, self.image_column, self.mask_column

    def find_cases(self, root: Path) -> list[Case]:
        """One case for each row; its files are places in the dataset: <root>/<column>/<row>."""
        found = self.opened = Lake(self.root if "://" in self.root else str(root))
        for key in ("image_column", "mask_column"):
            found.check_column(getattr(self, key), f"data.{key}", holds_pictures=True)
        groups, splits = (self._texts(found, key) for key in ("group_column", "split_column"))
        if not len(found):
            raise DataError(
                f"{found.url} (data.root) has no rows",
                given=f"columns {', '.join(found.columns)}",
                allowed="a row for each image with its mask",
                fix="append rows and commit them, or choose another dataset",
            )
        return [self._case(found, number, groups, splits) for number in range(len(found))]

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read the image of a row, or a photo file that is to be predicted: (3, 1, H, W), 0 to 255."""
        if self.opened is None or file.parents[1] != Path(self.opened.url):
            return super().read_image(file)
        image = lake.as_photo(self._stored(file), file)
        return image, np.ones(image.shape[1:], bool), (1.0, 1.0, 1.0)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read the mask of a row by the declared classes."""
        file, stored = case.mask_file, self._stored(case.mask_file)
        if self.coding.in_colors:
            return photo_labels.classes_of_colors(lake.as_colors(stored, file), self.coding.table, file)[None]
        return self.coding.indices(lake.as_values(stored, file), file)

    def _stored(self, place: Path) -> NDArray[Any]:
        """What <root>/<column>/<row> holds."""
        opened = Lake(self.root) if self.opened is None else self.opened
        return opened.row(place.parent.name, int(place.name))

    def _texts(self, found: Lake, key: str) -> list[str] | None:
        column = getattr(self, key)
        if column is None:
            return None
        found.check_column(column, f"data.{key}", holds_pictures=False)
        return found.texts(column)

    def _case(self, found: Lake, number: int, groups: list[str] | None, splits: list[str] | None) -> Case:
        name = f"row-{number:06d}"
        return Case(
            name,
            Path(found.url) / self.image_column / f"{number:06d}",
            Path(found.url) / self.mask_column / f"{number:06d}",
            group=name if groups is None else groups[number],
            split=None if splits is None else splits[number],
            version=f"{found.version} {self.image_column} {self.mask_column} {number}",
        )

    def _phantom_root(self) -> Path:
        """Crack photos as a Deep Lake dataset, coded by the declared classes."""
        how = key_of(self.image_column, self.mask_column, self.coding.key)
        return phantom_folder(Path(self.cache_dir) / "phantoms" / f"deeplake-{how}-{__version__}", self.write_phantom)

    def write_phantom(self, folder: Path) -> None:
        """Walls and asphalt with cracks, one row for each photo."""
        patterns = Patterns(images="images/{case}.png", masks="masks/{case}.png", suffixes=(".png",))
        plain = folder.with_name(f"{folder.name}-files")
        try:
            Described("photo", patterns, self.coding).write(plain, cracks.write)
            cases = patterns.find(plain, self.reads).cases
            pairs = [(_pixels(case.image_file), _pixels(case.mask_file)) for case in cases]
            lake.write(folder, self.image_column, self.mask_column, pairs)
        finally:
            shutil.rmtree(plain, ignore_errors=True)


def _pixels(file: Path) -> NDArray[Any]:
    return np.asarray(Image.open(file))
