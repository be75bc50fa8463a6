"""Model cards: what each network is, costs and sees, measured, with a drawing of its blocks; docs/zoo is made by this.

What a person has written below the line "## Results" of a card is kept.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from seglab.errors import ConfigError
from seglab.files import write_text
from seglab.nets.base import SegmentationNet
from seglab.run.architecture import draw
from seglab.run.catalogue import docstring, first_line, module_docstring, names
from seglab.run.graph import Graph, trace
from seglab.run.measures import activation_bytes, n_multiply_adds, n_parameters, receptive_field
from seglab.run.networks import Node, build_net, class_of, default_node, narrow_nodes, node_of

SIZES = {2: (256, 256), 3: (64, 128, 128)}
RESULTS = "## Results"
DIFFERS = re.compile(r"^(?=Differs from|Our reconstruction)", re.MULTILINE)
MADE = "<!-- python src/info.py what=cards makes what stands above the line '## Results' and keeps what stands below. -->"
EXPLANATION = """\
Measured on one image of one channel, 256x256 pixels in 2-D and 64x128x128 voxels in 3-D or the next size that the
network takes, with two classes or the fewest that it takes.

- **own defaults**: the defaults of the class, which are the paper's configuration where it gives one; the other columns
  are the configuration in `conf/model`, often narrower.
- **parameters**: the trainable ones.
- **multiply-adds**: of convolutions and matrix products in one forward pass; operations (FLOPs) are twice as many.
- **activations**: what one image leaves behind for the backward pass in float32, each tensor counted once, without
  parameters; a lower bound of the memory that training takes per image.
- **receptive field**: largest extent along each axis of the input that one output pixel depends on, by the gradient at
  positive weights; statistics of norms, which may see the whole image, do not count.
- **drawing**: from the data that flows through the configuration in `conf/model`, not by hand. Boxes are its blocks,
  dots mark outputs that only training uses."""


def write_cards(folder: Path, only: Sequence[str] | None = None) -> list[Path]:
    """Write the cards and drawings of networks, and the index of all of them.

    Args:
        folder: where they go; made when missing.
        only: choices of conf/model; None for all.

    Returns:
        The cards.

    Raises:
        ConfigError: an unknown network.
    """
    unknown = sorted(set(only or ()) - set(names("model")))
    if unknown:
        raise ConfigError(
            "there is no such network",
            given=f"only=[{','.join(unknown)}]",
            allowed=", ".join(names("model")),
            fix="leave only out to write all cards",
        )
    cards = []
    for name in names("model") if only is None else only:
        drawings = figures(name)
        for file_name, svg in drawings.items():
            write_text(folder / file_name, svg)
        cards.append(_write(folder / f"{name}.md", card(name, list(drawings))))
    _write(folder / "index.md", index())
    return cards


def card(name: str, drawings: Sequence[str]) -> str:
    """Text of a card down to its results.

    Args:
        name: choice of conf/model.
        drawings: file names of its drawings.
    """
    cls, target = class_of(node_of(name)), node_of(name)["_target_"]
    about, differs = _about(target)
    columns = measure(name)
    parts = [
        MADE,
        f"# {name}",
        first_line(target),
        *(f"![Blocks of {name} and the data that flows between them]({file_name})" for file_name in drawings),
        _facts(name, cls, target),
        *([_escaped(about)] if about else []),
        *(["## How it differs from the paper", _escaped(differs)] if differs else []),
        "## Measured",
        _table(columns),
        f"How these were measured: [index](index.md#how-the-figures-are-measured).{_classes_note(cls)}",
        "## How to train it",
        _commands(name, cls),
    ]
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """Table of all networks, what its words mean, and how the cards' figures are measured."""
    rows = [_index_row(name) for name in names("model")]
    parts = [
        MADE,
        "# Networks",
        "Every network is a choice of `model=` and has a card. Parameters are those of its configuration in `conf/model`, "
        "from one channel to two classes or the fewest that it takes.",
        _markdown_table(["network", "paper", "faithfulness", "dimensions", "2-D parameters", "3-D parameters"], rows, 4),
        "## Faithfulness",
        "\n".join(f"- **{word}**: {meaning}" for word, meaning in faithfulness_words().items()),
        "## How the figures are measured",
        EXPLANATION,
    ]
    return "\n\n".join(parts) + "\n"


def faithfulness_words() -> dict[str, str]:
    """What each word for the faithfulness of a network means, from where the networks' base class says it."""
    text = " ".join(docstring("seglab.nets.base.SegmentationNet").split())
    sentence = text.partition("`faithfulness` is one of: ")[2].partition(". ")[0]
    return dict(re.findall(r"(\w+) \(([^)]*)\)", sentence))


def drawings(name: str) -> dict[str, str]:
    """Drawings of a network by file name: one, and another for 3-D where data flows in another way there."""
    graphs = {dims: graph for dims in SIZES if (graph := graph_of(node_of(name), dims)) is not None}
    first, *others = graphs
    drawn = {first: f"{name}.svg"} | {
        dims: f"{name}_{dims}d.svg" for dims in others if graphs[dims].edges != graphs[first].edges
    }
    where = {dims: " and ".join(f"{n}-D" for n in graphs if drawn.get(n, drawn[first]) == drawn[dims]) for dims in drawn}
    return {file: draw(graphs[dims], f"{name} in {where[dims]}", _spoken(graphs[dims])) for dims, file in drawn.items()}


def _write(file: Path, text: str) -> Path:
    """Write a file anew down to its results, and keep those."""
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    line = re.search(rf"^{RESULTS}[ \t]*$", old, re.MULTILINE)
    write_text(file, f"{text}\n{RESULTS}{old[line.end() :] if line else chr(10)}")
    return file


def _about(target: str) -> tuple[str, str]:
    """Docstring of the file of a network, after its title: what stands before and after 'Differs from'."""
    _, _, body = module_docstring(target).partition("\n")
    about, *differs = DIFFERS.split(body, maxsplit=1)
    return about.strip(), "".join(differs).strip()


def _facts(name: str, cls: type[SegmentationNet], target: str) -> str:
    file = f"src/{target.rpartition('.')[0].replace('.', '/')}.py"
    nets = [net for dims in SIZES if (net := build_net(node_of(name), dims)) is not None]
    rows = [
        ["paper", paper_link(cls.paper)],
        ["faithfulness", f"{cls.faithfulness}: {faithfulness_words()[cls.faithfulness]}"],
        ["dimensions", " and ".join(f"{net.spatial_dims}-D" for net in nets)],
        ["sizes", "; ".join(dict.fromkeys(_sizes(net) for net in nets))],
        ["code", f"[`{file}`](../../{file}), [`conf/model/{name}.yaml`](../../conf/model/{name}.yaml)"],
    ]
    return _markdown_table(["", ""], rows)
