"""Volumes: how they and their masks are read and written, and a data set of anybody's volumes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.ct import check_hu, check_voxel_size
from seglab.data.formats import volumes
from seglab.data.integrity import check_same_affine
from seglab.data.listed import OwnData
from seglab.data.module import SegmentationData
from seglab.data.phantoms import ct
from seglab.errors import ConfigError
from seglab.spec import Case, DataSpec, Geometry


@dataclass(kw_only=True, eq=False, repr=False)
class VolumeData(SegmentationData):
    """Volumes as slices, neighbouring slices as channels (2.5-D), or 3-D patches.

    Every volume is brought to one canonical orientation on read and every prediction back to its own.

    Args:
        n_slices: neighbouring slices given as channels when dims=2; odd.
        window_hu: lower and upper end of the window, HU for CT; the rest is clipped. None clips nothing.
        check_hu: refuse a volume that cannot be CT in HU, such as one whose rescale intercept was lost.
        store_all_hu: keep what lies beyond the window in the prepared data too; it takes more than twice the room.

    Raises:
        ConfigError: an even number of slices, slices with dims=3, or an empty window.
    """

    n_slices: int = 1
    window_hu: list[float] | None = None
    check_hu: bool = False
    store_all_hu: bool = False

    kind = "volume"
    supported_dims: ClassVar[tuple[int, ...]] = (2, 3)
    suffixes = volumes.SUFFIXES
    takes_channels: ClassVar[bool] = False
    """Whether a fourth axis of a file is taken as channels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_slices < 1 or self.n_slices % 2 == 0 or (self.dims == 3 and self.n_slices > 1):
            raise ConfigError(
                "the number of slices does not fit",
                given=f"data.n_slices={self.n_slices} with data.dims={self.dims}",
                allowed="an odd number with data.dims=2, and 1 with data.dims=3",
                fix="set data.n_slices=5, or data.n_slices=1",
            )
        if self.window_hu is not None and not (len(self.window_hu) == 2 and self.window_hu[0] < self.window_hu[1]):
            raise ConfigError(
                "the window of values is empty",
                given=f"data.window_hu={self.window_hu}",
                allowed="two numbers, the lower one first",
                fix="set data.window_hu=[-200,250]",
            )

    @property
    def stacked_slices(self) -> int:
        """Slices given as channels."""
        return self.n_slices

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """The window."""
        return (None, None) if self.window_hu is None else (self.window_hu[0], self.window_hu[1])

    @property
    def settings(self) -> dict[str, Any]:
        """Includes what is refused."""
        return {**super().settings, "check_hu": self.check_hu}

    @property
    def keeps_all(self) -> bool:
        """As `store_all_hu` says."""
        return self.store_all_hu

    def write_phantom(self, folder: Path) -> None:
        """CT phantom with liver, tumours, spleen and spine."""
        ct.write(folder)

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a volume in canonical orientation: (C, D, H, W)."""
        image, geometry = volumes.read_volume(file, channels=self.takes_channels, scratch_dir=self.scratch_dir)
        self.check_volume(image, geometry, file)
        return image, np.broadcast_to(np.True_, image.shape[1:]), geometry.spacing

    def check_volume(self, image: NDArray[Any], geometry: Geometry, file: Path) -> None:
        """Refuse what cannot be CT, where it has to be.

        Raises:
            DataError: no believable voxel, or no Hounsfield units.
        """
        if self.check_hu:
            check_voxel_size(geometry, file)
            check_hu(image, file)

    def check_same_place(self, first: Path, other: Path) -> None:
        """Refuse files of one case with different affines."""
        check_same_affine(self._geometry(first), self._geometry(other), first, other)

    def read_labels(self, case: Case) -> NDArray[np.uint8]:
        """Read the stored values of a mask, which must lie on the grid of the volume: (D, H, W).

        Raises:
            DataError: a broken mask, or one that lies elsewhere.
        """
        mask = volumes.read_mask(case.mask_file)
        self.check_same_place(case.image_file, case.mask_file)
        return mask

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write labels on the grid of `like` and in its format; DICOM-SEG by class, all others by mask value."""
        by_class = like.is_dir() and self.dicom_labels == "seg"
        written = labels if by_class else np.asarray(spec.mask_values, np.uint8)[labels]
        return volumes.write_labels(
            written, like, target_stem, class_names=spec.class_names, dicom_labels=self.dicom_labels
        )

    def reads(self, file: Path) -> bool:
        """Whether it is named like a volume or is a folder with a DICOM series."""
        return volumes.is_volume(file)

    def _geometry(self, file: Path) -> Geometry:
        return volumes.read_geometry(file, channels=self.takes_channels)


@dataclass(kw_only=True, eq=False, repr=False)
class VolumesData(OwnData, VolumeData):
    """Anybody's volumes: NIfTI, MHA, NRRD, NumPy or DICOM series, with masks of class values.

    Several files of one case, or the fourth axis of a NIfTI file, are channels.

    Args:
        standardise: bring each channel of each case to mean 0 and deviation 1 of its voxels that are not 0, as
            magnetic resonance has no units.

    Raises:
        ConfigError: classes by colour.
    """

    standardise: bool = False

    dataset: ClassVar[str] = "volumes"
    takes_channels = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coding.in_colors:
            raise ConfigError(
                "volumes have no masks in colours",
                given=f"data.classes={self.classes}",
                allowed="a value for each class",
                fix="set data.classes='{background: 0, liver: {value: 1, color: C83278}}'",
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the scale of values."""
        return {**super().settings, "standardise": self.standardise}

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a volume in canonical orientation: (C, D, H, W)."""
        image, valid, spacing = super().read_image(file)
        return (np.stack([standardised(channel) for channel in image]) if self.standardise else image), valid, spacing

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read labels by the declared classes."""
        return self.file_coding.indices(self.read_labels(case), case.mask_file)


def standardised(channel: NDArray[Any]) -> NDArray[np.float32]:
    """Mean 0 and deviation 1 over the voxels that are not 0, which stay 0; a constant channel becomes 0."""
    inside = channel != 0
    values = channel[inside].astype(np.float64)
    result = np.zeros(channel.shape, np.float32)
    if values.size and values.std() > 0:
        result[inside] = (values - values.mean()) / values.std()
    return result
