"""Data sets whose files and classes are described instead of programmed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from seglab import __version__
from seglab.data.classes import BINARY, Classes, read_classes
from seglab.data.contents import key_of
from seglab.data.dataset_json import NAME, read_dataset_json
from seglab.data.integrity import check_root
from seglab.data.listing import Listed, Patterns
from seglab.data.module import SegmentationData
from seglab.data.phantoms.described import Described
from seglab.data.phantoms.folder import phantom_folder
from seglab.data.table import read_table
from seglab.errors import ConfigError
from seglab.spec import Case


@dataclass(kw_only=True, eq=False, repr=False)
class OwnData(SegmentationData):
    """Anybody's data: a root with files that patterns, a table or a dataset.json describe, and declared classes.

    Args:
        images: pattern of the image files below the root, with {case} and other fields in braces: {channel}, {group}
            for what must not be split apart, {split}; others are kept with the case. None: dataset.json where the root
            has one, else `default_images`.
        masks: pattern of the mask files, with the same fields; None: `default_masks`.
        channels: what {channel} stands for, in the order of the channels, or the columns of a table with image files;
            empty for one file per case.
        table: CSV below the root with columns image, mask and, where wanted, case, group, split (train, val, test,
            which then decides the split) and others, which are kept with the case; instead of patterns.
        classes: name to mask value, list of values, range such as "1-65535", or {value, color}; a class may lie within
            an earlier one. None: those of dataset.json, else background = 0 and foreground.
        ignore: mask values, or colours, that count in no loss and no metric.
        has_background: class 0 is background and stays out of means.

    Raises:
        ConfigError: classes, patterns or channels that contradict each other.
        DataError: in `load`, all cases whose files are missing.
    """

    images: str | None = None
    masks: str | None = None
    channels: list[str] = field(default_factory=list)
    table: str | None = None
    classes: dict[str, Any] | None = None
    ignore: list[Any] = field(default_factory=list)
    has_background: bool = True

    default_images: ClassVar[str] = "images/{case}.*"
    default_masks: ClassVar[str] = "masks/{case}.*"
    binary: ClassVar[Classes] = BINARY
    """Classes where none are declared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table is not None and (self.images or self.masks):
            raise ConfigError(
                "files are described twice",
                given=f"data.table={self.table} and data.images={self.images}, data.masks={self.masks}",
                allowed="a table, or patterns",
                fix="leave data.table out, or data.images and data.masks",
            )
        self.coding = self.binary if self.classes is None else read_classes(self.classes, self.ignore)
        self.case_channels = tuple(map(str, self.channels))
        if self.table is None:
            _ = self.patterns  # refuses patterns that contradict each other

    @property
    def class_names(self) -> tuple[str, ...]:
        """As declared; those of a dataset.json once the cases were found."""
        return self.coding.names

    @property
    def class_colors(self) -> tuple[tuple[int, int, int], ...]:
        """As declared, others from a palette."""
        return self.coding.colors

    @property
    def mask_values(self) -> tuple[int, ...]:
        """The smallest own value of each class."""
        return self.coding.written

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Classes that lie within each other."""
        return self.coding.regions

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What tells apart the files of a case."""
        return self.case_channels

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the meaning of mask values."""
        return {**super().settings, "masks": self.coding.key}

    @property
    def patterns(self) -> Patterns:
        """Where the files lie, when no table and no dataset.json says so."""
        return Patterns(
            images=self.images or self.default_images,
            masks=self.masks or self.default_masks,
            channels=tuple(map(str, self.channels)),
            suffixes=self.suffixes,
            what=f"file {self.images or self.default_images}",
            fix="set data.images and data.masks to say where the files lie, such as data.images='images/{case}.png'",
        )

    def find_cases(self, root: Path) -> list[Case]:
        """List the cases as the patterns, the table or dataset.json say."""
        check_root(root, "images and masks", "set data.root=<folder>, or train on a phantom: data.root=phantom")
        found = self._list(root)
        if self.classes is None and found.classes is not None:
            self.coding = found.classes
        self.case_channels = found.channels
        return found.cases

    def _list(self, root: Path) -> Listed:
        if self.table is not None:
            return read_table(root / self.table, root, self.channels)
        if self.images is None and self.masks is None and (root / NAME).is_file():
            return read_dataset_json(root, self.reads, self.suffixes)
        return self.patterns.find(root, self.reads)

    def _phantom_root(self) -> Path:
        """A phantom whose files are named and coded as this data set describes them."""
        described = Described(self.kind, self.patterns, self.coding)
        how = key_of(self.patterns.images, self.patterns.masks, self.channels, self.coding.key)
        folder = Path(self.cache_dir) / "phantoms" / f"{self.dataset}-{how}-{__version__}"
        return phantom_folder(folder, lambda target: described.write(target, self.write_phantom))
