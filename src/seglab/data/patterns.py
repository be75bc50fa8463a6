"""Patterns of file names: `{case}` and other fields in braces stand for a part of the path and give it a name."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from seglab.errors import ConfigError

_TOKEN = re.compile(r"\{(\w+)\}|(\*\*/)|(\*)|(\?)|([^{}*?]+)|([{}])")


class Pattern:
    """A pattern of paths below the root, such as `{group}/images/{case}.jpg`.

    `*` and `?` match within a name, `**/` any folders, `{field}` a part of a name, the same where it stands twice. An
    ending `.*` stands for any ending that the data set reads, and for none of a folder with a DICOM series. Without
    `{case}` the file's name without its ending is the case.

    Args:
        text: the pattern.
        key: its name in the configuration, for messages.
        suffixes: endings that are read, lower case.
        channels: what `{channel}` may stand for.

    Raises:
        ConfigError: an absolute pattern, one that leaves the root, or braces without a name.
    """

    def __init__(self, text: str, key: str, suffixes: Sequence[str], channels: Sequence[str] = ()) -> None:
        self.text, self.key = text, key
        self.suffixes = sorted(suffixes, key=len, reverse=True)
        tokens = list(_TOKEN.finditer(text.removesuffix(".*")))
        if not text or Path(text).is_absolute() or ".." in Path(text).parts or any(token[6] for token in tokens):
            raise ConfigError(
                f"{key} is no pattern of files below data.root",
                given=f"{key}={text}",
                allowed="a path below data.root with *, ?, **/ and fields such as {case} or {group}",
                fix=f"set {key}='images/{{case}}.png'",
            )
        self.any_ending = text.endswith(".*")
        self.fields = tuple(dict.fromkeys(token[1] for token in tokens if token[1]))
        self.is_one_file = not any(any(token.groups()[:4]) for token in tokens) and not self.any_ending
        """Whether only one file can match."""
        self.regex = re.compile("".join(_expressions(tokens, channels)))
        self.glob = _glob(tokens) + ("*" if self.any_ending and not _glob(tokens).endswith("*") else "")

    def find(self, root: Path, reads: Callable[[Path], bool]) -> dict[Path, dict[str, str]]:
        """Fields of all files that match, sorted; hidden ones do not count.

        Args:
            root: folder that the pattern starts from.
            reads: whether a file, or folder, without a known ending is read.
        """
        found: dict[Path, dict[str, str]] = {}
        for file in sorted(root.glob(self.glob)):
            parts = file.relative_to(root).parts
            if any(part.startswith(".") for part in parts):
                continue
            named = file.name.lower().endswith(tuple(self.suffixes))  # also what is not such a file, to be refused
            fields = self.fields_of("/".join(parts), has_ending=named)
            if fields is not None and (named or reads(file)):
                found[file] = fields
        return found

    def fields_of(self, path: str, *, has_ending: bool = True) -> dict[str, str] | None:
        """Fields of a path below the root, None when it does not match.

        Args:
            path: with slashes.
            has_ending: it ends as files that are read do; a folder with a series does not.
        """
        stem = self.stem(path) if has_ending else path
        match = self.regex.fullmatch(stem if self.any_ending else path)
        if match is None or (self.any_ending and has_ending and stem == path):
            return None
        return {**({} if "case" in self.fields else {"case": stem.rpartition("/")[2]}), **match.groupdict()}

    def stem(self, path: str) -> str:
        """A path without its ending; of several endings that are read, without the longest."""
        return next((path[: -len(end)] for end in self.suffixes if path.lower().endswith(end)), path)

    def fill(self, fields: dict[str, str], suffix: str) -> str:
        """A path that the pattern matches: fields filled in, `**/` dropped, `*` the case, `.*` the given ending."""
        text = self.text.removesuffix(".*").replace("**/", "")
        for name, value in fields.items():
            text = text.replace(f"{{{name}}}", value)
        return text.replace("*", fields["case"]).replace("?", "0") + (suffix if self.any_ending else "")


def _glob(tokens: Iterable[re.Match[str]]) -> str:
    """As pathlib takes it, which refuses two stars in a row beside other text."""
    text = ""
    for token in tokens:
        star = bool(token[1] or token[3])
        text += "" if star and text.endswith("*") else "*" if star else token[0]
    return text


def _expressions(tokens: Iterable[re.Match[str]], channels: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    parts = []
    for token in tokens:
        name, folders, star, one, plain, _ = token.groups()
        if name and name in seen:
            parts.append(f"(?P={name})")
        elif name:
            seen.add(name)
            inner = "|".join(map(re.escape, channels)) if name == "channel" and channels else "[^/]+?"
            parts.append(f"(?P<{name}>{inner})")
        else:
            parts.append("(?:[^/]+/)*" if folders else "[^/]*" if star else "[^/]" if one else re.escape(plain))
    return parts
