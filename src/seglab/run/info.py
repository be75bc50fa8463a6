"""info: what exists, from the configurations and docstrings; cards of the networks, and what works with them."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seglab.errors import ConfigError
from seglab.metrics.report import METRICS
from seglab.run.catalogue import Choice, choices
from seglab.run.console import plain_console
from seglab.run.make import locate
from seglab.run.zoo.measures import n_parameters
from seglab.run.zoo.networks import build_net, class_of, node_of

TOPICS = ("models", "data", "losses", "metrics", "cards", "compatibility")
Row = dict[str, Any]


def info(cfg: DictConfig) -> None:
    """Show one topic as lines or as JSON, or write the cards of the networks or what works with them.

    Args:
        cfg: composed by Hydra from conf/info.yaml.

    Raises:
        ConfigError: an unknown topic, format or network.
    """
    builders = {"models": models, "data": data_sets, "losses": losses, "metrics": metrics}
    if cfg.what not in TOPICS or cfg.format not in ("table", "json"):
        raise ConfigError(
            "there is nothing to show",
            given=f"what={cfg.what} format={cfg.format}",
            allowed=f"what={'|'.join(TOPICS)}, format=table|json",
            fix="type python src/info.py what=models",
        )
    console = plain_console(soft_wrap=True)
    if cfg.what == "cards":
        from seglab.run.zoo.cards import write_cards

        cards = write_cards(Path(cfg.output), cfg.only)
        console.print(f"{len(cards)} card(s) written to {cfg.output}")
        return
    if cfg.what == "compatibility":
        from seglab.run.zoo.compatibility import write_compatibility

        console.print(f"{write_compatibility(Path(cfg.output), cfg.only)} written")
        return
    rows = builders[cfg.what]()
    if cfg.format == "json":
        console.print_json(json.dumps(rows))
    else:
        console.print(_lines(rows))


def models() -> list[Row]:
    """Networks: source, dimensions, parameters as configured, from 1 channel to 2 classes or the fewest it takes."""
    return [_model(choice) for choice in choices("model")]


def data_sets() -> list[Row]:
    """Data sets and their dimensions."""
    rows = []
    for choice in choices("data"):
        target: Any = locate(choice.target or "", "data")
        rows.append({"name": choice.name, "doc": choice.doc, "dims": list(target.supported_dims), "kind": target.kind})
    return rows


def losses() -> list[Row]:
    """Losses; they work in 2 and 3 dimensions."""
    return [{"name": choice.name, "doc": choice.doc, "dims": [2, 3]} for choice in choices("loss")]


def metrics() -> list[Row]:
    """Metrics, pooled over all pixels and per case."""
    pooled = [{"name": f"<split>/{name}/<class>", "doc": doc, "dims": [2, 3]} for name, doc in METRICS.items()]
    per_case = [
        {"name": f"test/case_{name}/<class>", "doc": f"{METRICS[name]}, averaged over whole cases", "dims": [2, 3]}
        for name in ("dice", "iou")
    ]
    return pooled + per_case


def _model(choice: Choice) -> Row:
    node = node_of(choice.name)
    cls = class_of(node)
    nets = {dims: build_net(node, dims) for dims in cls.supported_dims}
    return {
        "name": choice.name,
        "doc": choice.doc,
        "paper": cls.paper,
        "faithfulness": cls.faithfulness,
        "dims": list(nets),
        "parameters": {f"{dims}d": None if net is None else n_parameters(net) for dims, net in nets.items()},
    }


def _lines(rows: list[Row]) -> str:
    """One line per row; the docstring line comes last, as it is the longest."""
    order = [name for name in rows[0] if name != "doc"] + ["doc"]
    cells = [[_cell(row[name]) for name in order] for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(order))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:,}" for name, number in value.items() if number is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
