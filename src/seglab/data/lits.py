"""LiTS: liver and liver tumour CT, and any CT in its naming (Bilic et al. 2023, https://arxiv.org/abs/1901.04056)."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.ct import check_hu, check_voxel_size
from seglab.data.formats import volumes
from seglab.data.integrity import check_mask_values, check_root, check_same_affine, pair_files
from seglab.data.module import SegmentationData
from seglab.data.phantoms import ct
from seglab.errors import ConfigError, DataError
from seglab.spec import Case, DataSpec


@dataclass(kw_only=True, eq=False, repr=False)
class LitsData(SegmentationData):
    """Liver CT volumes (LiTS): slices, neighbouring slices as channels (2.5-D), or 3-D patches; split by patient.

    Finds volume-N.nii[.gz] with segmentation-N.nii[.gz] in one folder or below it, as in the official Training Batch
    folders; .mha, .nrrd and .npz too. Labels: 0 background, 1 liver, 2 tumour. Every volume is brought to one canonical
    orientation on read and every prediction back to its own.

    Args:
        n_slices: neighbouring slices given as channels when dims=2; odd.
        window_hu: lower and upper end of the HU window, the rest is clipped.
        check_hu: refuse a volume that cannot be CT in HU, such as one whose rescale intercept was lost.
        store_all_hu: keep what lies beyond the window in the prepared data too; it takes more than twice the room.

    Raises:
        ConfigError: an even number of slices, slices with dims=3, or an empty window.
    """

    n_slices: int = 1
    window_hu: list[float] = field(default_factory=lambda: [-200, 250])
    check_hu: bool = True
    store_all_hu: bool = False

    dataset: ClassVar[str] = "lits"
    kind = "volume"
    supported_dims: ClassVar[tuple[int, ...]] = (2, 3)
    class_names = ("background", "liver", "tumour")
    class_colors = ((0, 0, 0), (230, 160, 60), (200, 50, 120))
    suffixes = volumes.SUFFIXES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_slices < 1 or self.n_slices % 2 == 0 or (self.dims == 3 and self.n_slices > 1):
            raise ConfigError(
                "the number of slices does not fit",
                given=f"data.n_slices={self.n_slices} with data.dims={self.dims}",
                allowed="an odd number with data.dims=2, and 1 with data.dims=3",
                fix="set data.n_slices=5, or data.n_slices=1",
            )
        if len(self.window_hu) != 2 or not self.window_hu[0] < self.window_hu[1]:
            raise ConfigError(
                "the HU window is empty",
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
        """The HU window."""
        return self.window_hu[0], self.window_hu[1]

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

    def find_cases(self, root: Path) -> list[Case]:
        """Pair volumes and segmentations by their number; the patient is the group."""
        check_root(
            root, "volume-*.nii[.gz]", "set data.root=<folder of LiTS>, or train on a phantom: data.root=phantom"
        )
        images, masks = _files(root, "volume"), _files(root, "segmentation")
        if not images:
            raise DataError(
                f"no volume-*.nii[.gz] under {root} (data.root)",
                given=", ".join(sorted(file.name for file in root.iterdir())[:5]) or "an empty folder",
                allowed="volume-N.nii[.gz] and segmentation-N.nii[.gz], in subfolders or not",
                fix="set data.root=<folder of LiTS>, or train on a phantom: data.root=phantom",
            )
        pairs = pair_files(images, masks, key=_number)
        return [Case(f"volume-{number}", image, mask, group=number) for number, image, mask in pairs]

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a CT in canonical orientation: (1, D, H, W) HU."""
        image, geometry = volumes.read_volume(file)
        check_voxel_size(geometry, file)
        if self.check_hu:
            check_hu(image, file)
        return image, np.ones(image.shape[1:], bool), geometry.spacing

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read labels; they must lie on the grid of the volume and hold 0, 1, 2 only."""
        mask = volumes.read_mask(case.mask_file)
        image_geometry, mask_geometry = volumes.read_geometry(case.image_file), volumes.read_geometry(case.mask_file)
        check_same_affine(image_geometry, mask_geometry, case.image_file, case.mask_file)
        check_mask_values(mask, range(len(self.class_names)), case.mask_file, self.class_names)
        return mask

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write labels on the grid of `like` and in its format."""
        return volumes.write_labels(
            labels, like, target_stem, class_names=spec.class_names, dicom_labels=self.dicom_labels
        )

    def reads(self, file: Path) -> bool:
        """Whether it is named like a volume or is a folder with a DICOM series."""
        return volumes.is_volume(file)


def _files(root: Path, prefix: str) -> list[Path]:
    return sorted(file for file in root.rglob(f"{prefix}-*") if file.name.endswith(volumes.SUFFIXES))


def _number(file: Path) -> str:
    match = re.search(r"-(\w+)\.", file.name)
    return match.group(1) if match else file.name
