"""Archives unpacked without trust: nothing leaves the target folder, nothing grows beyond a limit, all or nothing.

Every member is judged by its name and kind before a byte is written, and its bytes are counted while they are written;
what an archive says of sizes is not believed. Links and devices are refused, not skipped: data sets have none.
"""

import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn
from uuid import uuid4

from seglab.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LONGEST_NAME = 255
_CHUNK = 1 << 20
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError)


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to.

    Args:
        total_bytes: of all files together.
        n_members: files and folders.
        ratio: unpacked bytes for each byte of the archive; deflate cannot exceed 1032, images stay below 100.
        ratio_from: bytes below which the ratio does not count: small masks of one value are legal.
    """

    total_bytes: int = 500_000_000_000
    n_members: int = 1_000_000
    ratio: int = 200
    ratio_from: int = 50_000_000


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_plain: bool
    entry: Any


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Path:
    """Unpack a zip or tar archive into a new folder that appears when it is complete.

    Args:
        archive: .zip, .tar, or a tar packed with gzip, bzip2 or xz; judged by content.
        target: must not exist, or be empty.
        limits: None for the defaults.

    Returns:
        `target`.

    Raises:
        DataError: no archive or a broken one; a member that would leave the folder (.., absolute names), that is no
            plain file or folder, whose name is not legal or the same as another's but for case; or too much of it.
    """
    limits = limits or Limits()
    _check_target(archive, target)
    temporary = target.with_name(f".part-{uuid4().hex[:8]}-{target.name}"[:LONGEST_NAME])
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.mkdir()
        with _translated(archive), _opened(archive) as opened:
            _write_all(opened, temporary, archive, limits)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write_all(opened: Any, folder: Path, archive: Path, limits: Limits) -> None:
    allowed_bytes = min(limits.total_bytes, max(limits.ratio_from, limits.ratio * archive.stat().st_size))
    known: dict[str, str] = {}
    written = 0
    for number, member in enumerate(_members(opened), start=1):
        if number > limits.n_members:
            _refuse(archive, "holds too many files", f"more than {limits.n_members}", f"{limits.n_members} members")
        parts = _checked_parts(member, archive, known)
        path = folder.joinpath(*parts)
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder.resolve() not in path.resolve().parents:
            _refuse(archive, "would write outside its folder", repr(member.name), "names below the folder")
        with _reading(opened, member) as source, path.open("xb") as sink:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > allowed_bytes:
                    given = f"more than {allowed_bytes} bytes out of {archive.stat().st_size}, at {member.name!r}"
                    allowed = f"{limits.total_bytes} bytes, and {limits.ratio} times the size of the archive"
                    _refuse(archive, "unpacks to too much", given, allowed)
                sink.write(chunk)


def _checked_parts(member: _Member, archive: Path, known: dict[str, str]) -> tuple[str, ...]:
    """Parts of a member's path; `known` maps what a file system without case sees to what was seen first."""
    name = member.name
    parts = PurePosixPath(name).parts
    is_odd = not parts or re.search(r"[\x00-\x1f\x7f\\]", name) or re.match(r"[A-Za-z]:", name) or "\ufffd" in name
    if name.startswith("/") or ".." in parts:
        _refuse(archive, "would write outside its folder", repr(name), "names below the folder, without ..")
    if is_odd or any(len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME for part in parts):
        _refuse(
            archive, "holds a name that is not legal", ascii(name), "names without control characters, not too long"
        )
    if not member.is_plain:
        _refuse(archive, "holds a link or a device", repr(name), "plain files and folders")
    for depth in range(1, len(parts) + 1):
        own = "/".join(parts[:depth])
        folded = unicodedata.normalize("NFC", own).casefold()
        is_file = depth == len(parts) and not member.is_folder
        if known.setdefault(folded, own) != own or (is_file and f"{folded}\n" in known):
            given = f"{known[folded]!r} and {own!r}"
            _refuse(
                archive, "holds two names that some file systems take for one", given, "names that differ in letters"
            )
        if is_file:
            known[f"{folded}\n"] = own
    return parts


def _check_target(archive: Path, target: Path) -> None:
    if not archive.is_file():
        _refuse(archive, "does not exist or is no file", str(archive), f"a file ending in {', '.join(SUFFIXES)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(
            f"{target} is there already",
            given=f"{archive.name} to be unpacked into it",
            allowed="a folder that does not exist yet, or an empty one",
            fix="remove it, or choose another data.root",
        )


@contextmanager
def _translated(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_BROKEN, zlib.error, LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the archive
        _refuse(archive, "cannot be unpacked", f"{type(error).__name__}: {error}", "a complete zip or tar archive")


@contextmanager
def _opened(archive: Path) -> Iterator[Any]:
    with archive.open("rb") as stream:
        is_zip = stream.read(4) in _ZIP_STARTS  # a zip within a tar also ends like a zip
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    else:
        with tarfile.open(archive, errorlevel=2) as opened:
            yield opened
            _check_end(opened)


def _check_end(opened: tarfile.TarFile) -> None:
    """See that a tar ends with its mark, or it was cut between two files; and read on to the checksum behind it."""
    stream: Any = opened.fileobj
    stream.seek(opened.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError("the mark at the end of the archive is missing")
    if len(stream.read(_CHUNK)) == _CHUNK:
        raise ValueError("the archive goes on far behind its end")


def _members(opened: Any) -> Iterator[_Member]:
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not info.flag_bits & 1
            yield _Member(info.orig_filename, info.is_dir(), is_plain, info)
    else:
        for entry in opened:
            yield _Member(entry.name, entry.isdir(), entry.isreg() or entry.isdir(), entry)


@contextmanager
def _reading(opened: Any, member: _Member) -> Iterator[IO[bytes]]:
    source = opened.open(member.entry) if isinstance(opened, zipfile.ZipFile) else opened.extractfile(member.entry)
    with source:
        yield source


def _refuse(archive: Path, what: str, given: str, allowed: str) -> NoReturn:
    raise DataError(
        f"{archive} {what}",
        given=given,
        allowed=allowed,
        fix="fetch it again from its official address and compare its checksum; nothing was unpacked",
    )
