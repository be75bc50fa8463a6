"""Reads what W&B wrote offline: a .wandb file is a LevelDB log of protobuf records."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024
HEADER = 7  # crc32 (4), length (2), type (1: full, 2: first, 3: middle, 4: last)


@dataclass
class WandbLog:
    """What one run told W&B."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, tuple[str, set[str]]] = field(default_factory=dict)  # axis and summaries
    arguments: list[str] = field(default_factory=list)
    alerts: list[tuple[str, str]] = field(default_factory=list)
    artifacts: list["Artifact"] = field(default_factory=list)
    exit_code: int | None = None
    folder: Path = Path()

    def logged(self) -> set[str]:
        """Names of everything that was logged; those of parts, such as name.masks.error.path, too."""
        return set().union(*self.history)

    def table(self, key: str) -> dict[str, Any]:
        """Columns and data of a logged table."""
        (row,) = (row for row in self.history if f"{key}.path" in row)
        return json.loads((self.folder / "files" / row[f"{key}.path"]).read_text(encoding="utf-8"))

    def layers(self, key: str) -> dict[str, Path]:
        """The label maps over the picture of a key, by name; the last ones."""
        row = [row for row in self.history if f"{key}.all_masks" in row][-1]
        (picture,) = row[f"{key}.all_masks"]
        return {name: self.folder / "files" / mask["path"] for name, mask in picture.items()}

    def artifact(self, kind: str) -> "Artifact":
        """The last artifact of a type."""
        return [artifact for artifact in self.artifacts if artifact.kind == kind][-1]


@dataclass
class Artifact:
    """What was sent as an artifact: names of the files, and where they lie."""

    kind: str
    name: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, str]


def read_wandb(run_dir: Path, patience_s: float = 60.0, pattern: str = "offline-run-*") -> WandbLog:
    """The last offline run inside a run folder; W&B's own process may be a moment late with the end of it.

    Args:
        run_dir: folder of the run.
        patience_s: to wait for the end.
        pattern: of W&B's folder; run-* for one that was online.
    """
    deadline = time.monotonic() + patience_s
    file = sorted(run_dir.glob(f"wandb/{pattern}/*.wandb"))[-1]
    log = _read(file)
    while log.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
        log = _read(file)
    return log


def offline_files(run_dir: Path) -> list[Path]:
    """Record files of all W&B runs inside a run folder, oldest first."""
    return sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))


def _read(file: Path) -> WandbLog:
    log = WandbLog(folder=file.parent)
    for record in _records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            log.run_id, log.name, log.group, log.job_type = run.run_id, run.display_name, run.run_group, run.job_type
            log.notes, log.tags = run.notes, list(run.tags)
            log.config |= _values(run.config.update)
        elif kind == "config":
            log.config |= _values(record.config.update)
        elif kind == "history":
            log.history.append(_values(record.history.item))
        elif kind == "summary":
            log.summary |= _values(record.summary.update)
        elif kind == "metric":
            chosen = {name.name for name, _ in record.metric.summary.ListFields()}
            log.metrics[record.metric.name or record.metric.glob_name] = (record.metric.step_metric, chosen)
        elif kind == "environment":
            log.arguments += record.environment.args
        elif kind == "alert":
            log.alerts.append((record.alert.title, record.alert.text))
        elif kind == "artifact":
            log.artifacts.append(_artifact(record.artifact))
        elif kind == "exit":
            log.exit_code = record.exit.exit_code
    return log


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _artifact(record: Any) -> Artifact:
    files = {entry.path: entry.local_path or entry.ref for entry in record.manifest.contents}
    return Artifact(record.type, record.name, list(record.aliases), json.loads(record.metadata or "{}"), files)


def _records(data: bytes) -> Iterator[Record]:
    if data[:4] != b":W&B":
        raise ValueError("no W&B record file")
    position, payload = HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # the rest of a block is padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        payload += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if position > len(data):  # it is being written
            return
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(payload)
            payload = b""
            yield record
