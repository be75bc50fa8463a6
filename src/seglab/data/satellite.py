"""Satellite and aerial rasters: GeoTIFF with CRS and nodata, or pictures with colour-coded masks; split by scene."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.classes import parse_color
from seglab.data.formats import photo_labels, raster_labels
from seglab.data.integrity import check_mask_values, check_root, pair_files
from seglab.data.listing import slug
from seglab.data.phantoms import scenes
from seglab.data.rasters import PICTURES, RasterData, is_geotiff
from seglab.errors import ConfigError, DataError
from seglab.spec import IGNORE_INDEX, Case

FIX = "set data.root=<folder with images/ and masks/>, or train on a phantom: data.root=phantom"
PALETTE = (*scenes.CLASS_COLORS, (150, 80, 200), (240, 220, 60), (0, 190, 190), (250, 150, 180), (255, 255, 255))


@dataclass(kw_only=True, eq=False, repr=False)
class SatelliteData(RasterData):
    """Satellite and aerial rasters: GeoTIFF of any band count, or pictures with colour-coded masks; split by scene.

    Finds images/ and masks/ with files of the same names, once or in one folder per scene. GeoTIFF masks of one band
    hold class numbers; PNG masks hold colours, as RGB or as a palette. Nodata counts in no loss and no metric.

    Args:
        index_classes: classes of masks that hold numbers; the place is the number.
        color_classes: classes of masks that hold colours: name to RRGGBB, in class order; empty when PNG masks hold
            numbers too.
        void_colors: colours that are ignored.
        has_background: class 0 is background and stays out of means.

    Raises:
        ConfigError: a colour that is not RRGGBB or stands for two things.
        DataError: masks of both kinds in one folder.
    """

    index_classes: list[str] = field(default_factory=lambda: list(scenes.CLASS_NAMES))
    color_classes: dict[str, str] = field(default_factory=dict)
    void_colors: list[str] = field(default_factory=list)
    has_background: bool = False

    dataset: ClassVar[str] = "satellite"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_colors = False
        self._colors = {parse_color(text): index for index, text in enumerate(self.color_classes.values())}
        self._voids = {parse_color(text): IGNORE_INDEX for text in self.void_colors}
        if len(self._colors | self._voids) < len(self.color_classes) + len(self._voids):
            raise ConfigError(
                "two classes, or a class and void, have the same colour",
                given=f"data.color_classes={self.color_classes}, data.void_colors={self.void_colors}",
                allowed="one colour for each class, and others for void",
                fix="give each class a colour of its own",
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the kind of masks that was found."""
        return tuple(self.color_classes) if self._in_colors else tuple(self.index_classes)

    @property
    def class_colors(self) -> tuple[tuple[int, int, int], ...]:
        """The colours of the masks, or of the phantom for class numbers."""
        if self._in_colors:
            return tuple(self._colors)
        return tuple(PALETTE[index % len(PALETTE)] for index in range(len(self.index_classes)))

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the colour table and what is refused."""
        colors = [*self._colors.items(), *self._voids.items()] if self._in_colors else None
        return {**super().settings, "colors": colors}

    def find_cases(self, root: Path) -> list[Case]:
        """Pair images and masks by name; the scene is the folder when there are several, else the file."""
        check_root(root, "images/ and masks/", FIX)
        folders = [folder for folder in sorted(root.rglob("images")) if folder.with_name("masks").is_dir()]
        cases = [case for folder in folders for case in self._cases_in(folder, root, alone=len(folders) == 1)]
        if not cases:
            raise DataError(
                f"no images/ beside masks/ with rasters under {root} (data.root)",
                given=", ".join(sorted(file.name for file in root.iterdir())[:5]) or "an empty folder",
                allowed=f"images/ and masks/ with files of the same names, ending in {', '.join(self.suffixes)}",
                fix=FIX,
            )
        kinds = {case.mask_file.suffix.lower() in PICTURES and bool(self.color_classes) for case in cases}
        if len(kinds) > 1:
            raise DataError(
                "masks with class numbers and masks with colours lie in one data set",
                given=", ".join(sorted({case.mask_file.suffix for case in cases})),
                allowed="GeoTIFF masks with class numbers, or pictures with colours",
                fix="convert one kind, or set data.color_classes={} when the pictures hold class numbers",
            )
        self._in_colors = kinds.pop()
        return cases

    def read_mask(self, case: Case) -> NDArray[np.uint8]:
        """Read class numbers or colours; nodata of image and mask is ignored."""
        if self._in_colors:
            return photo_labels.read_color_mask(case.mask_file, self._colors | self._voids)
        if is_geotiff(case.mask_file):
            raster_labels.check_same_grid(case.image_file, case.mask_file)
            mask = raster_labels.read_mask(case.mask_file, values=None)
        else:
            mask = photo_labels.read_index_mask(case.mask_file)
        check_mask_values(mask, (*range(len(self.class_names)), IGNORE_INDEX), case.mask_file, self.class_names)
        return mask

    def _cases_in(self, folder: Path, root: Path, *, alone: bool) -> list[Case]:
        images, masks = (self._rasters(part) for part in (folder, folder.with_name("masks")))
        scene = folder.parent.relative_to(root).as_posix()
        pairs = pair_files(images, masks, key=lambda file: file.stem)
        if alone:
            return [Case(slug(stem), image, mask, group=stem) for stem, image, mask in pairs]
        return [Case(slug(f"{scene}-{stem}"), image, mask, group=scene) for stem, image, mask in pairs]

    def _rasters(self, folder: Path) -> list[Path]:
        files = (file for file in folder.iterdir() if not file.name.startswith("."))
        return sorted(file for file in files if file.name.lower().endswith(self.suffixes))
