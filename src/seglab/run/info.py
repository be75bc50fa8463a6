"""info: what exists, from the configurations and docstrings."""

import json
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig
from rich.console import Console

from seglab.errors import ConfigError, SeglabError
from seglab.metrics.report import METRICS
from seglab.run.catalogue import CONF, Choice, choices
from seglab.run.make import locate, make

TOPICS = ("models", "data", "losses", "metrics")
Row = dict[str, Any]


def info(cfg: DictConfig) -> None:
    """Show one topic as lines or as JSON.

    Args:
        cfg: composed by Hydra from conf/info.yaml.

    Raises:
        ConfigError: an unknown topic or format.
    """
    builders = {"models": models, "data": data_sets, "losses": losses, "metrics": metrics}
    if cfg.what not in TOPICS or cfg.format not in ("table", "json"):
        raise ConfigError(
            "there is nothing to show",
            given=f"what={cfg.what} format={cfg.format}",
            allowed=f"what={'|'.join(TOPICS)}, format=table|json",
            fix="type python src/info.py what=models",
        )
    rows = builders[cfg.what]()
    console = Console(soft_wrap=True)
    if cfg.format == "json":
        console.print_json(json.dumps(rows))
    else:
        console.print(_lines(rows), highlight=False)


def models() -> list[Row]:
    """Networks: dimensions, and parameters of the configuration from 1 channel to 2 classes, or the fewest it takes."""
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
    node = yaml.safe_load((CONF / "model" / f"{choice.name}.yaml").read_text(encoding="utf-8"))
    target: Any = locate(choice.target or "", "model")
    counts, num_classes = {}, max(2, target.min_classes)
    for dims in target.supported_dims:
        try:
            with torch.device("meta"):
                net = make(node, "model", in_channels=1, num_classes=num_classes, spatial_dims=dims)
            counts[f"{dims}d"] = sum(parameter.numel() for parameter in net.parameters())
        except SeglabError:
            counts[f"{dims}d"] = None
    return {"name": choice.name, "doc": choice.doc, "dims": list(target.supported_dims), "parameters": counts}


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
