"""Rasters: how GeoTIFF and pictures with their masks are read and written, and a data set of anybody's rasters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.classes import BINARY
from seglab.data.formats import array_bands, photo, photo_labels, raster, raster_labels
from seglab.data.listed import OwnData
from seglab.data.module import SegmentationData
from seglab.data.phantoms import scenes
from seglab.spec import IGNORE_INDEX, Case, DataSpec

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(kw_only=True, eq=False, repr=False)
class RasterData(SegmentationData):
    """Rasters: GeoTIFF of any band count with nodata, or pictures.

    Args:
        require_crs: refuse a GeoTIFF without coordinate reference system.
        block_px: about the side of the blocks that each scene is cut into, which are split instead of the scenes; None
            keeps scenes whole.
        buffer_px: width of the strip of training blocks, beside blocks of other splits, that is not trained on.
    """

    require_crs: bool = True
    block_px: int | None = None
    buffer_px: int = 64

    kind = "raster"
    suffixes: ClassVar[tuple[str, ...]] = (*raster.SUFFIXES, *PICTURES)

    @property
    def settings(self) -> dict[str, Any]:
        """Includes what is refused."""
        return {**super().settings, "require_crs": self.require_crs}

    @property
    def block_and_buffer_px(self) -> tuple[int, int] | None:
        """As configured."""
        return None if self.block_px is None else (self.block_px, self.buffer_px)

    def write_phantom(self, folder: Path) -> None:
        """Four-band GeoTIFF scenes with fields, water, buildings, roads and nodata."""
        scenes.write(folder)

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a GeoTIFF or a picture: (C, 1, H, W); nodata pixels are set to 0."""
        if not is_geotiff(file):
            image = photo.read_photo(file)
            return image, np.ones(image.shape[1:], bool), (1.0, 1.0, 1.0)
        image, valid, geometry = raster.read_raster(file, require_crs=self.require_crs)
        return np.where(valid, image, np.zeros((), image.dtype)), valid, geometry.spacing

    def check_same_place(self, first: Path, other: Path) -> None:
        """Refuse files of one case on different grids."""
        if is_geotiff(first) and is_geotiff(other):
            raster_labels.check_same_grid(first, other)

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write a GeoTIFF on the grid of a GeoTIFF, a PNG for a picture."""
        values, colors = spec.mask_values, spec.class_colors
        if is_geotiff(like):
            target = target_stem.with_name(f"{target_stem.name}.tif")
            free = next(value for value in range(IGNORE_INDEX, -1, -1) if value not in values)
            raster_labels.write_labels(labels, like, target, mask_values=values, nodata=free, colors=colors)
            return target
        target = target_stem.with_name(f"{target_stem.name}.png")
        photo_labels.write_labels(labels, target, mask_values=values, colors=colors)
        return target


@dataclass(kw_only=True, eq=False, repr=False)
class RastersData(OwnData, RasterData):
    """Anybody's rasters: GeoTIFF of any band count, NumPy files or pictures, with masks of class values or colours.

    GeoTIFF masks hold values in one band and lie on the grid of their image; their nodata is ignored. Pictures hold
    values, or colours where the classes are declared by colour. Several files of one case are joined as bands.
    """

    dataset: ClassVar[str] = "rasters"
    suffixes = (*RasterData.suffixes, *array_bands.SUFFIXES)

    def read_image(self, file: Path) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
        """Read a GeoTIFF, a NumPy file or a picture: (C, 1, H, W); pixels without data are set to 0."""
        if array_bands.is_array(file):
            return *array_bands.read_bands(file), (1.0, 1.0, 1.0)
        return super().read_image(file)

    def write_labels(self, labels: NDArray[np.uint8], like: Path, target_stem: Path, spec: DataSpec) -> Path:
        """Write a .npz for a NumPy file, else as other rasters."""
        if not array_bands.is_array(like):
            return super().write_labels(labels, like, target_stem, spec)
        target = target_stem.with_name(f"{target_stem.name}.npz")
        array_bands.write_labels(labels, target, mask_values=spec.mask_values)
        return target

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read values or colours by the declared classes; nodata of image and mask is ignored."""
        file = case.mask_file
        if array_bands.is_array(file):
            return self.file_coding.indices(array_bands.read_values(file), file)
        if self.file_coding.in_colors:
            return photo_labels.read_color_mask(file, self.file_coding.table)
        if not is_geotiff(file):
            return self.file_coding.indices(photo_labels.read_values(file), file)
        if is_geotiff(case.image_file):
            raster_labels.check_same_grid(case.image_file, file)
        is_declared = self.file_coding.values is not BINARY.values  # else 255 may be nodata as well as foreground
        declared = frozenset[int]().union(*self.file_coding.values) if is_declared else frozenset[int]()
        if isinstance(self.masks, dict):  # nodata = 0 would take away what the files of other classes say
            declared = frozenset((0, 1))
        stored, valid = raster_labels.read_values(file, declared)
        classes = self.file_coding.indices(np.where(valid, stored, self.file_coding.own[0]), file)
        return np.where(valid, classes, np.uint8(IGNORE_INDEX))


def is_geotiff(file: Path) -> bool:
    """Whether a file is named like a GeoTIFF."""
    return file.suffix.lower() in raster.SUFFIXES
