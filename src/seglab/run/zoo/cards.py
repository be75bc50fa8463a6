"""Model cards: what each network is, what it costs and sees, measured, and a drawing of its blocks. They make docs/zoo.

What a person has written below the line "## Results" of a card is kept.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from seglab.files import write_text
from seglab.nets.base import SegmentationNet
from seglab.run.catalogue import CONF, docstring, first_line, module_docstring, names
from seglab.run.zoo.architecture import draw
from seglab.run.zoo.graph import Graph
from seglab.run.zoo.measures import SIZES, Measured, measure, n_parameters
from seglab.run.zoo.networks import build_net, chosen, class_of, default_node, graph_of, node_of

RESULTS = "## Results"
DIFFERS = re.compile(r"^(?=Differs from|Our reconstruction)", re.MULTILINE)
MADE = "<!-- Made by `python src/info.py what=cards`, which keeps what stands below the line of the results. -->"
INDEX_HEAD = ["network", "paper", "faithfulness", "dimensions", "2-D parameters", "3-D parameters"]
MEASURED = """\
One image of one channel, 256x256 in 2-D and 64x128x128 in 3-D or the next size that the network takes; two classes, or
the fewest that it takes.

- **Own defaults** are those of the class: the paper's configuration, where it gives one. The other columns are the
  configuration in `conf/model`, often a narrower one.
- **Parameters** are the trainable ones.
- **Multiply-adds** are those of convolutions and matrix products in one forward pass. Operations (FLOPs) are twice as
  many.
- **Activations** are what one image leaves behind for the backward pass in float32, every tensor counted once and
  parameters left out: the least memory that each image of a training batch takes.
- **Receptive field** is the largest extent, along each axis, of the input that one output pixel depends on, found by
  the gradient at positive weights. Statistics of norms, which may see the whole image, do not count.
- **Drawings** show the data that flows through the network, observed in one pass. Boxes are its blocks."""


def write_cards(folder: Path, only: Sequence[str] | None = None) -> list[Path]:
    """Write cards and drawings of networks, and the index of all networks.

    Args:
        folder: where they go; made when missing.
        only: choices of conf/model; None for all.

    Returns:
        The cards.

    Raises:
        ConfigError: an unknown network.
    """
    cards = []
    for name in chosen(only):
        for file, svg in drawings(name).items():
            write_text(folder / file, svg)
        cards.append(_write(folder / f"{name}.md", card(name)))
    _write(folder / "index.md", index())
    return cards


def card(name: str) -> str:
    """A network's card down to its results."""
    cls, target = class_of(node_of(name)), node_of(name)["_target_"]
    _, _, text = module_docstring(target).partition("\n")
    about, *differs = DIFFERS.split(text, maxsplit=1)
    paragraphs = [
        MADE,
        f"# {name}",
        first_line(target),
        *(f"![{_caption(name, dims)}]({file})" for file, dims in _files(name).items()),
        _facts(name, cls, target),
        _escaped(about.strip()),
        *(["## How it differs from the paper", *map(_escaped, differs)] if differs else []),
        "## Measured",
        _measured(name),
        "[How this was measured](index.md#how-the-figures-were-measured)",
        "## How to train it",
        _commands(name, cls),
    ]
    return "\n\n".join(paragraph.strip() for paragraph in paragraphs if paragraph.strip()) + "\n"


def index() -> str:
    """A table of all networks, what its words mean, and how the figures of the cards were measured."""
    paragraphs = [
        MADE,
        "# Networks",
        "Each is a choice of `model=`. Parameters are those of its configuration in `conf/model`; its card has more. "
        "[What works where](compatibility.md) tells which of them compile, export and train in mixed precision.",
        _table(
            ["network", "paper", "faithfulness", "dimensions", "2-D parameters", "3-D parameters"], _index_rows(), 4
        ),
        "## What faithfulness means",
        "\n".join(f"- **{word}**: {meaning}" for word, meaning in faithfulness_words().items()),
        "## How the figures were measured",
        MEASURED,
    ]
    return "\n\n".join(paragraphs) + "\n"


def drawings(name: str) -> dict[str, str]:
    """A network's drawings by file name: one, and one more for 3-D if data flows in another way there."""
    svgs = {}
    for file, dims in _files(name).items():
        graph = _graphs(name)[dims]
        svgs[file] = draw(graph, _caption(name, dims), _spoken(graph))
    return svgs


def faithfulness_words() -> dict[str, str]:
    """What each word for the faithfulness of a network means, as their base class says it."""
    text = " ".join(docstring("seglab.nets.base.SegmentationNet").split())
    sentence = text.partition("`faithfulness` is one of: ")[2].partition(". ")[0]
    return dict(re.findall(r"(\w+) \(([^)]*)\)", sentence))


def _write(file: Path, text: str) -> Path:
    """Write a file anew down to the line of the results, and keep the rest."""
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    line = re.search(rf"^{RESULTS}$", old, re.MULTILINE)
    kept = old[line.end() :] if line else "\n"
    write_text(file, f"{text}\n{RESULTS}{kept}")
    return file


def _graphs(name: str) -> dict[int, Graph]:
    found = {dims: graph_of(node_of(name), dims) for dims in SIZES}
    return {dims: graph for dims, graph in found.items() if graph is not None}


def _files(name: str) -> dict[str, int]:
    """File names of the drawings, and what dimensions each shows."""
    (first, graph), *others = _graphs(name).items()
    return {f"{name}.svg": first} | {
        f"{name}_{dims}d.svg": dims for dims, other in others if other.edges != graph.edges
    }


def _caption(name: str, dims: int) -> str:
    shown = f"{dims}-D" if len(_files(name)) > 1 else " and ".join(f"{n}-D" for n in _graphs(name))
    return f"Blocks of {name} in {shown} for {_graphs(name)[dims].blocks[-1].channels} classes"


def _spoken(graph: Graph) -> str:
    """The drawing in words."""
    blocks = ", ".join(f"{block.name} ({block.channels})" for block in graph.blocks)
    edges = "; ".join(f"{source} to {target}" for source, target in graph.edges)
    return f"Blocks in the order of their calls, with their channels: {blocks}. Data flows from {edges}."


def _facts(name: str, cls: type[SegmentationNet], target: str) -> str:
    file = f"src/{target.rpartition('.')[0].replace('.', '/')}.py"
    nets = [net for dims in SIZES if (net := build_net(node_of(name), dims)) is not None]
    rows = [
        ["paper", _link(cls.paper)],
        ["faithfulness", f"{cls.faithfulness}: {faithfulness_words()[cls.faithfulness]}"],
        ["dimensions", _dimensions(cls)],
        ["sizes", "; ".join(dict.fromkeys(map(_sizes, nets)))],
        ["classes", f"{cls.min_classes} or more"],
        ["code", f"[{file}](../../{file}), [conf/model/{name}.yaml](../../conf/model/{name}.yaml)"],
    ]
    return _table(["", ""], rows)


def _sizes(net: SegmentationNet) -> str:
    """Which image sizes a network takes."""
    smallest = net.input_size_for([1] * net.spatial_dims)
    start = f", from {_times(smallest)} up" if max(smallest) > net.size_multiple else ""
    return f"multiples of {net.size_multiple} along each axis{start}"


def _measured(name: str) -> str:
    nodes = {"own defaults": default_node(name), f"{name}.yaml": node_of(name)}
    columns = {f"{key}, {dims}-D": measure(node, dims) for key, node in nodes.items() for dims in SIZES}
    found = {title: column for title, column in columns.items() if column is not None}
    rows = [
        ["parameters", *(f"{column.n_parameters:,}" for column in found.values())],
        ["multiply-adds", *(f"{column.n_multiply_adds / 1e9:,.2f} G" for column in found.values())],
        ["activations", *(f"{column.activation_bytes / 2**20:,.0f} MiB" for column in found.values())],
        ["receptive field", *map(_field, found.values())],
    ]
    if any(column.size != SIZES[len(column.size)] for column in found.values()):
        rows.append(["image", *(_times(column.size) for column in found.values())])
    return _table(["", *found], rows, 1)


def _field(column: Measured) -> str:
    extents = column.field[:1] if len(set(column.field)) == 1 else column.field
    return f"{_times(extents)} px" if column.is_bounded else f"{max(extents)} px or more"


def _commands(name: str, cls: type[SegmentationNet]) -> str:
    """One command per number of dimensions, on synthetic data that has enough classes, and the experiments."""
    plane = "crack" if cls.min_classes <= 2 else "lits"
    data = {2: f"data={plane}", 3: "data=lits data.dims=3"}
    lines = [f"python src/train.py model={name} {data[dims]} data.root=phantom" for dims in cls.supported_dims]
    links = [f"[experiment={other}](../../conf/experiment/{other}.yaml)" for other in _experiments(name)]
    return "\n".join(["```bash", *lines, "```", *(["", f"Settings of papers: {', '.join(links)}."] if links else [])])


def _experiments(name: str) -> list[str]:
    """Experiments that train a network, in their first or only stage."""
    found = []
    for other in names("experiment"):
        node = yaml.safe_load((CONF / "experiment" / f"{other}.yaml").read_text(encoding="utf-8"))
        chosen = [entry for entry in node.get("defaults", []) if isinstance(entry, dict)]
        if any(key.startswith("override /model") and value == name for entry in chosen for key, value in entry.items()):
            found.append(other)
    return found


def _index_rows() -> Iterable[list[str]]:
    for name in names("model"):
        cls = class_of(node_of(name))
        nets = [build_net(node_of(name), dims) for dims in SIZES]
        shown = ["" if net is None else f"{n_parameters(net):,}" for net in nets]
        yield [f"[{name}]({name}.md)", _link(cls.paper), cls.faithfulness, _dimensions(cls), *shown]


def _dimensions(cls: type[SegmentationNet]) -> str:
    return " and ".join(f"{dims}-D" for dims in cls.supported_dims)


def _link(url: str) -> str:
    """A link with a short text."""
    text = url.removeprefix("https://").replace("arxiv.org/abs/", "arXiv:")
    return f"[{text}]({url})" if url else ""


def _times(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))


def _escaped(text: str) -> str:
    """Text of a docstring as Markdown: stars mean powers, not emphasis."""
    return text.replace("*", r"\*")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], n_left: int = 99) -> str:
    """A Markdown table whose columns after the first `n_left` are numbers."""
    line = ["---" if place < n_left else "--:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, line, *rows])
