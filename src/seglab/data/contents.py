"""What prepared data depends on, as hashes: the contents of files, and the code that prepares them."""

import ast
import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from seglab.files import write_text

Stamp = list[int]
"""Size, time of change of the content and of the entry, in ns: when one differs a file is read again. Of a folder their
sum and the latest times, and the number of its files; empty of none."""


class Contents:
    """sha256 of files, and of folders with a DICOM series, each read once as long as the system says it is the same.

    The time of change of the entry (ctime) cannot be set back by a program, so a file that was exchanged under its old
    name, size and date is found too.

    Args:
        file: JSON in which the hashes are kept from one start to the next.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, tuple[Stamp, str]] = {}
        if file.is_file():
            self.known = {path: (stamp, digest) for path, (stamp, digest) in _read(file).items()}

    def hashes(self, files: Iterable[Path]) -> dict[Path, str]:
        """The hash of each file.

        Raises:
            OSError: a file that cannot be read.
        """
        wanted = {file: _stamp(file) for file in files}
        new = [file for file, stamp in wanted.items() if self._known(file, stamp) is None]
        if new:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                for file, digest in zip(new, pool.map(_hash, new), strict=True):
                    self.known[_name(file)] = (wanted[file], digest)
            write_text(self.file, json.dumps(self.known))
        return {file: self.known[_name(file)][1] for file in wanted}

    def _known(self, file: Path, stamp: Stamp) -> str | None:
        known = self.known.get(_name(file))
        return known[1] if known is not None and known[0] == stamp else None


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder that of the names and contents of its files.

    Raises:
        OSError: what cannot be read.
    """
    if path.is_dir():
        digest = hashlib.sha256()
        for file in files_within(path):
            digest.update(f"{file.name}\0{content_hash(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_within(path: Path) -> list[Path]:
    """The files of a folder, by name; a file is its own."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def forget_missing(file: Path) -> None:
    """Leave out of a table of hashes what does not exist any more."""
    if file.is_file():
        kept = {path: known for path, known in _read(file).items() if Path(path).exists()}
        write_text(file, json.dumps(kept))


@cache
def code_version(modules: tuple[ModuleType, ...]) -> str:
    """Hash of what modules do: their code without comments, docstrings and layout.

    Args:
        modules: with source files.
    """
    digest = hashlib.sha256()
    for module in sorted(modules, key=lambda each: each.__name__):
        tree = ast.parse(Path(str(module.__file__)).read_bytes())
        digest.update(f"{module.__name__}\0{ast.dump(_without_docstrings(tree))}".encode())
    return digest.hexdigest()[:16]


def key_of(*parts: Any) -> str:
    """Twelve hexadecimal digits that stand for plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(path: Path) -> str:
    return content_hash(path) if path.exists() else "missing"  # which reading it will tell


def _stamp(path: Path) -> Stamp:
    if not path.exists():
        return []
    states = [file.stat() for file in files_within(path)]
    if path.is_dir():
        states.append(path.stat())
    latest = [max(state.st_mtime_ns for state in states), max(state.st_ctime_ns for state in states)]
    return [sum(state.st_size for state in states), *latest, *([len(states)] if path.is_dir() else [])]


def _name(file: Path) -> str:
    return str(file.absolute())


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # a table that was damaged is made anew
        return {}
    return content
