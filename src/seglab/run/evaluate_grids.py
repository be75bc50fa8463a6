"""Whether predicted labels of any program lie where the true ones lie, before anything is counted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from seglab.data.formats import grid, photo_labels, raster, raster_labels, volumes
from seglab.errors import ConfigError, DataError
from seglab.spec import Geometry, Kind

Grid = Literal["world", "array"]
"""world: files must lie in one place; array: pixels are compared as stored, whatever the headers say."""

MOST_APART: Mapping[Kind, float] = {"volume": 0.4, "raster": raster_labels.GRID_TOLERANCE_PX}
"""How far corners of two grids may lie apart, in pixels: float32 headers of volumes are off by less than half a one."""

Labels = NDArray[np.uint8]


def check_grid(compared: str) -> None:
    """Refuse an unknown way of comparing grids.

    Raises:
        ConfigError: names the ways.
    """
    if compared not in get_args(Grid):
        raise ConfigError(
            "there is no such way of comparing grids",
            given=f"grid={compared}",
            allowed="world: files must lie in one place; array: pixels are compared as stored, whatever headers say",
            fix="leave grid out, or set grid=array",
        )


def kind_of(file: Path) -> Kind:
    """What a label file is, by its ending."""
    if volumes.is_volume(file):
        return "volume"
    return "raster" if file.suffix.lower() in raster.SUFFIXES else "photo"


def read_labels(file: Path) -> Labels:
    """Labels (D, H, W) of a file of any kind; raises as the reader of the format does."""
    kind = kind_of(file)
    if kind == "volume":
        return volumes.read_mask(file)
    if kind == "raster":
        return raster_labels.read_mask(file, values=None)
    return grid.as_labels(photo_labels.read_values(file), file)


def read_pair(pred: Path, truth: Path, compared: Grid) -> tuple[Labels, Labels]:
    """Labels (D, H, W) of a case, each pixel of the prediction beside the one of the truth that it is compared with.

    Raises:
        DataError: files of different sizes, or as the readers of the formats do.
    """
    labels, true = read_labels(pred), read_labels(truth)
    if compared == "array" and kind_of(pred) == kind_of(truth) == "volume":
        stored = grid.to_file_order(labels, volumes.read_geometry(pred), pred)
        labels = grid.to_reading_order(stored, volumes.read_geometry(truth))
    if labels.shape != true.shape:
        raise other_grid(pred, truth, f"{labels.shape} and {true.shape}, as (D, H, W)")
    return labels, true


def check_place(pred: Path, truth: Path) -> None:
    """Refuse a prediction that lies elsewhere than its truth, by their headers.

    Volumes may differ in the order and direction of their axes, as long as each voxel lies where the same voxel of the
    truth does. Photos, and rasters beside photos, have no place.

    Raises:
        DataError: says what differs.
    """
    kind = kind_of(truth)
    if kind == "photo" or kind_of(pred) != kind:
        return
    own, true = (_geometry(file, kind) for file in (pred, truth))
    if kind == "raster" and _crs(own) != _crs(true):
        raise other_grid(pred, truth, f"CRS {_crs(own) or 'none'} and {_crs(true) or 'none'}")
    corners = [_corners(geometry) for geometry in (own, true)]
    apart = float(np.linalg.norm(corners[0] - corners[1], axis=0).max())
    if apart > MOST_APART[kind] * min(true.spacing[1:] if kind == "raster" else true.spacing):
        unit = "mm" if kind == "volume" else "units of the CRS"
        first = " and ".join(str(tuple(corner[:, 0].round(3).tolist())) for corner in corners)
        raise other_grid(pred, truth, f"corners up to {apart:.6g} {unit} apart, the first ones at {first}")


def other_grid(file: Path, truth: Path, given: str) -> DataError:
    """The error that names a file that does not lie on the grid of its truth."""
    return DataError(
        f"{file} lies on another grid than {truth.name}",
        given=given,
        allowed="files of one size in one place: numbers are those of the original grid, and nothing is resampled",
        fix="resample the labels to the grid of the truth by nearest neighbour; where sizes agree and only the header "
        "is wrong, set grid=array to compare pixel by pixel as stored",
    )


def _geometry(file: Path, kind: Kind) -> Geometry:
    if kind == "volume":
        return volumes.read_geometry(file)
    with raster.opened(file) as dataset:
        return raster.geometry_of(dataset, file, require_crs=False)


def _corners(geometry: Geometry) -> NDArray[np.float64]:
    """Where the corner pixels lie, (axes, corners), in the order in which they are read."""
    affine = np.asarray(geometry.affine)
    ends = np.stack(np.meshgrid(*((0, length - 1) for length in geometry.shape), indexing="ij"))
    if len(affine) == 2:
        ends = ends[::-1] + 0.5  # a transform takes (column, row) and begins at the edge of a pixel
    world: NDArray[np.float64] = affine[: len(ends), :-1] @ ends.reshape(len(ends), -1) + affine[: len(ends), -1:]
    if len(ends) == 2:
        return world
    return np.stack([grid.reading_view(part.reshape(2, 2, 2), geometry).reshape(-1) for part in world])


def _crs(geometry: Geometry) -> CRS | None:
    return None if geometry.crs is None else CRS.from_wkt(geometry.crs)
