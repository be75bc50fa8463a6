"""Downloads that may be cut: a partial file is kept and continued, and nothing is used before its checksum is right."""

import http.client
import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from seglab.errors import DataError
from seglab.extras import load

SCHEMES = ("https://", "http://")
_CHUNK = 1 << 20
_CUT = (TimeoutError, ConnectionError, http.client.HTTPException, URLError, EOFError)

log = logging.getLogger("seglab")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Args:
        timeout_s: without a byte, after which a connection counts as hung.
        attempts: connections that are tried, each goes on where the last was cut.
        pause_s: before the second attempt, doubled before each further one.
    """

    timeout_s: float = 60.0
    attempts: int = 5
    pause_s: float = 2.0


def download(
    address: str, target: Path, *, checksum: str | None, size_bytes: int | None = None, patience: Patience | None = None
) -> Path:
    """Fetch a file unless it is there already with the right checksum.

    What was fetched before a cut stays beside the target as `.part` and is continued, also by a later call.

    Args:
        address: http or https.
        target: final path.
        checksum: "sha256:..." or "md5:..."; None when none is known: then a file that is there is taken as it is.
        size_bytes: expected, to see that the disk has room.
        patience: None for the defaults.

    Returns:
        `target`.

    Raises:
        DataError: no such file on the server, no answer, a cut that goes on, another checksum, or no room.
        ConfigError: pooch is not installed.
    """
    if not address.startswith(SCHEMES):
        raise _failed(address, "no web address", f"an address that starts with {' or '.join(SCHEMES)}")
    pooch = load("pooch", "download", "downloading data")
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_room(target, size_bytes)
    fetcher = _Resuming(target, patience or Patience())
    try:
        # pooch looks whether the file is there, compares the checksum and renames; the transfer is ours, as its own
        # starts anew after every cut
        name, place = target.name, target.parent
        pooch.retrieve(address, known_hash=checksum, fname=name, path=place, downloader=fetcher)
    except ValueError as error:
        raise _failed(address, " ".join(str(error).split()), f"a file with the checksum {checksum}") from error
    if checksum is None:
        log.warning("%s has no published checksum; its sha256 is %s", target.name, pooch.file_hash(str(target)))
    return target


@dataclass(frozen=True)
class _Resuming:
    """A downloader as pooch calls it."""

    target: Path
    patience: Patience

    def __call__(self, address: str, output_file: str, _pooch: Any) -> None:
        part = self.target.with_name(f"{self.target.name}.part")
        self._until_whole(lambda: _transfer(address, part, self.patience.timeout_s), address)
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)
        shutil.move(part, output_file)

    def _until_whole(self, transfer: Callable[[], None], address: str) -> None:
        for attempt in range(1, self.patience.attempts + 1):
            try:
                transfer()
            except HTTPError as error:
                if error.code < 500 or attempt == self.patience.attempts:
                    raise _failed(
                        address, f"HTTP {error.code} {error.reason}", "an address that the server knows"
                    ) from error
            except _CUT as error:
                if attempt == self.patience.attempts:
                    given = f"{attempt} attempts, the last ended with {type(error).__name__}: {error}"
                    raise _failed(address, given, "a connection that lasts; what came is kept and continued") from error
            else:
                return
            time.sleep(self.patience.pause_s * 2 ** (attempt - 1))


def _transfer(address: str, part: Path, timeout_s: float) -> None:
    """One connection: goes on behind what is there, when the server still has the same file."""
    mark = part.with_name(f"{part.name}.json")
    known = json.loads(mark.read_text()) if part.is_file() and mark.is_file() else None
    start = part.stat().st_size if known == {"address": address, "version": (known or {}).get("version")} else 0
    headers = {"Accept-Encoding": "identity"}
    if start and known:
        headers |= {"Range": f"bytes={start}-", "If-Range": known["version"]}
    try:
        with urlopen(Request(address, headers=headers), timeout=timeout_s) as answer:  # noqa: S310  # http(s) only
            start = start if answer.status == http.client.PARTIAL_CONTENT else 0
            total = _total(answer, start)
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if version and not version.startswith("W/"):
                mark.write_text(json.dumps({"address": address, "version": version}))
            else:
                mark.unlink(missing_ok=True)  # without a version nobody knows whether a rest belongs to it
            with part.open("ab" if start else "wb") as sink:
                while chunk := answer.read(_CHUNK):
                    sink.write(chunk)
    except HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            raise EOFError("the partial file was longer than the server's") from error
        raise
    if total is not None and part.stat().st_size != total:
        raise EOFError(f"{part.stat().st_size} of {total} bytes came")


def _total(answer: Any, start: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return None if length is None else start + int(length)


def _check_room(target: Path, size_bytes: int | None) -> None:
    part = target.with_name(f"{target.name}.part")
    there = max((file.stat().st_size for file in (target, part) if file.is_file()), default=0)
    free = shutil.disk_usage(target.parent).free
    if size_bytes is not None and free < size_bytes - there:
        raise DataError(
            f"there is no room for {target.name}",
            given=f"{free} bytes free in {target.parent}",
            allowed=f"{size_bytes - there} bytes, and as much again to unpack them",
            fix="set paths.cache_dir=<folder on a larger disk>",
        )


def _failed(address: str, given: str, allowed: str) -> DataError:
    return DataError(
        f"{address} could not be fetched",
        given=given,
        allowed=allowed,
        fix="type the same command again later, or fetch the file by hand and set data.root=<unpacked folder>",
    )
