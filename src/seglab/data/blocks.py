"""Blocks of scenes: a large raster is cut into pieces that are split instead of it; they are mapped, not copied.

Neighbouring pixels show the same, so no training pixel lies closer to a piece of another split than a buffer.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.arrays import Stored
from seglab.data.intensity import Moments, measure
from seglab.data.store import Record, Store, some_places
from seglab.errors import ConfigError
from seglab.files import write_text
from seglab.spec import IGNORE_INDEX

Clip = tuple[float | None, float | None]


@dataclass(frozen=True)
class Blocks:
    """How scenes are cut.

    Args:
        side_px: about the height and width of a block; a scene is cut evenly.
        buffer_px: width of the strip beside blocks of other splits that is not trained on.

    Raises:
        ConfigError: sizes that leave nothing of a block.
    """

    side_px: int
    buffer_px: int

    def __post_init__(self) -> None:
        if not (self.side_px >= 1 and 0 <= self.buffer_px < self.side_px / 4):
            raise ConfigError(
                "scenes cannot be cut like this",
                given=f"data.block_px={self.side_px}, data.buffer_px={self.buffer_px}",
                allowed="blocks of 1 pixel and more, and a buffer below a quarter of that",
                fix="set data.block_px=1024 data.buffer_px=64",
            )


@dataclass(frozen=True)
class Box:
    """A block of a scene: its place in the grid of blocks, and its pixels."""

    scene: Record
    row: int
    column: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def id(self) -> str:
        """Name of the block as a case."""
        return f"{self.scene.id}-r{self.row}c{self.column}"

    @property
    def group(self) -> str:
        """What is split: the same place in all scenes of a group, such as several dates."""
        return f"{self.scene.group}-r{self.row}c{self.column}"

    def touches(self, other: "Box") -> bool:
        """Whether two blocks of one scene are neighbours, also over a corner."""
        steps = abs(self.row - other.row), abs(self.column - other.column)
        return self.scene.id == other.scene.id and max(steps) == 1


class BlockStore(Store):
    """Serves each block as a case of its own, out of the arrays of its scene.

    Args:
        scenes: the whole scenes.
        boxes: the blocks.
        clip: range that values are measured in.
    """

    def __init__(self, scenes: Store, boxes: Iterable[Box], clip: Clip) -> None:
        self.folder, self.scenes, self.clip, self._held = scenes.folder, scenes, clip, None
        found = {box.id: box for box in boxes}
        self.records = tuple(record for record in self._measured(found.values()) if any(record.class_pixels))
        self.boxes = {record.id: found[record.id] for record in self.records}
        self._places: dict[str, NDArray[np.int32]] = {}

    def image(self, case_id: str) -> Stored:
        """Mapped image of a block, (C, 1, H, W)."""
        return self._cut(self.scenes.image, self.boxes[case_id])

    def mask(self, case_id: str) -> Stored:
        """Mapped mask of a block, (1, H, W)."""
        return self._cut(self.scenes.mask, self.boxes[case_id])

    def foreground(self, case_id: str) -> NDArray[np.int32]:
        """As of a whole case; found when first asked for."""
        if case_id not in self._places:
            n_classes = len(self.boxes[case_id].scene.class_pixels)
            self._places[case_id] = some_places(self.mask(case_id), n_classes)
        return self._places[case_id]

    def with_buffer(self, trained: set[str], buffer_px: int) -> "BlockStore":
        """The same blocks, those of training without the strip beside blocks of other splits.

        Args:
            trained: groups of the blocks of training.
            buffer_px: width of the strip.
        """
        others = [box for box in self.boxes.values() if box.group not in trained]
        boxes = (
            _trimmed(box, [other for other in others if box.touches(other)], buffer_px) if box.group in trained else box
            for box in self.boxes.values()
        )
        return BlockStore(self.scenes, boxes, self.clip)

    @staticmethod
    def _cut(opened: Any, box: Box) -> Stored:
        return opened(box.scene.id)[..., slice(*box.rows), slice(*box.columns)]

    def _measured(self, boxes: Iterable[Box]) -> Iterator[Record]:
        """The blocks as cases; what is measured is kept beside the scenes, whose entries never change."""
        file = self.folder / "blocks.json"
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        n_known = len(known)
        for box in boxes:
            key = f"{box.scene.entry} {box.rows} {box.columns}"
            facts = known.get(key) or known.setdefault(key, self._facts(box))
            moments = Moments(**{name: _tuple(value) for name, value in facts["moments"].items()})
            size = box.rows[1] - box.rows[0], box.columns[1] - box.columns[0]
            yield replace(
                box.scene,
                id=box.id,
                group=box.group,
                shape=(*box.scene.shape[:2], *size),
                class_pixels=tuple(facts["class_pixels"]),
                moments=moments,
            )
        if len(known) > n_known:
            write_text(file, json.dumps(known))

    def _facts(self, box: Box) -> dict[str, Any]:
        mask = np.asarray(self._cut(self.scenes.mask, box))
        counts = np.bincount(mask.ravel(), minlength=len(box.scene.class_pixels))[: len(box.scene.class_pixels)]
        moments = measure(self._cut(self.scenes.image, box), mask != IGNORE_INDEX, *self.clip)
        return {"class_pixels": counts.tolist(), "moments": asdict(moments)}


def cut_scenes(scenes: Store, blocks: Blocks, clip: Clip) -> BlockStore:
    """Cut every scene into an even grid of blocks; those without a labelled pixel are left out.

    Args:
        scenes: of depth 1, with arrays that are mapped.
        blocks: how large.
        clip: range that values are measured in.
    """
    return BlockStore(scenes, (box for record in scenes.records for box in _grid(record, blocks.side_px)), clip)


def splits_of_scenes(store: BlockStore, splits: Mapping[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """The splits in which each scene has blocks."""
    found: dict[str, set[str]] = {record.id: set() for record in store.scenes.records}
    of_group = {name: split for split, names in splits.items() for name in names}
    for box in store.boxes.values():
        found[box.scene.id].add(of_group[box.group])
    return found


def _grid(record: Record, side: int) -> Iterator[Box]:
    rows, columns = (_edges(length, side) for length in record.shape[2:])
    for row, vertical in enumerate(pairwise(rows)):
        for column, horizontal in enumerate(pairwise(columns)):
            yield Box(record, row, column, vertical, horizontal)


def _edges(length: int, side: int) -> list[int]:
    n = max(1, round(length / side))
    return [round(number * length / n) for number in range(n + 1)]


def _trimmed(box: Box, beside: Iterable[Box], buffer_px: int) -> Box:
    """A block without the strips beside some of its neighbours; beside a corner the strip above or below goes."""
    (top, bottom), (left, right) = box.rows, box.columns
    steps = {(other.row - box.row, other.column - box.column) for other in beside}
    if any(down == -1 for down, _ in steps):
        top += buffer_px
    if any(down == 1 for down, _ in steps):
        bottom -= buffer_px
    if (0, -1) in steps:
        left += buffer_px
    if (0, 1) in steps:
        right -= buffer_px
    return replace(box, rows=(top, bottom), columns=(left, right))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
