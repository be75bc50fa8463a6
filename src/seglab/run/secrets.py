"""Keeps passwords and keys out of everything that a run writes: configuration, command line, errors, W&B."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.files import write_text

HIDDEN = "***"
Known = Sequence[tuple[str, str]]

NAMES = re.compile(
    r"token$|passw(or)?d|passphrase|pwd$|secret|api_?key|access_?key|private_?key|account_?key|auth(orization)?$"
    r"|credential|bearer|cookie",
    re.IGNORECASE,
)
"""Names of keys and of environment variables that hold a secret, when what they hold is text."""

BARE_NAME = r"(?:(?<=postgresql://)|(?<=postgresql\+psycopg://))[^/\s'\":@]+@"
"""A user without a password in the address of a study, which a trial that goes on has to find again."""

SHAPES = (
    (re.compile(rf"(?<=://)(?!{BARE_NAME})(?![^/\s]*\$\{{)[^/\s'\"]+(?=@)"), HIDDEN),  # user-info of a URL
    (re.compile(r"([?&;][\w-]*(?:token|key|secret|passw|sig)[\w-]*=)[^&;\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[\w+/.~-]{8,}=*", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(?:gh[pousr]_|hf_|glpat-|github_pat_|sk-(?:proj-|ant-)?|wandb_v\d_)\w{20,}[\w-]*"), HIDDEN),
    (re.compile(r"\b(?:xox[abp]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+)"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), HIDDEN),
    (re.compile(r"(?<![0-9a-f/.])[0-9a-f]{40}(?![0-9a-f/.])"), HIDDEN),  # a W&B key; in a path it is a commit
)
ASSIGNED = re.compile(r"(?P<name>[\w-]+)(?P<sign>['\"]?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,{}\[\]]+)")


def scrub(text: str) -> str:
    """A text, such as an error, without the secrets of the environment and without what has the shape of one."""
    for _, value in _of_environment():
        text = text.replace(value, HIDDEN)
    return _without_shapes(text)


def scrub_override(text: str) -> str:
    """An argument of the command line without secrets, also with a dictionary in it: a.token=***."""
    return scrub(ASSIGNED.sub(_hide_assigned, text))


def hide_secrets(file: Path) -> None:
    """Write a file that somebody else wrote, if it is there, without secrets."""
    if file.is_file():
        write_text(file, "".join(map(scrub_override, file.read_text("utf-8").splitlines(keepends=True))))


def scrub_config(config: Any) -> Any:
    """A plain configuration without secrets: one of the environment as `${oc.env:NAME}`, others as ***.

    Args:
        config: resolved: mappings, sequences and values.
    """
    return _scrubbed(config, _of_environment())


def _scrubbed(config: Any, known: Known) -> Any:
    if isinstance(config, Mapping):
        return {key: _scrubbed_item(str(key), value, known) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_scrubbed(item, known) for item in config]
    return _with_references(config, known) if isinstance(config, str) else config


def _scrubbed_item(key: str, value: Any, known: Known) -> Any:
    if not (isinstance(value, str) and value and NAMES.search(key)):
        return _scrubbed(value, known)
    referring = _with_references(value, known)
    return referring if "${oc.env:" in referring else HIDDEN


def _with_references(text: str, known: Known) -> str:
    for name, value in known:
        text = text.replace(value, f"${{oc.env:{name}}}")
    return _without_shapes(text)


def _without_shapes(text: str) -> str:
    for shape, instead in SHAPES:
        text = shape.sub(instead, text)
    return text


def _hide_assigned(found: re.Match[str]) -> str:
    name, sign, value = found["name"], found["sign"], found["value"]
    if not NAMES.search(name):
        return f"{name}{sign}{ASSIGNED.sub(_hide_assigned, value)}"
    is_plain = value.startswith("${") or value in ("null", "true", "false")
    return found[0] if is_plain else f"{name}{sign}{HIDDEN}"


def _of_environment() -> Known:
    """Name and value of environment variables that hold a secret by name or shape, the longest first."""
    found = []
    for name, value in sorted(os.environ.items(), key=lambda item: -len(item[1])):
        is_named = NAMES.search(name) and not Path(value).exists()
        if 8 <= len(value) <= 4096 and (is_named or _without_shapes(value) != value):
            found.append((name, value))
    return found
