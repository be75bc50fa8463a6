"""What makes data unusable, told before any training: every check raises a DataError that names the file."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seglab.data.findings import goes_on_without
from seglab.errors import DataError
from seglab.spec import IGNORE_INDEX, Geometry

AFFINE_TOLERANCE = 1e-3
"""Largest difference of two affines that still count as equal, as a share of the voxel size."""

N_SHOWN, N_MISSING_SHOWN = 5, 40
BLOCK = 1 << 20

_orientations: Any = nib.orientations  # untyped


def check_mask_values(
    mask: NDArray[np.uint8], allowed: Collection[int], file: Path, class_names: Sequence[str]
) -> None:
    """Refuse a mask that holds a value without a meaning.

    Args:
        mask: (D, H, W).
        allowed: the legal values; IGNORE_INDEX only when it is among them.
        file: the mask's file, for the message.
        class_names: index is the class, for the message.

    Raises:
        DataError: names the values and how many pixels have each.
    """
    counts = count_values(mask)
    unknown = [int(value) for value in np.flatnonzero(counts) if value not in allowed]
    if unknown:
        raise DataError(
            f"{file} holds mask values that no class has",
            given=shorten(f"{value} ({counts[value]} pixels)" for value in unknown),
            allowed=f"{sorted(allowed)}; classes: {', '.join(f'{i}={name}' for i, name in enumerate(class_names))}",
            fix="correct the mask, or declare the value in the data configuration",
        )


def count_values(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value from 0 to 255 occurs; in parts, as counting takes eight bytes for each pixel at hand."""
    flat = values.ravel()
    counts = np.zeros(256, np.int64)
    for start in range(0, flat.size, BLOCK):
        counts += np.bincount(flat[start : start + BLOCK], minlength=256)
    return counts


def check_same_size(image_shape: Sequence[int], mask_shape: Sequence[int], image_file: Path, mask_file: Path) -> None:
    """Refuse a mask of another size than its image; nothing is ever resized to fit.

    Args:
        image_shape: (C, D, H, W) or (D, H, W); the last three axes count.
        mask_shape: (D, H, W).
        image_file: for the message.
        mask_file: for the message.

    Raises:
        DataError: names both files and both sizes.
    """
    image_size, mask_size = tuple(image_shape)[-3:], tuple(mask_shape)[-3:]
    if image_size != mask_size:
        raise DataError(
            f"{mask_file} has another size than its image {image_file}",
            given=f"image {_times(image_size)}, mask {_times(mask_size)} (depth x height x width)",
            allowed="the same size",
            fix="export the mask again on the grid of the image, or take the pair out of the data set",
        )


def check_some_labels(mask: NDArray[np.uint8], image_file: Path, mask_file: Path) -> None:
    """Refuse a case that teaches nothing and scores nothing.

    Args:
        mask: (D, H, W), IGNORE_INDEX where image or mask hold no data.
        image_file: for the message.
        mask_file: for the message.

    Raises:
        DataError: no pixel has a label.
    """
    if (mask == IGNORE_INDEX).all():
        raise DataError(
            f"{image_file} has no pixel with a label",
            given=f"no data or void in all {mask.size} pixels of the image or of {mask_file}",
            allowed="at least one labelled pixel with data",
            fix="correct the nodata value of the file that is wrong, or take the pair out of the data set",
        )


def check_same_affine(image: Geometry, mask: Geometry, image_file: Path, mask_file: Path) -> None:
    """Refuse a volume mask that lies elsewhere in the patient than its image.

    The affines are compared after both files are brought to one axis order, as they are when read: a mask that is
    stored with other axes but covers the same voxels is legal.

    Args:
        image: geometry of the image, 4x4 affine.
        mask: geometry of the mask, 4x4 affine.
        image_file: for the message.
        mask_file: for the message.

    Raises:
        DataError: says whether spacing, direction or origin differ, and both values.
    """
    (image_spacing, image_axes, image_origin), (mask_spacing, mask_axes, mask_origin) = _parts(image), _parts(mask)
    voxel = float(image_spacing.min())
    parts = [
        ("spacing", image_spacing, mask_spacing, AFFINE_TOLERANCE * voxel),
        ("direction", image_axes, mask_axes, AFFINE_TOLERANCE),
        ("origin", image_origin, mask_origin, AFFINE_TOLERANCE * max(voxel, 1.0)),
    ]
    wrong = [(name, a, b) for name, a, b, limit in parts if float(np.abs(a - b).max()) > limit]
    if wrong:
        raise DataError(
            f"{mask_file} and its image {image_file} differ in {', '.join(name for name, _, _ in wrong)}",
            given="; ".join(f"{name}: image {a.round(4).tolist()}, mask {b.round(4).tolist()}" for name, a, b in wrong),
            allowed=f"the same affine within {AFFINE_TOLERANCE} of a voxel (mm, axes to right, anterior, superior)",
            fix="export the mask again from the image it was drawn on, or take the pair out of the data set",
        )


def pair_files(
    images: Sequence[Path], masks: Sequence[Path], key: Callable[[Path], str]
) -> list[tuple[str, Path, Path]]:
    """Find the mask of every image; a `going_on` block goes on with the pairs, where most files have a partner.

    Args:
        images: image files.
        masks: mask files.
        key: what an image and its mask have in common.

    Returns:
        (key, image, mask), sorted by key.

    Raises:
        DataError: two files of one key, an image without mask or a mask without image; all are counted, five named.
    """
    image_of, mask_of = _by_key(images, key), _by_key(masks, key)
    no_mask, no_image = sorted(image_of.keys() - mask_of.keys()), sorted(mask_of.keys() - image_of.keys())
    both = sorted(image_of.keys() & mask_of.keys())
    alone = [_alone(image_of[name], "mask") for name in no_mask] + [_alone(mask_of[name], "image") for name in no_image]
    if alone and not (len(alone) <= len(both) and goes_on_without(dict(alone))):  # else their names are misread
        raise DataError(
            "images and masks do not pair up",
            given=f"{len(no_mask)} images without mask ({shorten(str(image_of[name]) for name in no_mask)}), "
            f"{len(no_image)} masks without image ({shorten(str(mask_of[name]) for name in no_image)})",
            allowed="one mask for each image and one image for each mask",
            fix="add the missing files or move the lonely ones out of the folder",
        )
    return [(name, image_of[name], mask_of[name]) for name in both]


def check_root(root: Path, wanted: str, fix: str) -> None:
    """Refuse a data folder that is not there.

    Args:
        root: the folder.
        wanted: what it should hold, e.g. "volume-*.nii[.gz] and segmentation-*.nii[.gz]".
        fix: what to type.

    Raises:
        DataError: the folder is missing or is a file.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} is {'not a folder' if root.exists() else 'missing'}",
            given=f"data.root={root} (seen from {Path.cwd()})",
            allowed=f"a folder with {wanted}",
            fix=fix,
        )


def check_file(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse what cannot be a file of the wanted kind before a decoder sees it.

    Args:
        path: the file.
        suffixes: legal endings, lower case.

    Raises:
        DataError: missing, a folder, zero bytes or another ending.
    """
    if not path.is_file():
        state = "is a folder, not a file" if path.is_dir() else "does not exist"
    elif not path.name.lower().endswith(tuple(suffixes)):
        state = "has an ending that this reader does not know"
    elif path.stat().st_size == 0:
        state = "is empty (0 bytes)"
    else:
        return
    raise DataError(
        f"{path} {state}",
        given=str(path),
        allowed=f"a readable file that ends in {', '.join(suffixes)}",
        fix="fetch or export the file again, or take it out of the data set",
    )


def check_present(
    missing: Mapping[str, str], n_whole: int, named_by: str, root: Path, what: str = "is missing"
) -> None:
    """Refuse files that something names and that are not there, all of them at once.

    A `going_on` block goes on with the cases that are whole, where that is most of them.

    Args:
        missing: path of each file, or of the image that lacks one, with what tells it.
        n_whole: number of cases that lack no file.
        named_by: what names them, such as dataset.json.
        root: folder of the data.
        what: is wrong with each of them.

    Raises:
        DataError: lists them, up to a number, and says how many more there are.
    """
    allowed = f"every file that {named_by} names, below {root} (data.root)"
    fix = "add the missing files, or take the cases that need them out of the data set"
    errors = {file: DataError(f"{file} {what}", given=told, allowed=allowed, fix=fix) for file, told in missing.items()}
    if errors and not (len(errors) <= n_whole and goes_on_without(errors)):
        raise DataError(
            f"{len(missing)} {'files are' if len(missing) > 1 else 'file is'} missing",
            given=shorten(missing.values(), N_MISSING_SHOWN),
            allowed=allowed,
            fix=fix,
        )


def shorten(items: Iterable[str], n_shown: int = N_SHOWN) -> str:
    """Join the first items, usually five, with commas and say how many more there are."""
    listed = list(items)
    rest = f" and {len(listed) - n_shown} more" if len(listed) > n_shown else ""
    return ", ".join(listed[:n_shown]) + rest


def _alone(file: Path, partner: str) -> tuple[str, DataError]:
    return str(file), DataError(
        f"{file} has no {partner}",
        given=f"no {partner} of this name",
        allowed="one mask for each image and one image for each mask",
        fix="add the missing file or move the lonely one out of the folder",
    )


def _by_key(files: Sequence[Path], key: Callable[[Path], str]) -> dict[str, Path]:
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        found[key(file)].append(file)
    twice = [f"{name!r}: {', '.join(map(str, same))}" for name, same in sorted(found.items()) if len(same) > 1]
    if twice:
        raise DataError(
            f"{len(twice)} cases have more than one file",
            given=shorten(twice),
            allowed="one file per case",
            fix="remove or rename the files that stand for the same case",
        )
    return {name: same[0] for name, same in found.items()}


def _parts(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Spacing (3,), unit axes (3, 3) and origin (3,) in mm, after the axes are ordered right, anterior, superior."""
    affine = np.asarray(geometry.affine, dtype=np.float64)
    orientation = _orientations.io_orientation(affine)
    affine = affine @ _orientations.inv_ornt_aff(orientation, geometry.shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return spacing, affine[:3, :3] / spacing, affine[:3, 3]


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
