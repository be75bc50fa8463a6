"""What exists: every choice of a config group with the first line of its class's docstring. Imports no torch."""

import ast
import importlib.util
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from seglab.errors import ConfigError

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


def config_dirs(arguments: Sequence[str]) -> list[Path]:
    """Folders that a command line reads configurations from: ours, then the user's own of --config-dir.

    Raises:
        ConfigError: there is no such folder.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    own: Path | None = parser.parse_known_args(list(arguments))[0].config_dir
    if own is not None and not own.is_dir():
        raise ConfigError(
            "there is no such folder",
            given=f"--config-dir={own}",
            allowed="a folder laid out like conf/, such as <folder>/model/mynet.yaml",
            fix=f"correct the path, seen from {Path.cwd()}",
        )
    return [CONF] if own is None else [CONF, own.resolve()]


def choices(group: str, folders: Sequence[Path] = (CONF,)) -> list[Choice]:
    """All choices of a group, sorted by name."""
    return [_choice(file) for file in _files(group, folders)]


def names(group: str, folders: Sequence[Path] = (CONF,)) -> list[str]:
    """Names of all choices of a group."""
    return [file.stem for file in _files(group, folders)]


def help_lines(group: str, folders: Sequence[Path] = (CONF,)) -> str:
    """The choices of a group as lines for --help."""
    width = max(len(name) for name in names(group, folders))
    return "\n".join(f"  {group}={choice.name:<{width}}  {choice.doc}" for choice in choices(group, folders))


def described(target: str) -> str:
    """First line of the docstring of what is ours, else the dotted name itself."""
    return (first_line(target) if target.startswith("seglab.") else "") or target


def first_line(target: str) -> str:
    """First line of the docstring of a class or function of ours, read from its source without importing it."""
    return docstring(target).partition("\n")[0]


def docstring(target: str) -> str:
    """Docstring of a class or function of ours, read from its source without importing it."""
    module, _, name = target.rpartition(".")
    if not _source(module).is_file():
        return ""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return ""


def module_docstring(target: str) -> str:
    """Docstring of the file of a class or function of ours, read without importing it."""
    return ast.get_docstring(_tree(target.rpartition(".")[0])) or ""


def _files(group: str, folders: Sequence[Path]) -> list[Path]:
    """The yaml files of a group; of two with one name Hydra takes the one of the first folder."""
    found = {file.stem: file for folder in reversed(folders) for file in (folder / group).glob("*.yaml")}
    return [found[name] for name in sorted(found)]


def _choice(file: Path) -> Choice:
    text = file.read_text(encoding="utf-8")
    try:
        content: dict[str, Any] = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return Choice(file.stem, None, f"no YAML: {file}")
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
    return ast.parse(_source(module).read_text(encoding="utf-8"))


def _source(module: str) -> Path:
    spec = importlib.util.find_spec("seglab")
    folder = Path(next(iter(spec.submodule_search_locations or []))) if spec else CONF.parent
    return folder.joinpath(*module.split(".")[1:]).with_suffix(".py")
