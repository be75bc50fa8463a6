"""The drawing of a network, an SVG: its blocks from left to right with one row per resolution, so that a U appears.

Every line is data that really flows: down and up between the rows, and skips past other blocks.
"""

from collections.abc import Iterator
from html import escape

from seglab.run.zoo.graph import IMAGE, LOGITS, Graph
from seglab.run.zoo.layout import BOX_H, BOX_W, Box, place, route

MARGIN, LINE_H = 24, 24
LETTER_W = 6.6  # of the legend, on average
SWATCH = 14
NOTE, SIDE = "numbers: channels; rows: resolution", "side output in training"
# Fill and line of the groups of blocks, on light and on dark ground.
LIGHT = (
    ("#d9e8fb", "#2f6fb5"),
    ("#fde4d2", "#c2611b"),
    ("#dbf0dd", "#38853f"),
    ("#eadff5", "#7c4aa5"),
    ("#fadde4", "#b83a5b"),
    ("#eae7cf", "#7d7722"),
)
DARK = (
    ("#1d3b5c", "#7fb4ec"),
    ("#593317", "#f0a468"),
    ("#1f4726", "#7fcf88"),
    ("#40295a", "#c39be8"),
    ("#5a2334", "#ef8aa6"),
    ("#45421c", "#cfc765"),
)


def draw(graph: Graph, title: str, description: str) -> str:
    """The SVG of a graph; the same graph always gives the same text.

    Args:
        graph: blocks in call order and edges.
        title: what it shows, in a few words.
        description: the same in a sentence, for those who do not see it.
    """
    boxes = place(graph)
    groups = _groups(graph)
    width = max(box.x for box in boxes.values()) + BOX_W / 2 + MARGIN
    bottom = max(box.y for box in boxes.values()) + BOX_H / 2 + MARGIN
    legend, height = _legend(graph, groups, width, bottom)
    edges = sorted(graph.edges, key=lambda edge: _is_skip(boxes, *edge))  # skips on top of what they cross
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>\n{_style(len(groups))}</style>",
        f"<defs>{_marker('flow')}{_marker('skip')}</defs>",
        f'<rect class="ground" width="{width:g}" height="{height:g}" rx="8"/>',
        *_row_labels(boxes),
        *(_edge(boxes, *edge) for edge in edges),
        *(_box(box, groups) for box in boxes.values()),
        *(_dot(*_corner(boxes[name])) for name in boxes if name in graph.supervised),
        *legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _is_end(name: str) -> bool:
    return name in (IMAGE, LOGITS)


def _is_skip(boxes: dict[str, Box], source: str, target: str) -> bool:
    return boxes[target].column - boxes[source].column > 1


def _groups(graph: Graph) -> dict[str, str]:
    """Group of each block but the ends: its name up to the first part in which the blocks differ."""
    names = [block.name.split(".") for block in graph.blocks if not _is_end(block.name)]
    depth = 0
    while len({name[depth] for name in names}) == 1 and all(len(name) > depth + 1 for name in names):
        depth += 1
    first = depth - 1 if any(name[depth].isdigit() for name in names) else depth  # planes.0 rather than 0
    return {".".join(name): ".".join(name[first : depth + 1]) for name in names}


def _style(n_groups: int) -> str:
    lines = [
        "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px}",
        "text{fill:#1f2328;text-anchor:middle}",
        ".note{font-size:11px;fill:#59636e}.key{text-anchor:start}",
        ".ground{fill:#fff}.end{fill:#f2f3f5;stroke:#59636e}.side{fill:#b83a5b;stroke:#fff}",
        "path{fill:none;stroke:#59636e;stroke-width:1.4}path.skip{stroke:#2f6fb5}",
        "marker path{fill:#59636e;stroke:none}marker path.skip{fill:#2f6fb5;stroke:none}",
        *_group_styles(LIGHT, n_groups),
        "@media(prefers-color-scheme:dark){",
        "text{fill:#e6edf3}.note{fill:#9aa4ae}.ground{fill:#0d1117}.end{fill:#272c33;stroke:#9aa4ae}",
        ".side{fill:#ef8aa6;stroke:#0d1117}",
        "path{stroke:#9aa4ae}path.skip{stroke:#7fb4ec}",
        "marker path{fill:#9aa4ae;stroke:none}marker path.skip{fill:#7fb4ec;stroke:none}",
        *_group_styles(DARK, n_groups),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _group_styles(colors: tuple[tuple[str, str], ...], n_groups: int) -> Iterator[str]:
    for index, (fill, line) in enumerate(colors[:n_groups]):
        yield f".g{index}{{fill:{fill};stroke:{line}}}"


def _marker(kind: str) -> str:
    return (
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path class="{kind}" d="M0 .8L8 4L0 7.2Z"/></marker>'
    )


def _row_labels(boxes: dict[str, Box]) -> Iterator[str]:
    """What part of the image's size a row has, at its left end."""
    first = {box.row: box for box in reversed(boxes.values()) if box.lane == 0}
    for row in sorted(first):
        level = first[row].block.level
        share = f"1/{2**level}" if level >= 0 else f"{2**-level}"
        yield f'<text class="note" x="{MARGIN:g}" y="{first[row].y + 4:g}">{share if level else "1"}</text>'


def _edge(boxes: dict[str, Box], source: str, target: str) -> str:
    kind = "skip" if _is_skip(boxes, source, target) else "flow"
    return (
        f'<path class="{kind}" marker-end="url(#{kind})" d="{route(boxes, source, target)}">'
        f"<title>{escape(source)} to {escape(target)}</title></path>"
    )


def _box(box: Box, groups: dict[str, str]) -> str:
    """A rectangle with its channels, and its name to see when pointed at."""
    name, channels = box.block.name, box.block.channels
    kind, radius = ("end", BOX_H / 2) if _is_end(name) else (_class(groups, groups[name]), 5)
    text = escape(name) if _is_end(name) else channels
    return (
        f'<g class="block"><title>{escape(name)}: {channels} channels</title>'
        f'<rect class="{kind}" x="{box.x - BOX_W / 2:g}" y="{box.y - BOX_H / 2:g}" width="{BOX_W}" height="{BOX_H}" '
        f'rx="{radius:g}"/><text x="{box.x:g}" y="{box.y + 4:g}">{text}</text></g>'
    )


def _corner(box: Box) -> tuple[float, float]:
    return box.x + BOX_W / 2 - 2, box.y - BOX_H / 2 + 2


def _dot(x: float, y: float) -> str:
    """The mark of a side output."""
    return f'<circle class="side" cx="{x:g}" cy="{y:g}" r="4.5"/>'


def _class(groups: dict[str, str], group: str) -> str:
    """Style of a group; colours repeat when there are more groups than colours."""
    return f"g{list(dict.fromkeys(groups.values())).index(group) % len(LIGHT)}"


def _legend(graph: Graph, groups: dict[str, str], width: float, top: float) -> tuple[list[str], float]:
    """What colours and marks mean, in lines below the drawing, and where they end."""
    keys = {group: _class(groups, group) for group in dict.fromkeys(groups.values())}
    keys |= {SIDE: "side"} if graph.supervised else {}
    keys |= {NOTE: ""}
    parts, x, y = [], float(MARGIN), top + LINE_H / 2
    for text, kind in keys.items():
        key_w = round(LETTER_W * len(text) + (SWATCH + 24 if kind else 0), 1)
        if x > MARGIN and x + key_w > width:
            x, y = float(MARGIN), y + LINE_H
        if kind == "side":
            parts.append(_dot(x + SWATCH / 2, y))
        elif kind:
            box = f'x="{x:g}" y="{y - SWATCH / 2:g}" width="{SWATCH}" height="{SWATCH}" rx="3"'
            parts.append(f'<rect class="{kind}" {box}/>')
        text_x = x + SWATCH + 6 if kind else x
        parts.append(f'<text class="key{"" if kind else " note"}" x="{text_x:g}" y="{y + 4:g}">{escape(text)}</text>')
        x = round(x + key_w, 1)
    return parts, y + LINE_H
