"""LiTS: liver and liver tumour CT, and any CT in its naming (Bilic et al. 2023, https://arxiv.org/abs/1901.04056)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.ct import check_hu, check_voxel_size
from seglab.data.formats import volumes
from seglab.data.integrity import check_mask_values, check_root
from seglab.data.listing import Patterns
from seglab.data.volumes import VolumeData
from seglab.spec import Case, Geometry

FIX = "set data.root=<folder of LiTS>, or train on a phantom: data.root=phantom"


@dataclass(kw_only=True, eq=False, repr=False)
class LitsData(VolumeData):
    """Liver CT volumes (LiTS): slices, neighbouring slices as channels (2.5-D), or 3-D patches; split by patient.

    Finds volume-N.nii[.gz] with segmentation-N.nii[.gz] in one folder or below it, as in the official Training Batch
    folders; .mha, .nrrd and .npz too. Labels: 0 background, 1 liver, 2 tumour.

    Args:
        window_hu: lower and upper end of the HU window, the rest is clipped.
        check_hu: refuse a volume that cannot be CT in HU, such as one whose rescale intercept was lost.
    """

    window_hu: list[float] | None = field(default_factory=lambda: [-200.0, 250.0])
    check_hu: bool = True

    dataset: ClassVar[str] = "lits"
    class_names = ("background", "liver", "tumour")
    class_colors = ((0, 0, 0), (230, 160, 60), (200, 50, 120))

    def find_cases(self, root: Path) -> list[Case]:
        """Pair volumes and segmentations by their number; the patient is the group."""
        wanted = "volume-*.nii[.gz]"
        check_root(root, wanted, FIX)
        patterns = Patterns(
            images="**/volume-{case}.*",
            masks="**/segmentation-{case}.*",
            suffixes=volumes.SUFFIXES,
            what=wanted,
            fix=FIX,
        )
        return [replace(case, id=f"volume-{case.id}") for case in patterns.find(root, self.reads).cases]

    def check_volume(self, image: NDArray[Any], geometry: Geometry, file: Path) -> None:
        """Refuse what cannot be CT; the size of the voxels is checked in any case."""
        check_voxel_size(geometry, file)
        if self.check_hu:
            check_hu(image, file)

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read labels; they must lie on the grid of the volume and hold 0, 1, 2 only."""
        mask = self.read_labels(case)
        check_mask_values(mask, range(len(self.class_names)), case.mask_file, self.class_names)
        return mask
