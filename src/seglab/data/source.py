"""DataSource: what a data set answers about its files; everything else is the same for all data sets."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.channels import check_equal_shapes
from seglab.spec import Case, DataSpec, Kind


class DataSource(ABC):
    """How the files of a data set are found, read and written.

    Arrays are (C, D, H, W) for images and (D, H, W) for masks; photos and rasters have D = 1.
    """

    dataset: ClassVar[str]
    kind: ClassVar[Kind]
    supported_dims: ClassVar[tuple[int, ...]] = (2,)
    splits_in_blocks: ClassVar[bool] = False
    """Whether neighbours of an ordered stack show the same and stay together in a split."""

    scratch_dir: Path | None = None
    """Folder of files that hold NIfTI volumes instead of memory; set by the prediction."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Class names; the index is the class."""

    @property
    @abstractmethod
    def class_colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each class."""

    @abstractmethod
    def write_phantom(self, folder: Path) -> None:
        """Write synthetic data in the real format."""

    @abstractmethod
    def find_cases(self, root: Path) -> list[Case]:
        """List the cases under `root`; raises DataError when there are none or some have no partner."""

    @abstractmethod
    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read an image: (C, D, H, W) values, (D, H, W) validity, spacing along (D, H, W)."""

    def read_images(self, files: Sequence[Path]) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read the files of a case, one after the other as channels, valid where all are; else as `read_image`.

        Raises:
            DataError: as `read_image`; files of different size or place.
        """
        parts = [self.read_image(file) for file in files]
        if len(parts) == 1:
            return parts[0]
        check_equal_shapes({file: image.shape[1:] for file, (image, _, _) in zip(files, parts, strict=True)})
        for file in files[1:]:
            self.check_same_place(files[0], file)
        images, valid, spacings = zip(*parts, strict=True)
        return np.concatenate(images), np.logical_and.reduce(valid), spacings[0]

    def check_same_place(self, first: Path, other: Path) -> None:  # noqa: B027  # what has no place overrides nothing
        """Refuse two files of one case that lie elsewhere in the world; photos have no place.

        Raises:
            DataError: names both and how they differ.
        """

    @abstractmethod
    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read and check the mask of a case: (D, H, W), class index or 255."""

    def read_masks(self, case: Case) -> NDArray[np.uint8]:
        """Read and check what lies in the mask files of a case; else as `read_mask`."""
        return self.read_mask(case)

    @abstractmethod
    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write (D, H, W) labels on the grid of the image file `like`; the ending is added to `target_stem`."""

    @property
    @abstractmethod
    def suffixes(self) -> tuple[str, ...]:
        """File name endings of images that `read_image` takes."""

    def reads(self, file: Path) -> bool:
        """Whether `read_image` takes a file, or folder, of this name."""
        return file.name.lower().endswith(self.suffixes)

    @property
    def has_background(self) -> bool:
        """Whether class 0 is background and stays out of means."""
        return True

    @property
    def mask_values(self) -> tuple[int, ...]:
        """The number that stands for each class in a mask we write."""
        return tuple(range(len(self.class_names)))

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Classes that count as each class, where classes lie within each other; empty when each counts alone."""
        return ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Text that tells apart the files of one case in their names; empty when a case is one file."""
        return ()

    @property
    def stacked_slices(self) -> int:
        """Neighbouring slices that a 2-D network gets as channels."""
        return 1

    @property
    def block_and_buffer_px(self) -> tuple[int, int] | None:
        """Side of the blocks that scenes are cut into and width of the buffer between them; None keeps cases whole."""
        return None

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """Range of stored values that is kept."""
        return None, None

    @property
    def keeps_all(self) -> bool:
        """Whether values beyond `clip` are stored too."""
        return True

    @property
    def description(self) -> tuple[Any, ...]:
        """What says, beside the root, which files are read and what they mean; other data of one root differs in it."""
        return ()

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that change what is prepared; part of the store's key."""
        return {"classes": self.class_names, "clip": self.clip}
