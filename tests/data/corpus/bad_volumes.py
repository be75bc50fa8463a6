"""Volumes that must be refused or repaired: a small oblique CT with liver and tumour, and its spoilers."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from entry import HTML, Bad, Change, Odd, cut, flips, holds, is_folder, is_link, lacks

CT, MASK = "volume-1.nii.gz", "segmentation-1.nii.gz"
SHAPE = (18, 16, 7)
AFFINE = np.array([[-0.8, 0.01, 0, 60.0], [0.01, 0.8, 0, -70.0], [0, 0, 2.5, 30.0], [0, 0, 0, 1]])


def voxels() -> tuple[np.ndarray, np.ndarray]:
    """A body of water in air with a liver and a tumour in it."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:12, 4:10, 2:6], mask[7:9, 5:7, 3:5] = 1, 2
    hu = np.random.default_rng(0).normal(-1000, 10, SHAPE)
    hu[2:15, 2:13] += 1000
    return np.rint(hu + 60 * mask).astype(np.int16), mask


def save(root: Path, name: str, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write one NIfTI file with equal qform and sform, in mm."""
    image = nib.Nifti1Image(array, None)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, root / name)


def ct(root: Path) -> None:
    """The good twin."""
    volume, mask = voxels()
    save(root, CT, volume)
    save(root, MASK, mask)


def ct_unzipped(root: Path) -> None:
    """The good twin without compression."""
    volume, mask = voxels()
    save(root, "volume-1.nii", volume)
    save(root, "segmentation-1.nii", mask)


def volume(change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE) -> Change:
    """Write another CT."""
    return lambda root: save(root, CT, change(voxels()[0]), affine)


def mask(change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE) -> Change:
    """Write another mask."""
    return lambda root: save(root, MASK, change(voxels()[1]), affine)


def header(change: Callable[[Any], None], name: str = CT) -> Change:
    """Change fields of a header behind the writer's back."""

    def spoil(root: Path) -> None:
        content = gzip.decompress((root / name).read_bytes())
        fields = nib.Nifti1Header(content[:348], check=False)
        change(fields)
        (root / name).write_bytes(gzip.compress(fields.binaryblock + content[348:]))

    return spoil


def put(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    """The array with one other value."""
    array[place] = value
    return array


def moved(offset: float) -> np.ndarray:
    """The affine, shifted along the body."""
    affine = AFFINE.copy()
    affine[2, 3] += offset
    return affine


def set_form(rows: dict[str, list[float]]) -> Callable[[Any], None]:
    """Overwrite rows of the sform and leave out the qform."""

    def change(fields: Any) -> None:
        fields["qform_code"] = 0
        for name, row in rows.items():
            fields[name] = row

    return change


def claims(*shape: int) -> Callable[[Any], None]:
    """Announce another shape."""
    return lambda fields: fields.__setitem__("dim", [len(shape), *shape, *[1] * (7 - len(shape))])


def unzipped_by_content(root: Path) -> None:
    """Keep the name, drop the compression."""
    (root / CT).write_bytes(gzip.decompress((root / CT).read_bytes()))


def link_to_text(root: Path) -> None:
    """Link the name of a volume to a web page."""
    (root / "page").write_bytes(HTML)
    is_link(CT, "page")(root)


def bomb(root: Path) -> None:
    """Hide 64 MB of zeros behind the voxels."""
    content = gzip.decompress((root / CT).read_bytes())
    (root / CT).write_bytes(gzip.compress(content + bytes(64 << 20), 6))


def two_of_one_number(root: Path) -> None:
    """Add the same volume without compression."""
    save(root, "volume-1.nii", voxels()[0])


def exchanged(root: Path) -> None:
    """Give the volume the name of the mask, and the mask that of the volume."""
    (root / CT).rename(root / "other")
    (root / MASK).rename(root / CT)
    (root / "other").rename(root / MASK)


def metres(root: Path) -> None:
    """Measure both files in metres, and say so."""
    for name, array in zip((CT, MASK), voxels(), strict=True):
        image = nib.Nifti1Image(array, np.diag([0.001, 0.001, 0.001, 1]) @ AFFINE)
        image.header.set_xyzt_units("meter", "sec")
        nib.save(image, root / name)


def unsaid_metres(root: Path) -> None:
    """Measure both files in metres without saying so."""
    for name, array in zip((CT, MASK), voxels(), strict=True):
        save(root, name, array, np.diag([0.001, 0.001, 0.001, 1]) @ AFFINE)


def colours(root: Path) -> None:
    """Write RGB voxels."""
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, kind), AFFINE), root / CT)


def both(change: Callable[[np.ndarray, np.ndarray], Any]) -> Change:
    """Write volume and mask through another image class or another grid."""

    def spoil(root: Path) -> None:
        for name, array in zip((CT, MASK), voxels(), strict=True):
            nib.save(change(array, AFFINE), root / name)

    return spoil


def scaled(root: Path) -> None:
    """Store the volume with slope and intercept."""
    image = nib.Nifti1Image((voxels()[0] + 1024).astype(np.int16), AFFINE)
    image.header.set_slope_inter(1, -1024)
    nib.save(image, root / CT)


def turned(root: Path) -> None:
    """Store the mask with other axes than the volume."""
    image = nib.Nifti1Image(voxels()[1], AFFINE)
    codes = nib.orientations.axcodes2ornt("SLP")
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(AFFINE), codes)), root / MASK)


def big_endian(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """The array as a big-endian file."""
    return nib.Nifti1Image(array.astype(array.dtype.newbyteorder(">")), affine, nib.Nifti1Header(endianness=">"))


VOLUMES = [
    Bad("gz cut to 99 %", ct, cut(CT, 0.99), CT, "EOFError"),
    Bad("gz cut to 50 %", ct, cut(CT, 0.5), CT, "EOFError"),
    Bad("gz cut to 10 %", ct, cut(CT, 0.1), CT, "cannot be read"),
    Bad("nii cut to 99 %", ct_unzipped, cut("volume-1.nii", 0.99), "volume-1.nii", "Expected 4032 bytes"),
    Bad("nii cut within its header", ct_unzipped, cut("volume-1.nii", 0.05), "volume-1.nii", "cannot be read"),
    Bad("mask cut", ct, cut(MASK, 0.8), MASK, "cannot be read"),
    Bad("byte flipped in gz", ct, flips(CT, 0.5), CT, "cannot be read"),
    Bad("checksum of gz gone", ct, cut(CT, 0.998), CT, "cannot be read"),
    Bad("zero bytes", ct, holds(CT, b""), CT, r"empty \(0 bytes\)"),
    Bad("web page under the name of a volume", ct, holds(CT, HTML), CT, "cannot be read"),
    Bad("folder under the name of a volume", ct, is_folder(CT), CT, "folder, not a file"),
    Bad("link to nowhere", ct, is_link(CT, "gone"), CT, "does not exist"),
    Bad("link to a text", ct, link_to_text, CT, "cannot be"),
    Bad("gz by name only", ct, unzipped_by_content, CT, "gzipped"),
    Bad("header only", ct, header(lambda fields: fields.__setitem__("vox_offset", 1 << 20)), CT, "cannot be read"),
    Bad("no magic number", ct, header(lambda f: f.__setitem__("magic", b"xyz")), CT, "cannot be read"),
    Bad("NaN voxel", ct, volume(lambda a: put(a.astype("f4"), (3, 3, 3), np.nan)), CT, "1 of 2016 voxels are NaN"),
    Bad("infinite voxel", ct, volume(lambda a: put(a.astype("f4"), (3, 3, 3), np.inf)), CT, "NaN or infinite"),
    Bad("affine all zero", ct, header(set_form({f"srow_{x}": [0] * 4 for x in "xyz"})), CT, "impossible affine"),
    Bad("affine with NaN", ct, header(set_form({"srow_x": [np.nan, 0, 0, 0]})), CT, "impossible affine"),
    Bad("affine in one plane", ct, header(set_form({"srow_z": [-0.8, 0.01, 0, 60]})), CT, "affine"),
    Bad("qform and sform disagree", ct, header(lambda f: f.__setitem__("qoffset_z", 90)), CT, "disagree"),
    Bad("four axes", ct, volume(lambda a: np.stack([a, a], -1)), CT, "3 axes"),
    Bad("two axes", ct, volume(lambda a: a[:, :, 3]), CT, "3 axes"),
    Bad("axis of length 0", ct, header(claims(18, 0, 7)), CT, "no volume|cannot be read"),
    Bad("negative axis", ct, header(claims(18, -16, 7)), CT, "no volume|cannot be read"),
    Bad("claims 270 billion voxels", ct, header(claims(30000, 30000, 300)), CT, "at most 2000000000 voxels"),
    Bad("claims a thousand times its bytes", ct, header(claims(1000, 1000, 700)), CT, "header claims"),
    Bad("bomb behind the voxels", ct, bomb, CT, "goes on far behind"),
    Bad("complex voxels", ct, volume(lambda a: a.astype("c8")), CT, "complex64"),
    Bad("RGB voxels", ct, colours, CT, "no plain numbers"),
    Bad("measured in metres", ct, metres, CT, "unit meter"),
    Bad("unit of an unknown code", ct, header(lambda f: f.__setitem__("xyzt_units", 6)), CT, "unknown code 6"),
    Bad("measured in metres in secret", ct, unsaid_metres, CT, "size that no CT has"),
    Bad("rescale intercept lost", ct, volume(lambda a: a + 1024), CT, "Hounsfield"),
    Bad("intercept lost, padding kept", ct, volume(lambda a: put(a + 1100, (0,), -2000)), CT, "Hounsfield"),
    Bad("windowed to 8 bits", ct, volume(lambda a: np.clip(a / 4 + 128, 0, 255).astype("u1")), CT, "Hounsfield"),
    Bad("blank volume", ct, volume(lambda a: np.full_like(a, -1000)), CT, "Hounsfield"),
    Bad("volume and mask exchanged", ct, exchanged, MASK, "is no mask"),
    Bad("mask one slice short", ct, mask(lambda a: a[:, :, :-1]), MASK, "another size"),
    Bad("mask transposed", ct, mask(lambda a: a.transpose(1, 0, 2)), MASK, "differ in|another size"),
    Bad("mask with identity affine", ct, mask(lambda a: a, np.eye(4)), MASK, "differ in spacing"),
    Bad("mask mirrored by its affine", ct, mask(lambda a: a, AFFINE @ np.diag([-1, 1, 1, 1])), MASK, "differ in"),
    Bad("mask 50 mm away", ct, mask(lambda a: a, moved(50)), MASK, "differ in origin"),
    Bad("mask in 0 and 255", ct, mask(lambda a: (a > 0) * np.uint8(255)), MASK, r"255 \(\d+ pixels\)"),
    Bad("mask with a fourth class", ct, mask(lambda a: put(a, (0, 0, 0), 3)), MASK, r"3 \(1 pixels\)"),
    Bad("interpolated mask", ct, mask(lambda a: a * np.float32(0.9999)), MASK, "no mask"),
    Bad("mask below zero", ct, mask(lambda a: put(a.astype("i2"), (0, 0, 0), -1)), MASK, "such as -1"),
    Bad("mask with NaN", ct, mask(lambda a: put(a.astype("f4"), (0, 0, 0), np.nan)), MASK, "NaN"),
    Bad("mask missing", ct, lacks(MASK), CT, "1 images without mask"),
    Bad("volume missing", ct, lacks(CT), MASK, "no volume|without image"),
    Bad("two files of one number", ct, two_of_one_number, "volume-1.nii", "more than one file"),
    Odd("mask with other axes", ct, turned),
    Odd("slope and intercept", ct, scaled),
    Odd("mask of floats", ct, mask(lambda a: a.astype("f4"))),
    Odd("trailing axis of length 1", ct, volume(lambda a: a[..., None])),
    Odd("NIfTI-2", ct, both(nib.Nifti2Image)),
    Odd("big-endian", ct, both(big_endian)),
]
"""Each with what the report must say."""
