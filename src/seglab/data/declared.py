"""Data sets whose classes are declared instead of programmed, wherever their images come from."""

from dataclasses import dataclass, field
from typing import Any

from seglab.data.classes import BINARY, read_classes
from seglab.data.module import SegmentationData


@dataclass(kw_only=True, eq=False, repr=False)
class DeclaredClasses(SegmentationData):
    """A data set whose masks hold declared classes.

    Args:
        classes: name to mask value, list of values, range such as "1-65535", or {value, color}; a class may lie within
            an earlier one. None: those that the data itself declares, else background = 0 and foreground.
        ignore: mask values, or colours, that count in no loss and no metric.
        has_background: class 0 is background and stays out of means.

    Raises:
        ConfigError: classes that contradict each other.
    """

    classes: dict[str, Any] | None = None
    ignore: list[Any] = field(default_factory=list)
    has_background: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        known = BINARY if self.classes is None else read_classes(self.classes)
        self.coding = known.ignoring(self.ignore)

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
    def description(self) -> tuple[Any, ...]:
        """The classes, as given."""
        return self.classes, self.ignore

    @property
    def settings(self) -> dict[str, Any]:
        """Includes the meaning of mask values."""
        return {**super().settings, "masks": self.coding.key}
