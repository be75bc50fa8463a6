"""The site that `make docs` builds: whole, linked in itself, and without a word to another host."""

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOREIGN = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", flags=re.IGNORECASE)
IN_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)")
FETCHED = {"script": "src", "link": "href", "img": "src", "source": "src", "iframe": "src", "object": "data"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does; --strict refuses links that lead nowhere, but not with --quiet, which hides them."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Tags(HTMLParser):
    """The start tags of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def test_every_page_is_in_the_navigation(site: Path) -> None:
    pages = {file.relative_to(DOCS).with_suffix(".html").as_posix() for file in DOCS.rglob("*.md")}
    anchors = [tag for name, tag in Tags(site / "api.html").found if name == "a" and "md-nav" in tag.get("class", "")]
    links = {tag["href"] for tag in anchors if not tag["href"].startswith("#")}
    assert len(pages) > 40
    assert pages | {"index.html"} <= links
    assert not [link for link in links if not (site / link).is_file()]


def test_links_of_the_readme_and_out_of_docs_lead_to_pages(site: Path) -> None:
    home = {tag["href"] for name, tag in Tags(site / "index.html").found if name == "a"}
    card = {tag["href"] for name, tag in Tags(site / "zoo/unet.html").found if name == "a"}
    assert {"own_data.html", "zoo/index.html", "files/LICENSE.html"} <= home
    assert {"../files/src/seglab/nets/unet.py.html", "../files/conf/model/unet.yaml.html"} <= card
    assert "class UNet" in text(site / "files/src/seglab/nets/unet.py.html")


def test_no_page_asks_a_foreign_host_for_anything(site: Path) -> None:
    pages = {page: Tags(page).found for page in site.rglob("*.html")}
    asked = [tag[FETCHED[name]] for found in pages.values() for name, tag in found if FETCHED.get(name, "") in tag]
    styles = [file.read_text(encoding="utf-8") for file in (*pages, *site.rglob("*.css"), *site.rglob("*.svg"))]
    assert len(asked) > len(pages)
    assert not [url for url in asked if FOREIGN.match(url)]
    assert not [url for style in styles for url in IN_CSS.findall(style)]
    classes = {tag.get("class", "") for found in pages.values() for _, tag in found}
    assert "mermaid" not in classes  # the theme would fetch what draws it


def test_the_python_interface_shows_signatures_and_their_arguments(site: Path) -> None:
    shown = text(site / "api.html")
    assert "load_task(file: Path) -> SegmentationTask" in shown
    assert re.search(r"SegmentationData\(\s*\*,\s*root: str,", shown)
    assert "probability that a patch is centred on a pixel of a class" in shown
    names = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(names) > 30 and all(f'id="{name}"' in (site / "api.html").read_text(encoding="utf-8") for name in names)


def test_the_search_knows_the_pages_but_not_the_code(site: Path) -> None:
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    assert '"location":"own_data.html' in index and '"location":"api.html' in index
    assert '"location":"files/src' not in index


def text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))
