"""What exists: every choice of a config group with the first line of its class's docstring. Imports no torch."""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

CONF = Path(__file__).resolve().parents[3] / "conf"


@dataclass(frozen=True)
class Choice:
    """One yaml of a config group.

    Args:
        name: what to type after `group=`.
        target: dotted name of its class or function, None for a file without one.
        doc: first line of the docstring of what it builds.
    """

    name: str
    target: str | None
    doc: str


def choices(group: str) -> list[Choice]:
    """All choices of a group, sorted by name."""
    return [_choice(file) for file in sorted((CONF / group).glob("*.yaml"))]


def names(group: str) -> list[str]:
    """Names of all choices of a group."""
    return [file.stem for file in sorted((CONF / group).glob("*.yaml"))]


def help_lines(group: str) -> str:
    """The choices of a group as lines for --help."""
    width = max(len(name) for name in names(group))
    return "\n".join(f"  {group}={choice.name:<{width}}  {choice.doc}" for choice in choices(group))


def described(target: str) -> str:
    """First line of the docstring of what is ours, else the dotted name itself."""
    return first_line(target) if target.startswith("seglab.") else target


def first_line(target: str) -> str:
    """First line of the docstring of a class or function of ours, read from its source without importing it."""
    module, _, name = target.rpartition(".")
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _choice(file: Path) -> Choice:
    text = file.read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text) or {}
    target = content.get("_target_")
    if "terms" in content:  # a loss is described by what it adds up
        lines = [described(term["_target_"]).rstrip(".") for term in content["terms"].values()]
        return Choice(file.stem, target, "; ".join(lines))
    if target is None:
        comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line]
        return Choice(file.stem, None, comments[0] if comments else "")
    return Choice(file.stem, target, described(target))


@cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec("seglab")
    folder = Path(next(iter(spec.submodule_search_locations or []))) if spec else CONF.parent
    file = folder.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
