import gzip
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from seglab.data.formats import itk, nifti
from seglab.data.integrity import check_same_affine
from seglab.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SPACING = (0.7, 0.8, 2.5)  # towards left, posterior, superior
AXIS_CODES = [
    tuple(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("LR", "PA", "SI"))
    for sides in itertools.product((0, 1), repeat=3)
]


def lps_volume() -> np.ndarray:
    """Voxels (x to left, y to posterior, z to superior) that have no symmetry."""
    return np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) ** 2 - 700


def stored_as(codes: tuple[str, ...], path: Path, *, packed: bool = True, kind: type = np.int16) -> Path:
    """The volume, slightly oblique, with other axes, as ITK orients it."""
    image = sitk.GetImageFromArray(lps_volume().transpose(2, 1, 0).astype(kind))
    image.SetSpacing(SPACING)
    image.SetOrigin((-11.1, 22.2, 33.3))
    angle = 0.1
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    names = [("LRPASI").index(code) for code in codes]
    order, sides = [name // 2 for name in names], [name % 2 == 1 for name in names]
    image = sitk.Flip(sitk.PermuteAxes(image, order), sides)
    sitk.WriteImage(image, str(path), packed)
    return path


@pytest.mark.parametrize("suffix", itk.SUFFIXES)
@pytest.mark.parametrize("codes", AXIS_CODES, ids="".join)
def test_every_axis_order_reads_alike_and_labels_return_to_the_files_own_grid(
    codes: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    like = stored_as(codes, tmp_path / f"image{suffix}")
    image, geometry = itk.read_volume(like)
    expected = lps_volume().transpose(2, 1, 0)  # the reading order is LPS with axes (z, y, x)
    assert image.dtype == np.int16 and np.array_equal(image[0], expected)
    assert geometry.spacing == pytest.approx(SPACING[::-1], rel=1e-12)
    labels = (expected % 7).astype(np.uint8)
    itk.write_labels(labels, like, tmp_path / f"labels{suffix}")
    source, written = (sitk.ReadImage(str(file)) for file in (like, tmp_path / f"labels{suffix}"))
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(source) % 7)
    assert written.GetPixelID() == sitk.sitkUInt8
    for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, part)() == pytest.approx(getattr(source, part)(), rel=1e-14, abs=1e-14), part
    assert np.array_equal(itk.read_mask(tmp_path / f"labels{suffix}"), labels)


def test_the_same_volume_as_nifti_has_the_same_voxels_and_affine(tmp_path: Path) -> None:
    path = stored_as(("P", "I", "R"), tmp_path / "a.mha")
    sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "a.nii.gz"))
    (mine, place), (other, other_place) = itk.read_volume(path), nifti.read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(mine, other) and mine.shape == other.shape
    check_same_affine(place, other_place, path, tmp_path / "a.nii.gz")
    nifti.write_new(np.ones(mine.shape[1:], np.uint8), itk.read_geometry(path), tmp_path / "labels.nii.gz")
    check_same_affine(nifti.read_geometry(tmp_path / "labels.nii.gz"), place, tmp_path, path)


@pytest.mark.skipif(not (SHARED / "orientation").is_dir(), reason="shared/data/orientation is missing")
@pytest.mark.parametrize("suffix", itk.SUFFIXES)
def test_a_real_ct_reads_like_its_nifti(suffix: str, tmp_path: Path) -> None:
    source = SHARED / "orientation/example_ct_sm.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(source)), str(tmp_path / f"a{suffix}"), True)
    (mine, place), (other, other_place) = itk.read_volume(tmp_path / f"a{suffix}"), nifti.read_volume(source)
    assert np.array_equal(mine, other)
    check_same_affine(place, other_place, tmp_path, source)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", itk.SUFFIXES)
def test_a_cut_file_is_refused(suffix: str, packed: bool, share: float, tmp_path: Path) -> None:
    path = stored_as(("L", "P", "S"), tmp_path / f"image{suffix}", packed=packed)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=rf"image{suffix} cannot be read"):
        itk.read_volume(path)


@pytest.mark.parametrize("suffix", itk.SUFFIXES)
def test_a_changed_byte_in_compressed_voxels_and_bytes_too_many_are_refused(suffix: str, tmp_path: Path) -> None:
    path = stored_as(("L", "P", "S"), tmp_path / f"image{suffix}")
    whole = bytearray(path.read_bytes())
    whole[-20] ^= 4
    path.write_bytes(whole)
    with pytest.raises(DataError, match="cannot be read"):
        itk.read_volume(path)
    stored_as(("L", "P", "S"), path, packed=False)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match="announces 120 bytes of voxels, the file holds 124"):
        itk.read_volume(path)


def test_a_bomb_ends_at_the_announced_size(tmp_path: Path) -> None:
    path = stored_as(("L", "P", "S"), tmp_path / "image.nrrd")
    head = path.read_bytes().partition(b"\n\n")[0]
    path.write_bytes(head + b"\n\n" + gzip.compress(bytes(200 << 20), 1))
    with pytest.raises(DataError, match="announces 120 bytes of voxels, the file holds 1048576"):
        itk.read_volume(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mha", b"", "empty"),
        ("a.nrrd", b"<html>\n\n404</html>", "does not start with NRRD"),
        ("a.mha", b"<html>404</html>", "no end of the header"),
        ("a.mha", b"NDims = 3\nDimSize = 1 1 1\nElementDataFile = /etc/passwd\n", "not in the file itself"),
        ("a.nrrd", b"NRRD0004\ntype: short\ndata file: ../x.raw\n\n", "not in the file itself"),
        ("a.mhd", b"NDims = 3", "ending"),
    ],
)
def test_what_is_no_volume_and_what_points_elsewhere_is_refused(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        itk.read_volume(tmp_path / name)


@pytest.mark.parametrize("suffix", itk.SUFFIXES)
def test_headers_that_mean_no_volume_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.Image([4, 4], sitk.sitkInt16), str(path))
    with pytest.raises(DataError, match="2 axes"):
        itk.read_volume(path)
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), str(path))
    with pytest.raises(DataError, match="3 values for each voxel"):
        itk.read_volume(path)
    stored_as(("L", "P", "S"), path, kind=np.float32, packed=False)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(DataError, match="1 of 60 voxels are NaN"):
        itk.read_volume(path)
    path.write_bytes(content.replace(b" 3 4 5", b" 30000 30000 300"))
    with pytest.raises(DataError, match=r"at most 2000000000 voxels|cannot be read"):
        itk.read_volume(path)


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    like = stored_as(("L", "P", "S"), tmp_path / "image.mha")
    with pytest.raises(DataError, match="on the grid of"):
        itk.write_labels(np.zeros((3, 4, 5), np.uint8), like, tmp_path / "labels.mha")
    with pytest.raises(DataError, match="ends in"):
        itk.write_labels(np.zeros((5, 4, 3), np.uint8), like, tmp_path / "labels.mhd")
    assert [file.name for file in tmp_path.iterdir()] == ["image.mha"]


def test_without_simpleitk_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored_as(("L", "P", "S"), tmp_path / "image.mha")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ConfigError, match=r"reading NRRD and MHA needs SimpleITK[\s\S]*seglab\[volumes\]"):
        itk.read_volume(path)
