import hashlib
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seglab.data.download import Patience, download
from seglab.data.official import Official, check_license, choose, fetch, known_by, official_archives
from seglab.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 8000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
FAST = Patience(timeout_s=60, attempts=3, pause_s=0.01)


@dataclass
class Server:
    """What the loopback server has and does, and what it was asked for."""

    content: bytes = CONTENT
    version: str | None = '"one"'
    cuts: int = 0
    hangs: bool = False
    refuses_ranges: bool = False
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            is_same = self.headers.get("If-Range") == state.version and not state.refuses_ranges
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and is_same else 0
            rest = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            if state.version:
                self.send_header("ETag", state.version)
            self.end_headers()
            if state.cuts > 0 or state.hangs:
                state.cuts -= 1
                self.wfile.write(rest[: len(rest) // 2])
                self.wfile.flush()
                if state.hangs:
                    release.wait(60)
            else:
                self.wfile.write(rest)

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{running.server_port}/set.zip"
    yield state
    release.set()
    running.shutdown()
    running.server_close()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_whole_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=FAST)
        assert (tmp_path / "a.zip").read_bytes() == CONTENT and names(tmp_path) == ["a.zip"]
    assert server.ranges == [None]


def test_a_cut_connection_is_continued_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.cuts = 2
    download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=FAST)
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + (len(CONTENT) - half) // 2}-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT and names(tmp_path) == ["a.zip"]


def test_what_came_before_a_failure_is_continued_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.cuts = 99
    with pytest.raises(DataError, match="3 attempts, the last ended with EOFError") as caught:
        download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=FAST)
    assert "again later" in caught.value.fix
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]
    kept = (tmp_path / "a.zip.part").stat().st_size
    server.cuts, server.ranges = 0, []
    download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=FAST)
    assert server.ranges == [f"bytes={kept}-"] and names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("change", ["new version", "no ranges", "no version"])
def test_a_rest_is_never_put_behind_another_file(change: str, server: Server, tmp_path: Path) -> None:
    server.cuts = 99
    server.version = None if change == "no version" else '"one"'
    with pytest.raises(DataError):
        download(server.address, tmp_path / "a.zip", checksum=None, patience=FAST)
    server.cuts, server.content = 0, CONTENT[::-1]
    server.version = '"two"' if change == "new version" else server.version
    server.refuses_ranges = change == "no ranges"
    download(server.address, tmp_path / "a.zip", checksum=None, patience=FAST)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT[::-1]


def test_a_wrong_checksum_is_refused_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be fetched[\s\S]*does not match") as caught:
        download(server.address, tmp_path / "a.zip", checksum="md5:" + "0" * 32, patience=FAST)
    assert "md5:000" in caught.value.allowed and names(tmp_path) == []


def test_a_file_that_changed_since_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"old")
    download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=FAST)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_404_is_told_at_once_and_503_after_all_attempts(server: Server, tmp_path: Path) -> None:
    for status, n_tries in ((404, 1), (503, 3)):
        server.status, server.ranges = status, []
        with pytest.raises(DataError, match=f"HTTP {status}"):
            download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=FAST)
        assert len(server.ranges) == n_tries and names(tmp_path) == []


def test_a_server_that_hangs_is_given_up(server: Server, tmp_path: Path) -> None:
    server.hangs = True
    start = time.monotonic()
    with pytest.raises(DataError, match="TimeoutError"):
        download(server.address, tmp_path / "a.zip", checksum=SHA256, patience=replace(FAST, timeout_s=0.5))
    assert time.monotonic() - start < 30


def test_no_server_no_web_address_and_no_room_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 attempts, the last ended with URLError"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", checksum=None, patience=FAST)
    with pytest.raises(DataError, match="no web address"):
        download("file:///etc/passwd", tmp_path / "a.zip", checksum=None)
    with pytest.raises(DataError, match="no room for"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", checksum=None, size_bytes=10**18)
    assert names(tmp_path) == []


def test_a_file_without_a_published_checksum_is_named_with_its_own(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    download(server.address, tmp_path / "a.zip", checksum=None, patience=FAST)
    assert SHA256.removeprefix("sha256:") in caplog.text


def offered(server: Server, tmp_path: Path, **changes: Any) -> Official:
    """An archive on the loopback server: two photos with masks, and something else."""
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for name in ("top/train_img/a.jpg", "top/train_lab/a.png", "top/test_img/b.jpg", "top/test_lab/b.png", "top/x"):
            archive.writestr(name, name)
    server.content = (tmp_path / "made.zip").read_bytes()
    known = official_archives()["deepcrack"]
    checksum = f"sha256:{hashlib.sha256(server.content).hexdigest()}"
    return Official(**{**vars(known), "address": server.address, "checksum": checksum, **changes})


def test_an_archive_without_a_published_checksum_is_refused_with_its_own_until_that_is_accepted(
    server: Server, tmp_path: Path
) -> None:
    archive = offered(server, tmp_path, checksum=None)
    own = f"sha256:{hashlib.sha256(server.content).hexdigest()}"
    with pytest.raises(DataError, match=f"no checksum of deepcrack is published[\\s\\S]*add data.checksum={own}"):
        fetch(known_by(archive, None), tmp_path / "crack", tmp_path / "cache", FAST)
    assert not (tmp_path / "crack").exists()
    server.content = b"what came before is not fetched again"
    assert (fetch(known_by(archive, own), tmp_path / "crack", tmp_path / "cache", FAST) / "images" / "a.jpg").is_file()
    for other, given in ((archive, own[:-1]), (known_by(archive, own), own)):
        with pytest.raises(ConfigError, match="cannot be set like this"):
            known_by(other, given)
    (tmp_path / "cache" / "downloads").rename(tmp_path / "aside")
    with pytest.raises(DataError, match="checksum"):
        fetch(known_by(archive, own), tmp_path / "other", tmp_path / "cache", FAST)


def test_an_archive_is_fetched_unpacked_and_arranged(server: Server, tmp_path: Path) -> None:
    root = fetch(offered(server, tmp_path), tmp_path / "data" / "crack", tmp_path / "cache", FAST)
    files = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    assert files == ["images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png"]
    assert names(tmp_path / "data") == ["crack"]
    with pytest.raises(DataError, match="is there already"):
        fetch(offered(server, tmp_path), root, tmp_path / "cache", FAST)
    fetch(offered(server, tmp_path), tmp_path / "again", tmp_path / "cache", FAST)
    assert len(server.ranges) == 1  # the second time from what was kept


def test_an_archive_that_is_not_as_known_leaves_nothing(server: Server, tmp_path: Path) -> None:
    for changes, reason in (
        ({"arrange": {"nowhere/.*": "x"}}, "5 files such as top"),
        ({"arrange": {r".*\.png": r"masks/\g<0>", r".*\.bmp": "x"}}, r"nothing for \.\*\\\.bmp among 5 files"),
        ({"arrange": {r".*\.jpg": "images/one.jpg"}}, "two files for images/one.jpg"),
    ):
        with pytest.raises(DataError, match=reason):
            fetch(offered(server, tmp_path, **changes), tmp_path / "data" / "crack", tmp_path / "cache", FAST)
        assert names(tmp_path / "data") == []


def test_nothing_is_fetched_before_its_licence_is_accepted() -> None:
    archive = official_archives()["msd_liver"]
    with pytest.raises(ConfigError, match=r"CC BY-SA 4\.0[\s\S]*data\.accept_license=true") as caught:
        check_license(archive, is_accepted=False)
    assert "28.9 GB" in caught.value.given
    check_license(archive, is_accepted=True)


def test_an_archive_is_chosen_by_data_set_and_name() -> None:
    archives = official_archives()
    assert choose(archives, "lits", None).name == "msd_liver"
    assert choose(archives, "crack", "crackforest").name == "crackforest"
    for data, name in (("em", None), ("lits", "deepcrack")):
        with pytest.raises(ConfigError, match=r"no official archive[\s\S]*data=lits data\.archive=msd_liver"):
            choose(archives, data, name)


def test_the_table_is_sound() -> None:
    for archive in official_archives().values():
        assert archive.address.startswith("https://") and archive.license and archive.license_address
        kind, _, digits = (archive.checksum or "md5:" + "0" * 32).partition(":")
        assert len(bytes.fromhex(digits)) == {"md5": 16, "sha256": 32}[kind]
    assert {archive.data for archive in official_archives().values()} == {"lits", "crack", "satellite"}


def test_the_page_of_inputs_names_every_archive_with_its_licence() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/inputs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| .* \| (.*) \|$", page, flags=re.MULTILINE)
    assert rows == [(archive.data, archive.name, archive.license) for archive in official_archives().values()]
