"""What mkdocs.yml has no words for: the README as home, pages of the files that pages link to, patterns in nav."""

import json
import posixpath
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()[^)\s#:]+")


def on_config(config: MkDocsConfig) -> None:
    """Put in the place of each pattern of nav the pages that no other entry names, under their headings."""
    named = {uri for uri in _leaves(config.nav) if "*" not in uri}
    config.nav = _filled(config.nav, named)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the README and every file outside of docs/ that a page links to; make the links lead there."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    linked: set[str] = set()
    for page in list(files.documentation_pages()):
        page.content_string = LINK.sub(partial(_in_site, page=page.src_uri, linked=linked), page.content_string)
    for path in sorted(linked):
        files.append(File.generated(config, _uri(path), content=_shown(path)))


def _in_site(link: re.Match[str], page: str, linked: set[str]) -> str:
    """Where a link of a page leads in the site; one to no file stays as it is, for --strict to refuse."""
    source = "README.md" if page == "index.md" else f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[0]))
    if not (ROOT / path).is_file():
        return link[0]
    uri = _uri(path)
    if uri.startswith("files/"):
        linked.add(path)
    return posixpath.relpath(uri, posixpath.dirname(page) or ".")


def _uri(path: str) -> str:
    """Where a file of the repository stands in the site."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}.md"


def _shown(path: str) -> str:
    """A page of a file: a notebook cell by cell, another file as it is and out of the search."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(_fenced(source, "python") if kind == "code" else source for kind, source in cells)
    language = Path(path).suffix.removeprefix(".") or "text"
    return f"---\nsearch: {{exclude: true}}\n---\n\n# `{path}`\n\n{_fenced(text, language)}"


def _fenced(text: str, language: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _leaves(entry)


def _filled(nav: Any, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _filled(entry, named) for title, entry in nav.items()}
    if not isinstance(nav, list):
        return nav
    filled: list[Any] = []
    for entry in nav:
        filled += _matching(entry, named) if isinstance(entry, str) and "*" in entry else [_filled(entry, named)]
    return filled


def _matching(pattern: str, named: set[str]) -> list[dict[str, str]]:
    docs = ROOT / "docs"
    uris = [file.relative_to(docs).as_posix() for file in sorted(docs.glob(pattern))]
    return [{_heading(docs / uri): uri} for uri in uris if uri not in named]


def _heading(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), file.stem)
