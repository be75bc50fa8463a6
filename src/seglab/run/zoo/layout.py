"""Where the blocks of a graph stand in its drawing, and which way each edge takes between them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seglab.run.zoo.graph import LOGITS, Block, Graph

BOX_W, BOX_H = 46, 26
COLUMN_W, LANE_H, ROW_H = 74, 40, 62
LEFT, TOP = 84, 40  # centre of the image's box, with room for the labels of the rows
TRACK = 5  # between vertical lines that share the gap between two columns
CORNER = 7
Point = tuple[float, float]
Cell = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A placed block.

    Args:
        block: what it is.
        column: longest way from the image, in blocks.
        row: its resolution, 0 for the finest.
        lane: 0, or more where other blocks stand at the same column and row.
        x: of its centre.
        y: of its centre.
    """

    block: Block
    column: int
    row: int
    lane: int
    x: float
    y: float

    @property
    def left(self) -> Point:
        """Where edges come in."""
        return self.x - BOX_W / 2, self.y

    @property
    def right(self) -> Point:
        """Where edges go out."""
        return self.x + BOX_W / 2, self.y

    @property
    def top(self) -> Point:
        """Middle of the upper side."""
        return self.x, self.y - BOX_H / 2

    @property
    def bottom(self) -> Point:
        """Middle of the lower side."""
        return self.x, self.y + BOX_H / 2


def place(graph: Graph) -> dict[str, Box]:
    """Boxes by the names of their blocks: columns in the direction of flow, rows by resolution."""
    cells = _cells(graph)
    n_lanes: dict[int, int] = defaultdict(int)
    rises: dict[int, float] = defaultdict(float)
    for _, row, lane in cells.values():
        n_lanes[row] = max(n_lanes[row], lane + 1)
    for source, target in graph.edges:
        if _is_arc(cells.values(), cells[source], cells[target]):
            row = cells[source][1]
            rises[row] = max(rises[row], 0.75 * _arc_height(cells[source], cells[target]))
    tops, y = {}, float(TOP)
    for row in range(max(n_lanes) + 1):
        tops[row] = y + rises[row]
        y = tops[row] + (n_lanes[row] - 1) * LANE_H + ROW_H if n_lanes[row] else y
    return {
        block.name: Box(block, column, row, lane, LEFT + column * COLUMN_W, tops[row] + lane * LANE_H)
        for block in graph.blocks
        for column, row, lane in [cells[block.name]]
    }


def route(boxes: Mapping[str, Box], source: str, target: str) -> str:
    """Path of an edge, as an SVG path's `d`: straight, with corners, or an arc; around other boxes where it can."""
    start, end = boxes[source], boxes[target]
    others = [box for name, box in boxes.items() if name not in (source, target)]
    for points in _ways(start, end):
        if not any(_hits(points, box) for box in others):
            return _rounded(points)
    if (start.row, start.lane) == (end.row, end.lane):
        (x1, y1), (x2, y2) = start.top, end.top
        rise = _arc_height(_cell(start), _cell(end))
        return f"M{x1:g} {y1:g}C{x1:g} {y1 - rise:g} {x2:g} {y2 - rise:g} {x2:g} {y2:g}"
    (x1, y1), (x2, y2) = start.right, end.left
    reach = max((x2 - x1) / 2, COLUMN_W)
    return f"M{x1:g} {y1:g}C{x1 + reach:g} {y1:g} {x2 - reach:g} {y2:g} {x2:g} {y2:g}"


def _cells(graph: Graph) -> dict[str, Cell]:
    """Column, row and lane of each block."""
    finest = min(block.level for block in graph.blocks)
    rows = {block.name: block.level - finest for block in graph.blocks}
    columns: dict[str, int] = {}
    for block in graph.blocks:
        before = [columns[source] for source, target in graph.edges if target == block.name and source in columns]
        columns[block.name] = max(before, default=-1) + 1
    columns[LOGITS] = max(column for name, column in columns.items() if name != LOGITS) + 1
    cells: dict[str, Cell] = {}
    for name, column in columns.items():
        lane = int(_is_in_the_way(name, graph, columns, rows))
        while (column, rows[name], lane) in cells.values():
            lane += 1
        cells[name] = (column, rows[name], lane)
    return cells


def _is_in_the_way(name: str, graph: Graph, columns: Mapping[str, int], rows: Mapping[str, int]) -> bool:
    """Whether a skip along the row of a block would be free without the blocks that get nothing from this row.

    Such are up-convolutions between the skip and what it is joined with.
    """
    along = [(source, target) for source, target in graph.edges if rows[source] == rows[target] == rows[name]]
    fed_along = [target for _, target in along]
    for source, target in along:
        between = [
            other for other in rows if rows[other] == rows[name] and columns[source] < columns[other] < columns[target]
        ]
        if name in between and not any(other in fed_along for other in between):
            return True
    return False


def _cell(box: Box) -> Cell:
    return box.column, box.row, box.lane


def _is_arc(cells: Iterable[Cell], start: Cell, end: Cell) -> bool:
    """Whether two blocks of a row have others between them."""
    between = [cell for cell in cells if cell[1:] == start[1:] and start[0] < cell[0] < end[0]]
    return start[1:] == end[1:] and len(between) > 0


def _arc_height(start: Cell, end: Cell) -> float:
    """Height of the control points; the arc reaches three quarters of it."""
    return 14 + 0.05 * COLUMN_W * abs(end[0] - start[0])


def _ways(start: Box, end: Box) -> Iterator[list[Point]]:
    """Ways with right angles between two boxes, the best first."""
    if start.y == end.y:
        yield [start.right, end.left]
        return
    if start.row < end.row:
        yield [start.bottom, (start.x, end.y), end.left]
        yield [start.right, (end.x, start.y), end.top]
    elif start.row > end.row or start.lane > end.lane:
        yield [start.right, (end.x, start.y), end.bottom]
    lane = end.lane - start.lane if start.row == end.row else max(start.lane, end.lane)
    for x in (start.x + COLUMN_W / 2, end.x - COLUMN_W / 2):
        yield [start.right, (x - TRACK * lane, start.y), (x - TRACK * lane, end.y), end.left]


def _hits(points: Sequence[Point], box: Box) -> bool:
    """Whether a way runs through a box."""
    for (x1, y1), (x2, y2) in pairwise(points):
        is_beside = max(x1, x2) < box.x - BOX_W / 2 or min(x1, x2) > box.x + BOX_W / 2
        is_above = max(y1, y2) < box.y - BOX_H / 2 or min(y1, y2) > box.y + BOX_H / 2
        if not (is_beside or is_above):
            return True
    return False


def _rounded(points: Sequence[Point]) -> str:
    """A way with rounded corners."""
    path = "M{:g} {:g}".format(*points[0])
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _towards(corner, before), _towards(corner, after)
        path += "L{:g} {:g}Q{:g} {:g} {:g} {:g}".format(*near, *corner, *far)
    return path + "L{:g} {:g}".format(*points[-1])


def _towards(corner: Point, other: Point) -> Point:
    """The point a corner's radius away, or half-way where that is nearer."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    step = min(CORNER, (abs(dx) + abs(dy)) / 2)
    length = abs(dx) + abs(dy) or 1.0
    return round(corner[0] + dx / length * step, 1), round(corner[1] + dy / length * step, 1)
