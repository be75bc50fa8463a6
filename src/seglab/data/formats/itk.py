"""NRRD and MetaImage (MHA) volumes by SimpleITK; the bytes of the voxels are counted and unpacked here first.

SimpleITK fills what a cut compressed file lacks with zeros for some formats and says nothing of a wrong checksum, so a
file is handed to it only after its whole payload has been seen. Only files that hold their voxels themselves are read:
a header that points to other files could point anywhere.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import grid
from seglab.data.integrity import check_file
from seglab.errors import DataError
from seglab.extras import load
from seglab.files import atomic_path
from seglab.spec import Geometry

SUFFIXES = (".mha", ".nrrd")
_MAX_HEADER = 1 << 16
_CHUNK = 1 << 20


def read_volume(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read a 3-D volume.

    Args:
        path: .mha or .nrrd with the voxels inside.

    Returns:
        image: (1, D, H, W) in reading order; int16 when every value is an integer in its range, else float32.
        geometry: shape and affine (RAS) of the file, spacing of the array.

    Raises:
        DataError: broken or cut file, not 3-D, several values per voxel, NaN or infinite voxels, impossible geometry.
        ConfigError: SimpleITK is not installed.
    """
    stored, geometry = _load(path)
    return grid.to_reading_order(grid.native(stored), geometry)[None], geometry


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a label volume: (D, H, W) in the reading order of `read_volume`.

    Raises:
        DataError: as `read_volume`, and values that are no integers from 0 to 255.
    """
    stored, geometry = _load(path)
    return grid.to_reading_order(grid.as_labels(stored, path), geometry)


def read_geometry(path: Path) -> Geometry:
    """Read only the header.

    Raises:
        DataError: no such file, not 3-D, or impossible geometry.
    """
    return _described(_header(path), path)


def write_labels(labels: NDArray[np.uint8], like: Path, target: Path) -> None:
    """Write labels onto the grid of the file they were predicted from, compressed, in one piece.

    Args:
        labels: (D, H, W) in reading order.
        like: the image that was read.
        target: .mha or .nrrd.

    Raises:
        DataError: labels of another size, or a target with another ending.
        OSError: when the target cannot be written; no file is left under its name.
    """
    sitk = _sitk()
    reader = _header(like)
    stored = grid.to_file_order(labels, _described(reader, like), like)
    if not target.name.endswith(SUFFIXES):
        raise DataError(
            f"labels cannot be written to {target}",
            given=target.name,
            allowed=f"a target that ends in {' or '.join(SUFFIXES)}",
            fix="choose such a name",
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.transpose(2, 1, 0)))
    for part in ("Spacing", "Origin", "Direction"):
        getattr(image, f"Set{part}")(getattr(reader, f"Get{part}")())
    with atomic_path(target) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), True)
        except RuntimeError as error:
            raise OSError(f"{target}: {_last_line(error)}") from error


def _sitk() -> Any:
    return load("SimpleITK", "volumes", "reading NRRD and MHA")


def _load(path: Path) -> tuple[NDArray[Any], Geometry]:
    reader = _header(path)
    geometry = _described(reader, path)
    n_bytes = int(np.prod(geometry.shape, dtype=object)) * _voxel_type(reader, path).itemsize
    try:
        _check_payload(path, n_bytes)
        stored = _sitk().GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        raise _broken(path, error) from error
    grid.check_finite(stored, path)
    return stored, geometry


def _header(path: Path) -> Any:
    """A reader that knows the header."""
    check_file(path, SUFFIXES)
    sitk = _sitk()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what it writes to the screen is in the error too
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() == ".mha" else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        _split(path)
        reader.ReadImageInformation()
    except (OSError, ValueError, RuntimeError) as error:
        raise _broken(path, error) from error
    return reader


def _described(reader: Any, path: Path) -> Geometry:
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        given = f"{reader.GetDimension()} axes, {reader.GetNumberOfComponents()} values for each voxel"
        grid.refuse(path, "is no volume that can be used", given, "3 axes, one value for each voxel")
    _voxel_type(reader, path)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * np.asarray(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    return grid.geometry_of(reader.GetSize(), grid.LPS_TO_RAS @ affine, path)


def _voxel_type(reader: Any, path: Path) -> np.dtype[Any]:
    names = {"8-bit": 1, "16-bit": 2, "32-bit": 4, "64-bit": 8}
    text = _sitk().GetPixelIDValueAsString(reader.GetPixelID())
    size = names.get(text.split()[0]) if "complex" not in text and "vector" not in text else None
    if size is None:
        grid.refuse(path, "has no plain numbers as voxels", text, "integers or floats, one per voxel")
    return np.dtype(f"V{size}")


def _check_payload(path: Path, n_bytes: int) -> None:
    """See that exactly as many bytes follow the header as it announces, and that a compressed stream is whole."""
    fields, start = _split(path)
    packed = fields.get("encoding", "gzip" if fields.get("compresseddata", "").lower() == "true" else "raw")
    with path.open("rb") as stream:
        stream.seek(start)
        if packed == "raw":
            found = path.stat().st_size - start
        elif packed in ("gzip", "gz"):
            found = _unpacked(stream, n_bytes)
        else:
            raise ValueError(f"voxels are stored as {packed}, not raw or gzip")
    if found != n_bytes:
        raise EOFError(f"the header announces {n_bytes} bytes of voxels, the file holds {found}")


def _unpacked(stream: Any, limit: int) -> int:
    """Length of a zlib or gzip stream, whose checksum is compared; it ends soon after `limit`."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    found = 0
    while not unpacker.eof and found <= limit:
        chunk = unpacker.unconsumed_tail or stream.read(_CHUNK)
        if not chunk:
            raise EOFError("the compressed voxels end too early")
        found += len(unpacker.decompress(chunk, _CHUNK))
    return found


def _split(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the text before the voxels, keys in lower case, and where the voxels start."""
    with path.open("rb") as stream:
        head = stream.read(_MAX_HEADER)
    is_nrrd = path.suffix.lower() == ".nrrd"
    lines, start = [], 0
    while (end := head.find(b"\n", start)) >= 0:
        line = head[start:end].decode("latin-1").strip()
        start = end + 1
        lines.append(line)
        if not line or line.lower().startswith("elementdatafile"):
            break
    else:
        raise ValueError("no end of the header in its first 64 KiB")
    pairs = [line.partition(":" if is_nrrd else "=") for line in lines]
    fields = {key.strip().lower(): value.strip().removeprefix("=").strip() for key, _, value in pairs}
    outside = {"data file", "datafile"} & fields.keys() if is_nrrd else fields.get("elementdatafile") != "LOCAL"
    if outside or (is_nrrd and not lines[0].startswith("NRRD")):
        raise ValueError("the voxels are not in the file itself" if outside else "it does not start with NRRD")
    return fields, start


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as {path.suffix[1:].upper()}",
        given=f"{type(error).__name__}: {_last_line(error)}",
        allowed="a complete MHA or NRRD volume that holds its voxels itself, raw or gzipped",
        fix="fetch or export the file again, or take it out of the data set",
    )


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2].strip()
