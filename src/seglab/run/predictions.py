"""Record of a folder of predictions: what is done is not done again, and nothing half-done has a final name.

All files of a case are written into a hidden folder, then noted with their hashes, then renamed. So after a kill at any
moment a final name holds a whole file, and a case counts as done when its note and its files agree.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from seglab.data.contents import content_hash
from seglab.data.locks import alone
from seglab.errors import ConfigError
from seglab.files import sync_folder

FILE = "predictions.jsonl"
PART = ".part-"
LOCK = ".predict.lock"


class Predictions:
    """What was predicted into a folder; only one process at a time has it, see `claimed`.

    Args:
        folder: of the outputs.
        settings: what the outputs depend on beside the inputs, as plain data.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._notes = {note["output"]: note for note in _read(folder / FILE)}

    def is_done(self, stem: Path, input_hash: str) -> bool:
        """Whether the outputs of an input are there, made from the same content with the same settings."""
        note = self._notes.get(self._name(stem))
        if note is None or (note["input_sha256"], note["settings_sha256"]) != (input_hash, self.settings):
            return False
        files = {self.folder / name: expected for name, expected in note["files"].items()}
        return all(file.is_file() and content_hash(file) == expected for file, expected in files.items())

    @contextmanager
    def writing(self, stem: Path, file: Path, input_hash: str) -> Iterator[Path]:
        """Give the same stem in a hidden folder; what is written beside it gets its final names together.

        Args:
            stem: output path without ending.
            file: the input.
            input_hash: of its content.
        """
        temporary = Path(mkdtemp(prefix=PART, dir=self.folder))
        try:
            yield temporary / stem.name
            stem.parent.mkdir(parents=True, exist_ok=True)
            finals = {part: stem.with_name(part.name) for part in sorted(temporary.iterdir())}
            hashes = {self._name(final): content_hash(part) for part, final in finals.items()}
            for part in finals:
                _sync(part)
            self._note(stem, {"input": str(file), "input_sha256": input_hash, "files": hashes})
            for part, final in finals.items():
                part.replace(final)
            sync_folder(stem.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _note(self, stem: Path, facts: Mapping[str, Any]) -> None:
        note = {"output": self._name(stem), "settings_sha256": self.settings, **facts}
        with (self.folder / FILE).open("ab") as stream:
            stream.write(json.dumps(note).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._notes[note["output"]] = note

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder of predictions, and clear what a killed one left half-done.

    Raises:
        ConfigError: another process writes predictions there.
    """
    with alone(folder / LOCK) as is_ours:
        if not is_ours:
            raise ConfigError(
                "another prediction writes to this folder",
                given=f"output={folder}",
                allowed="one process at a time for each output folder",
                fix="wait for it, or choose another output=...",
            )
        for left in folder.glob(f"{PART}*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        _end_last_line(folder / FILE)
        yield


def _read(file: Path) -> Iterator[dict[str, Any]]:
    """Notes of a record; a line that a kill has cut is none."""
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            note = json.loads(line)
            if note.keys() >= {"output", "input_sha256", "settings_sha256", "files"}:
                yield note
        except (ValueError, AttributeError):
            continue


def _end_last_line(file: Path) -> None:
    if file.is_file() and (content := file.read_bytes()) and not content.endswith(b"\n"):
        with file.open("ab") as stream:
            stream.write(b"\n")


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
