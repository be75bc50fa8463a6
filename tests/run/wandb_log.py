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
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def read_wandb(run_dir: Path, patience_s: float = 10.0) -> WandbLog:
    """The last offline run inside a run folder; W&B's own process may be a moment late with the end of it."""
    deadline = time.monotonic() + patience_s
    log = _read(offline_files(run_dir)[-1])
    while log.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
        log = _read(offline_files(run_dir)[-1])
    return log


def offline_files(run_dir: Path) -> list[Path]:
    """Record files of all W&B runs inside a run folder, oldest first."""
    return sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))


def _read(file: Path) -> WandbLog:
    log = WandbLog()
    for record in _records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            log.run_id = record.run.run_id
            log.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            log.history.append(row)
        elif kind == "exit":
            log.exit_code = record.exit.exit_code
    return log


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
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(payload)
            payload = b""
            yield record
