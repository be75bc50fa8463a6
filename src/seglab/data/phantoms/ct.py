"""A phantom of LiTS: abdominal CT with liver and tumours as NIfTI files, in several spacings and axis orders."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seglab.data.phantoms.ct_anatomy import draw_patient

_nib: Any = nib  # its functions carry no annotations

# Lengths without a common factor, so that spacing, slice distance and axis order do not go hand in hand.
_IN_PLANE_MM = (2.0, 1.5, 2.5, 0.9, 1.8, 2.2, 0.7)
_SLICE_MM = (3.0, 2.0, 5.0, 2.5, 4.0)
_AXIS_CODES = ("LPS", "RAS", "SPL", "LAS", "PLS", "SAR")
_N_TUMOURS = (2, 1, 3, 1, 0, 4, 1, 2)

_README = """Synthetic CT, drawn by seglab; no patient was scanned.
volume-N.nii.gz: int16 HU. segmentation-N.nii.gz: 0 background, 1 liver, 2 tumour.
The axis order differs from case to case: only the affine says where the patient's right is.
"""


def write(folder: Path, *, seed: int = 0, n_patients: int = 20) -> None:
    """Write the phantom in the layout of LiTS: ``volume-N.nii.gz`` (int16 HU) and ``segmentation-N.nii.gz`` (uint8).

    Every patient has air, fat, muscle, bones, lungs, liver, spleen, stomach, bowel and vessels; all but every eighth
    have one to four tumours, which lie wholly inside the liver. A patient depends on the seed and its number only.

    Args:
        folder: existing or new folder to write into.
        seed: the same seed gives the same arrays in every process.
        n_patients: number of volumes, at least 1.

    Raises:
        OSError: when the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    for number in range(n_patients):
        _write_patient(folder, np.random.default_rng([seed, number]), number)


def _write_patient(folder: Path, rng: np.random.Generator, number: int) -> None:
    width, height = (int(size) for size in rng.integers(112, 145, size=2))
    shape = (width, height, int(rng.integers(20, 33)))
    in_plane = _IN_PLANE_MM[number % len(_IN_PLANE_MM)]
    spacing_mm = (in_plane, in_plane, _SLICE_MM[number % len(_SLICE_MM)])
    hu, labels = draw_patient(rng, shape, spacing_mm, n_tumours=_N_TUMOURS[number % len(_N_TUMOURS)])
    affine = _ras_affine(rng, shape, spacing_mm)
    codes = _AXIS_CODES[number % len(_AXIS_CODES)]
    _save(folder / f"volume-{number}.nii.gz", hu, affine, codes)
    _save(folder / f"segmentation-{number}.nii.gz", labels, affine, codes)


def _ras_affine(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    affine = np.diag([*spacing_mm, 1.0])
    centre_mm = rng.uniform((-20.0, -20.0, -400.0), (20.0, 20.0, 100.0))
    affine[:3, 3] = np.round(centre_mm - np.array(spacing_mm) * (np.array(shape) - 1) / 2, 2)
    return affine


def _save(file: Path, array: NDArray[np.generic], ras_affine: NDArray[np.float64], codes: str) -> None:
    turn = _nib.orientations.ornt_transform(
        _nib.orientations.axcodes2ornt("RAS"), _nib.orientations.axcodes2ornt(codes)
    )
    image = _nib.Nifti1Image(array, ras_affine).as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    _nib.save(image, file)
