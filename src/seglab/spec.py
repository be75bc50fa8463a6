"""What data, networks, tasks and runs tell each other about a data set. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

IGNORE_INDEX = 255
"""Mask value of pixels that count in no loss and no metric (nodata, void, padding)."""

Kind = Literal["volume", "photo", "raster"]


@dataclass(frozen=True)
class Case:
    """One image with its mask.

    Args:
        id: unique name, safe as a file name.
        image_file: the image.
        mask_file: its mask, or that of the first class where each class has a file of its own.
        group: what must not be split apart: the patient, photo or scene.
        more_image_files: further modalities on the same grid; their channels follow those of `image_file`.
        split: train, val or test where a table says so, else None.
        metadata: what else is known of the case, by name, such as the scanner or the age.
        version: stands for the content of a case that lies in no files of its own, whose paths then only name its
            place; None for files, whose content is hashed.
        more_mask_files: of the further classes, where each has a file of its own.
    """

    id: str
    image_file: Path
    mask_file: Path
    group: str
    more_image_files: tuple[Path, ...] = ()
    split: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    version: str | None = None
    more_mask_files: tuple[Path, ...] = ()

    @property
    def image_files(self) -> tuple[Path, ...]:
        """One file for each modality, in the order of the channels."""
        return (self.image_file, *self.more_image_files)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case, masks last."""
        return (*self.image_files, *self.mask_files)

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """One file, or one for each class but the background."""
        return (self.mask_file, *self.more_mask_files)


@dataclass(frozen=True)
class Geometry:
    """Where the array of a file lies in the world.

    Args:
        shape: spatial size in the file's own axis order.
        spacing: distance of neighbouring pixels along (depth, height, width) of the array as read: mm for volumes,
            units of the CRS for rasters, 1 for photos.
        affine: index to world, as rows: 4x4 voxel to RAS mm (volume), 2x3 pixel to CRS (raster), None for photos.
        crs: coordinate reference system as WKT, rasters only.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...] | None = None
    crs: str | None = None


@dataclass(frozen=True)
class Intensity:
    """How stored values become network input: clip to [low, high], subtract mean, divide by std, per channel.

    Args:
        mean: per channel, of the clipped training cases.
        std: per channel, of the clipped training cases.
        low: lower clip value, None for no clipping; the lower end of the HU window for CT.
        high: upper clip value.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float | None = None
    high: float | None = None

    def of_values(self, smallest: float, largest: float) -> "Intensity":
        """The same for an image whose values lie in [smallest, largest]: without limits that cannot matter."""
        is_clipped = (self.low is None or smallest >= self.low) and (self.high is None or largest <= self.high)
        return Intensity(self.mean, self.std) if is_clipped else self


@dataclass(frozen=True)
class DataSpec:
    """What everybody needs to know about a data set.

    Args:
        name: name of the data set, e.g. "lits".
        kind: volume (NIfTI), photo or raster (GeoTIFF).
        spatial_dims: 2 or 3, of the network's input.
        in_channels: channels of the network's input, neighbouring slices included.
        class_names: index is the class.
        class_colors: RGB of each class in pictures and palettes.
        mask_values: the number that stands for each class in a mask file we write.
        has_background: class 0 is background and is left out of every mean.
        patch_size: spatial size of a training sample, `spatial_dims` long.
        intensity: from stored values to network input.
        n_slices: neighbouring slices given as channels (2.5-D); 1 means plain 2-D.
        regions: where classes overlap, the classes that count as each class: (0,), (1, 2), (2,) when class 2 is a part
            of class 1; empty when each class counts alone.
        channels: text that tells apart the files of one case in their names, in the order of the channels; empty when
            a case is one file.
    """

    name: str
    kind: Kind
    spatial_dims: Literal[2, 3]
    in_channels: int
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    mask_values: tuple[int, ...]
    has_background: bool
    patch_size: tuple[int, ...]
    intensity: Intensity
    n_slices: int = 1
    regions: tuple[tuple[int, ...], ...] = ()
    channels: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for run.json and checkpoints; `from_dict` is the way back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataSpec":
        """Rebuild a spec from `to_dict`, also after a trip through JSON (lists become tuples)."""
        plain = {key: _tuples(value) for key, value in values.items() if key != "intensity"}
        return cls(intensity=Intensity(**{k: _tuples(v) for k, v in values["intensity"].items()}), **plain)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
