"""Archives that must be refused: a small folder as zip and tar, and what hostile or broken ones hold beside it."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from entry import Bad, Change, cut

FILES = {"set/images/a.txt": b"image" * 400, "set/masks/a.txt": b"mask" * 400, "set/readme": b"hello"}
Extra = Callable[[tarfile.TarFile], None]


def as_tar(packing: str = "gz", extra: Extra = lambda archive: None) -> Change:
    """Write archive.bin as tar, with something more in it."""

    def write(root: Path) -> None:
        with tarfile.open(root / "archive.bin", f"w:{packing}") as archive:
            for name, content in FILES.items():
                put(archive, name, content)
            extra(archive)

    return write


def as_zip(extra: Callable[[zipfile.ZipFile], None] = lambda archive: None) -> Change:
    """Write archive.bin as zip, with something more in it."""

    def write(root: Path) -> None:
        with zipfile.ZipFile(root / "archive.bin", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
            extra(archive)

    return write


def put(
    archive: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    """Add a member of any kind."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, link
    archive.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)


def tar_with(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Change:
    """A tar with one more member."""
    return as_tar(extra=lambda archive: put(archive, name, kind=kind, link=link))


def zip_with(name: str, mode: int = 0, content: bytes = b"x") -> Change:
    """A zip with one more member."""

    def extra(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename, info.external_attr, info.compress_type = name, mode << 16, zipfile.ZIP_DEFLATED
        archive.writestr(info, content)

    return as_zip(extra)


def through_link(archive: tarfile.TarFile) -> None:
    """A link to the folder above, and a file behind it."""
    put(archive, "set/way", kind=tarfile.SYMTYPE, link="../..")
    put(archive, "set/way/escaped.txt")


def many(archive: tarfile.TarFile) -> None:
    """More members than the test allows."""
    for number in range(300):
        put(archive, f"set/{number}", b"")


def encrypted(root: Path) -> None:
    """Mark every member of a zip as encrypted."""
    as_zip()(root)
    content = bytearray((root / "archive.bin").read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 8] |= 1
        place = content.find(b"PK\x01\x02", place + 4)
    (root / "archive.bin").write_bytes(content)


def wrong_sum(root: Path) -> None:
    """Change a byte of the packed content of a zip."""
    as_zip()(root)
    content = bytearray((root / "archive.bin").read_bytes())
    content[60] ^= 1
    (root / "archive.bin").write_bytes(content)


def holds_a_zip(root: Path) -> None:
    """A tar that ends with a zip, as is."""
    as_zip()(root)
    content = (root / "archive.bin").read_bytes()
    as_tar("", lambda archive: put(archive, "set/inner.zip", content))(root)


def between_files(root: Path) -> None:
    """Cut a tar behind its first file."""
    content = (root / "archive.bin").read_bytes()
    (root / "archive.bin").write_bytes(content[: 512 + 2048])


BOMB = bytes(3_000_000)
FILE = "archive.bin"

ARCHIVES = [
    Bad("tar with ..", as_tar(), tar_with("../escaped.txt"), FILE, "outside its folder"),
    Bad("tar with .. within", as_tar(), tar_with("set/../../escaped.txt"), FILE, "outside its folder"),
    Bad("tar with an absolute name", as_tar(), tar_with("/tmp/escaped.txt"), FILE, "outside its folder"),
    Bad("tar with a symlink", as_tar(), tar_with("set/l", tarfile.SYMTYPE, "/etc/passwd"), FILE, "link or a device"),
    Bad("tar with a file behind a symlink", as_tar(), as_tar(extra=through_link), FILE, "link or a device"),
    Bad("tar with a hard link", as_tar(), tar_with("set/l", tarfile.LNKTYPE, "set/readme"), FILE, "link or a device"),
    Bad("tar with a device", as_tar(), tar_with("set/null", tarfile.CHRTYPE), FILE, "link or a device"),
    Bad("tar with a pipe", as_tar(), tar_with("set/pipe", tarfile.FIFOTYPE), FILE, "link or a device"),
    Bad("tar with two names but for case", as_tar(), tar_with("set/README"), FILE, "take for one"),
    Bad("tar with folders but for case", as_tar(), tar_with("SET/images/b.txt"), FILE, "take for one"),
    Bad("tar with a file twice", as_tar(), tar_with("set/readme"), FILE, "take for one"),
    Bad("tar with a newline in a name", as_tar(), tar_with("set/a\nb"), FILE, "name that is not legal"),
    Bad("tar with a drive", as_tar(), tar_with("C:/escaped.txt"), FILE, "name that is not legal"),
    Bad("tar with a long name", as_tar(), tar_with(f"set/{'n' * 300}"), FILE, "name that is not legal"),
    Bad("tar bomb", as_tar(), as_tar("xz", lambda archive: put(archive, "set/b", BOMB)), FILE, "unpacks to too much"),
    Bad("tar with too many files", as_tar(), as_tar(extra=many), FILE, "too many files"),
    Bad("tar.gz cut", as_tar(), cut(FILE, 0.7), FILE, "cannot be unpacked"),
    Bad("tar.bz2 cut", as_tar("bz2"), cut(FILE, 0.7), FILE, "cannot be unpacked"),
    Bad("tar.xz cut", as_tar("xz"), cut(FILE, 0.7), FILE, "cannot be unpacked"),
    Bad("tar cut", as_tar(""), cut(FILE, 0.2), FILE, "cannot be unpacked"),
    Bad("tar cut between two files", as_tar(""), between_files, FILE, "mark at the end"),
    Bad("checksum of tar.gz gone", as_tar(), cut(FILE, 0.99), FILE, "cannot be unpacked"),
    Bad("zip with ..", as_zip(), zip_with("../escaped.txt"), FILE, "outside its folder"),
    Bad("zip with an absolute name", as_zip(), zip_with("/tmp/escaped.txt"), FILE, "outside its folder"),
    Bad("zip with backslashes", as_zip(), zip_with("..\\escaped.txt"), FILE, "name that is not legal"),
    Bad("zip with a symlink", as_zip(), zip_with("set/l", stat.S_IFLNK | 0o777), FILE, "link or a device"),
    Bad("zip with two names but for case", as_zip(), zip_with("set/Images/a.txt"), FILE, "take for one"),
    Bad("zip with a control character", as_zip(), zip_with("set/\x1b[2J"), FILE, "name that is not legal"),
    Bad("zip bomb", as_zip(), zip_with("set/b", content=BOMB), FILE, "unpacks to too much"),
    Bad("encrypted zip", as_zip(), encrypted, FILE, "link or a device|cannot be unpacked"),
    Bad("zip cut", as_zip(), cut(FILE, 0.9), FILE, "cannot be unpacked"),
    Bad("zip with a wrong checksum", as_zip(), wrong_sum, FILE, "cannot be unpacked"),
]
"""Each with what the report must say."""
