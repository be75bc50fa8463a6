"""What a run leaves behind as plain files: run.json, metrics.json, cases.csv, result.json."""

import csv
import hashlib
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seglab.errors import CheckpointError, ConfigError
from seglab.files import atomic_path, write_text
from seglab.run.moved import at_present
from seglab.run.secrets import scrub, scrub_config, scrub_override

PACKAGES = ("torch", "lightning", "hydra-core", "torchmetrics", "numpy", "segmentation-models-pytorch", "wandb")
ROOT = Path(__file__).resolve().parents[3]


def claim(run_dir: Path) -> None:
    """See that the run folder does not hold another run.

    Raises:
        ConfigError: when it does.
    """
    if (run_dir / "run.json").exists():
        raise ConfigError(
            "the run folder holds a run already",
            given=str(run_dir),
            allowed="a new folder, or resume",
            fix=f"type resume={run_dir} to go on with that run, or leave hydra.run.dir out",
        )


def write_run(run_dir: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write run.json and the uncommitted changes of the code at the start of a run."""
    commit, diff = git_state()
    if diff:
        write_text(run_dir / "git.diff", scrub(diff))
    config = scrub_config(config)
    content = {
        "argv": [scrub_override(text) for text in sys.argv],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": commit,
        "git_dirty": bool(diff),
        "python": platform.python_version(),
        "versions": versions(),
        "config_hash": config_hash(config),
        "config": config,
        **facts,
    }
    write_json(run_dir / "run.json", content)


def note_resume(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Add a resumption to run.json, whose configuration becomes the changed one."""
    content, new = read_run(run_dir), scrub_config({**config, "resume": None})
    start = {
        "argv": [scrub_override(text) for text in sys.argv],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": git_state()[0],
        "versions": versions(),
    }
    (run_dir / "result.json").unlink(missing_ok=True)  # of the start before; a finished run may be trained longer
    changes = {"config": new, "config_hash": config_hash(new), "resumed": [*content.get("resumed", []), start]}
    write_json(run_dir / "run.json", {**content, **changes})


def read_run(run_dir: Path) -> dict[str, Any]:
    """Read run.json of a run folder; classes that have moved since are named by where they stand now.

    Raises:
        CheckpointError: when the folder holds no run.
    """
    try:
        content: dict[str, Any] = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = sorted(str(file.parent) for file in run_dir.parent.glob("*/run.json"))[-3:]
        fix = f"use one of {', '.join(found)}" if found else "train first: python src/train.py data.root=phantom"
        if (run_dir / "first" / "run.json").is_file():
            fix = f"it stopped before its second stage: type its command again, with hydra.run.dir={run_dir}"
        raise CheckpointError(
            "this is not a run folder",
            given=f"{run_dir}: {error}",
            allowed="a folder with run.json, written by src/train.py",
            fix=fix,
        ) from error
    return {**content, "config": at_present(content.get("config"))}


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; a number that is not finite becomes null."""
    write_text(file, json.dumps(_finite(content), indent=2) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """Read what `write_json` has written."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV with the columns of the first row; NaN becomes an empty cell."""
    with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else ["case"])
        writer.writeheader()
        writer.writerows({key: "" if _finite(value) is None else value for key, value in row.items()} for row in rows)


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash of a plain configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def code_hash() -> str:
    """Hash of the package's source files, also where there is no git."""
    folder = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def git_state() -> tuple[str | None, str]:
    """Commit and uncommitted changes of the code; (None, "") outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        return commit, _git("diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None, ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
