"""An entry of the corpus: a good twin, and what makes it bad."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Change = Callable[[Path], None]


@dataclass(frozen=True)
class Bad:
    """A data set that must be refused.

    Args:
        name: what is wrong.
        twin: writes the good twin into an empty folder.
        spoil: makes the bad input of it.
        file: name that the report must tell.
        reason: what it must match.
    """

    name: str
    twin: Change
    spoil: Change
    file: str
    reason: str


@dataclass(frozen=True)
class Odd:
    """A data set that a written rule repairs: it must read exactly like its twin.

    Args:
        name: what is odd.
        twin: writes the good twin into an empty folder.
        spoil: makes the odd input of it.
        tolerance: largest difference of image values.
    """

    name: str
    twin: Change
    spoil: Change
    tolerance: float = 0.0


def cut(file: str, share: float) -> Change:
    """Keep only the first part of a file."""

    def change(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: int(len(content) * share)])

    return change


def holds(file: str, content: bytes) -> Change:
    """Put other content into a file."""

    def change(root: Path) -> None:
        (root / file).write_bytes(content)

    return change


def flips(file: str, place: float) -> Change:
    """Change one byte of a file at a share of its length."""

    def change(root: Path) -> None:
        content = bytearray((root / file).read_bytes())
        content[int(len(content) * place)] ^= 0x10
        (root / file).write_bytes(content)

    return change


def lacks(file: str) -> Change:
    """Remove a file."""
    return lambda root: (root / file).unlink()


def is_folder(file: str) -> Change:
    """Put a folder in the place of a file."""

    def change(root: Path) -> None:
        (root / file).unlink()
        (root / file).mkdir()

    return change


def is_link(file: str, target: str) -> Change:
    """Put a symbolic link in the place of a file."""

    def change(root: Path) -> None:
        (root / file).unlink()
        (root / file).symlink_to(target)

    return change


HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 40
