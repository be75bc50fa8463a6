"""Data sets whose files are described instead of programmed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglab import __version__
from seglab.data.channels import check_equal_shapes
from seglab.data.class_files import classes_of_files, find_class_files, laid_over
from seglab.data.classes import BINARY, Classes
from seglab.data.contents import key_of
from seglab.data.dataset_json import NAME, read_dataset_json
from seglab.data.declared import DeclaredClasses
from seglab.data.findings import Findings
from seglab.data.integrity import check_root
from seglab.data.listing import Listed, Patterns
from seglab.data.phantoms.described import Described
from seglab.data.phantoms.folder import phantom_folder
from seglab.data.table import read_table
from seglab.errors import ConfigError
from seglab.spec import Case


@dataclass(kw_only=True, eq=False, repr=False)
class OwnData(DeclaredClasses):
    """Anybody's data: a root with files that patterns, a table or a dataset.json describe, and declared classes.

    Args:
        images: pattern of the image files below the root, with {case} and other fields in braces: {channel}, {group}
            for what must not be split apart, {split}; others are kept with the case. None: dataset.json where the root
            has one, else `default_images`.
        masks: pattern of the mask files, with the same fields; None: `default_masks`. Where each class has a file of
            its own, the name of each class with its pattern, or its column of the table: the last class that has a
            pixel wins.
        channels: what {channel} stands for, in the order of the channels, or the columns of a table with image files;
            empty for one file per case.
        table: CSV below the root with columns image, mask and, where wanted, case, group, split (train, val, test,
            which then decides the split) and others, which are kept with the case; instead of patterns.

    Raises:
        ConfigError: patterns or channels that contradict each other.
        DataError: in `load`, all cases whose files are missing.
    """

    images: str | None = None
    masks: str | dict[str, str] | None = None
    channels: list[str] = field(default_factory=list)
    table: str | None = None

    default_images: ClassVar[str] = "images/{case}.*"
    default_masks: ClassVar[str] = "masks/{case}.*"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.masks, dict):
            if self.classes is not None:
                raise ConfigError(
                    "classes are described twice",
                    given=f"data.classes={self.classes} and data.masks of {', '.join(self.masks)}",
                    allowed="classes named by their files, or one pattern of masks with declared classes",
                    fix="leave data.classes out",
                )
            self.coding = classes_of_files(list(self.masks))
        if self.table is not None and (self.images or isinstance(self.masks, str)):
            raise ConfigError(
                "files are described twice",
                given=f"data.table={self.table} and data.images={self.images}, data.masks={self.masks}",
                allowed="a table, whose columns data.channels and data.masks may name, or patterns",
                fix="leave data.table out, or data.images and data.masks",
            )
        self.case_channels = tuple(map(str, self.channels))
        if self.table is None:
            _ = self.class_patterns  # refuses patterns that contradict each other

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What tells apart the files of a case."""
        return self.case_channels

    @property
    def file_coding(self) -> Classes:
        """What a mask file holds: all classes, or nothing and one of them."""
        return BINARY.ignoring(self.ignore) if isinstance(self.masks, dict) else self.coding

    @property
    def description(self) -> tuple[Any, ...]:
        """Includes where the files lie."""
        return *super().description, self.images, self.masks, self.channels, self.table

    @property
    def settings(self) -> dict[str, Any]:
        """Includes which files are classes."""
        files = {"class_files": [*self.masks, self.file_coding.key]} if isinstance(self.masks, dict) else {}
        return {**super().settings, **files}

    @property
    def class_patterns(self) -> dict[str, Patterns]:
        """Patterns of each class that has files of its own; of one mask for all under an empty name."""
        masks = self.masks if isinstance(self.masks, dict) else {"": self.masks or self.default_masks}
        return {name: self._patterns(pattern) for name, pattern in masks.items()}

    @property
    def patterns(self) -> Patterns:
        """Where the files lie, when no table and no dataset.json says so; masks are those of the first class."""
        return next(iter(self.class_patterns.values()))

    def _patterns(self, masks: str) -> Patterns:
        return Patterns(
            images=self.images or self.default_images,
            masks=masks,
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
            self.coding = found.classes.ignoring(self.ignore)
        self.case_channels = found.channels
        return found.cases

    def _list(self, root: Path) -> Listed:
        if self.table is not None:
            masks = {"class_columns": list(self.masks.values())} if isinstance(self.masks, dict) else {}
            return read_table(root / self.table, root, self.channels, **masks)
        if self.images is None and self.masks is None and (root / NAME).is_file():
            return read_dataset_json(root, self.reads, self.suffixes)
        if isinstance(self.masks, dict):
            return find_class_files(root, self.class_patterns, self.reads)
        return self.patterns.find(root, self.reads)

    def read_masks(self, case: Case) -> NDArray[np.uint8]:
        """Read the mask of a case, or those of its classes, which must have one size: (D, H, W).

        Raises:
            DataError: as `read_mask`, of every file; files of different size.
        """
        if not isinstance(self.masks, dict):
            return self.read_mask(case)
        findings, masks = Findings(), {}
        for file in case.mask_files:
            with findings.noting():
                masks[file] = self.read_mask(replace(case, mask_file=file, more_mask_files=()))
        findings.settle()
        check_equal_shapes({file: mask.shape for file, mask in masks.items()})
        return laid_over(list(masks.values()), case, self.class_names)

    def _phantom_root(self) -> Path:
        """A phantom whose files are named and coded as this data set describes them."""
        class_patterns = self.class_patterns if isinstance(self.masks, dict) else {}
        described = Described(self.kind, self.patterns, self.coding, tuple(class_patterns.values()))
        masks = [each.masks for each in self.class_patterns.values()]
        how = key_of(self.patterns.images, masks, self.channels, self.coding.key)
        folder = Path(self.cache_dir) / "phantoms" / f"{self.dataset}-{how}-{__version__}"
        return phantom_folder(folder, lambda target: described.write(target, self.write_phantom))
