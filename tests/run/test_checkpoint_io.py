"""Checkpoint files are whole or not there, listed by hash, plain data; what is damaged is never used in silence."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seglab.errors import CheckpointError
from seglab.run.checkpoints.checkpoint_io import CheckpointFiles
from seglab.run.checkpoints.manifest import find_fault, hash_of, read_manifest
from seglab.run.checkpoints.plain import first_unsafe, read_checkpoint
from seglab.run.checkpoints.resume import resume_point

NAMES = ["best.ckpt", "last.ckpt", "manifest.json", "previous.ckpt"]


def state(step: int, n_weights: int = 1000) -> dict[str, Any]:
    """What a checkpoint of ours has, as far as files are concerned."""
    weights = {"w": torch.full((n_weights,), float(step))}
    return {"seglab": {"config": "{}", "spec": {}}, "epoch": step // 10, "global_step": step, "state_dict": weights}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that saved at steps 10, 20 and 30, and kept 10 as the best."""
    files, folder = CheckpointFiles(), tmp_path / "run" / "checkpoints"
    files.save_checkpoint(state(10), folder / "last.ckpt")
    files.save_checkpoint(state(10), folder / "best.ckpt")
    for step in (20, 30):
        files.save_checkpoint(state(step), folder / "last.ckpt")
    return tmp_path / "run"


def steps(run_dir: Path) -> dict[str, int]:
    folder = run_dir / "checkpoints"
    return {file.stem: read_checkpoint(file)["global_step"] for file in sorted(folder.glob("*.ckpt"))}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_the_state_before_the_last_one_is_kept_and_every_file_is_listed_by_hash_and_step(run_dir: Path) -> None:
    folder = run_dir / "checkpoints"
    assert names(folder) == NAMES
    assert steps(run_dir) == {"best": 10, "last": 30, "previous": 20}
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, step in (("best", 10), ("last", 30), ("previous", 20)):
        newest = manifest[f"{name}.ckpt"][-1]
        file = folder / f"{name}.ckpt"
        assert (newest["sha256"], newest["n_bytes"], newest["step"]) == (hash_of(file), file.stat().st_size, step)


def test_a_file_holds_what_torch_itself_would_have_written(run_dir: Path, tmp_path: Path) -> None:
    ours = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.equal(ours["state_dict"]["w"], state(30)["state_dict"]["w"]) and ours["epoch"] == 3


def test_a_kill_between_manifest_and_rename_leaves_a_sound_file(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, last = CheckpointFiles(), run_dir / "checkpoints" / "last.ckpt"
    for attempt in range(1, 4):

        def kill(self: Path, target: Path, real: Any = Path.replace) -> Path:
            if target == last:
                raise KeyboardInterrupt  # the moment before the rename
            return real(self, target)  # type: ignore[no-any-return]

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "replace", kill)
            files.save_checkpoint(state(30 + attempt), last)
        assert find_fault(last) is None and steps(run_dir)["last"] == 30
        assert find_fault(last.with_name("previous.ckpt")) is None
    CheckpointFiles().save_checkpoint(state(40), last)
    assert steps(run_dir) == {"best": 10, "last": 40, "previous": 30}


def test_what_a_dead_process_left_behind_is_removed_at_the_next_save(run_dir: Path) -> None:
    folder = run_dir / "checkpoints"
    for name in (".part-0123abcd-last.ckpt", ".part-4567abcd-manifest.json"):
        (folder / name).write_bytes(b"half")
    CheckpointFiles().save_checkpoint(state(40), folder / "last.ckpt")
    assert names(folder) == NAMES


DAMAGES = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "replaced": lambda file: torch.save(state(99), file),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_last_checkpoint_is_answered_with_the_newest_sound_one(
    run_dir: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](run_dir / "checkpoints" / "last.ckpt")
    assert resume_point(run_dir).name == "previous.ckpt"
    assert "previous.ckpt, step 20" in caplog.text and "last.ckpt" in caplog.text
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    DAMAGES[damage](run_dir / "checkpoints" / "previous.ckpt")
    assert resume_point(run_dir).name == "best.ckpt"
    DAMAGES[damage](run_dir / "checkpoints" / "best.ckpt")
    with pytest.raises(CheckpointError) as caught:
        resume_point(run_dir)
    assert caught.value.what in ("no checkpoint of the run is sound", "there is nothing to resume from")


def test_none_of_200_flipped_bits_is_loaded(run_dir: Path) -> None:
    file, rng = run_dir / "checkpoints" / "last.ckpt", np.random.default_rng(0)
    whole = file.read_bytes()
    for place in rng.integers(len(whole) * 8, size=200):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="has changed since it was written"):
            CheckpointFiles().load_checkpoint(file)


def test_a_damaged_file_takes_no_sound_one_s_place(run_dir: Path) -> None:
    last = run_dir / "checkpoints" / "last.ckpt"
    last.write_bytes(b"torn")
    CheckpointFiles().save_checkpoint(state(40), last)
    assert steps(run_dir) == {"best": 10, "last": 40, "previous": 20}


def test_a_run_from_before_there_was_a_manifest_is_used_and_listed_from_its_next_save_on(run_dir: Path) -> None:
    folder = run_dir / "checkpoints"
    for name in ("manifest.json", "previous.ckpt"):
        (folder / name).unlink()
    assert resume_point(run_dir).name == "last.ckpt" and steps(run_dir) == {"best": 10, "last": 30}
    CheckpointFiles().save_checkpoint(state(40), folder / "last.ckpt")
    assert steps(run_dir) == {"best": 10, "last": 40, "previous": 30}
    assert sorted(read_manifest(folder)) == ["last.ckpt", "previous.ckpt"]


def test_a_manifest_that_cannot_be_read_is_said_to_be_so(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run_dir / "checkpoints" / "manifest.json").write_text("{")
    assert resume_point(run_dir).name == "last.ckpt" and "used unchecked" in caplog.text


def test_the_newest_state_is_taken_whatever_its_name(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    CheckpointFiles().save_checkpoint(state(40), run_dir / "checkpoints" / "best.ckpt")
    assert resume_point(run_dir).name == "best.ckpt" and "last.ckpt is older" in caplog.text


@pytest.mark.parametrize("address", ["http://host/last.ckpt", "https://host/last.ckpt", "s3://bucket/last.ckpt"])
def test_an_address_is_neither_read_nor_written(address: str) -> None:
    for call in (CheckpointFiles().load_checkpoint, lambda path: CheckpointFiles().save_checkpoint(state(1), path)):
        with pytest.raises(CheckpointError, match="on disk only"):
            call(address)


class Own:
    """Stands for anything that is no plain data."""


@pytest.mark.parametrize(
    ("odd", "key"),
    [
        ({"callbacks": {"Mine": {"list": [1, Path("x")]}}}, "callbacks.Mine.list.1 (pathlib.PosixPath)"),
        ({"scores": {"best": Own()}}, "scores.best (test_checkpoint_io.Own)"),
        ({"function": lambda: 0}, "function (builtins.function)"),
        ({"net": torch.nn.Linear(1, 1)}, "net (torch.nn.modules.linear.Linear)"),
    ],
)
def test_a_state_that_could_not_be_resumed_is_refused_at_the_first_save(
    run_dir: Path, odd: dict[str, Any], key: str
) -> None:
    with pytest.raises(CheckpointError, match="not plain data") as caught:
        CheckpointFiles().save_checkpoint(state(40) | odd, run_dir / "checkpoints" / "last.ckpt")
    assert caught.value.given == key
    assert names(run_dir / "checkpoints") == NAMES and steps(run_dir)["last"] == 30
    assert first_unsafe(state(40)) is None


def test_no_room_is_said_with_path_and_sizes_and_leaves_the_old_files(run_dir: Path) -> None:
    last, (soft, hard) = run_dir / "checkpoints" / "last.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        with pytest.raises(CheckpointError, match="no room for the checkpoint") as caught:
            CheckpointFiles().save_checkpoint(state(40, 100_000), last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{last}: File too large; it needs 400,000 bytes" in caught.value.given
    assert f"resume={run_dir}" in caught.value.fix
    assert names(last.parent) == NAMES and steps(run_dir) == {"best": 10, "last": 30, "previous": 20}


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs the right to mount a disk")
def test_a_full_disk_is_named(run_dir: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("may not mount here")
    try:
        moved = disk / "run"
        shutil.copytree(run_dir, moved)
        with pytest.raises(CheckpointError, match="no room for the checkpoint") as caught:
            CheckpointFiles().save_checkpoint(state(40, 1_000_000), moved / "checkpoints" / "last.ckpt")
        assert f"free on the disk at {disk}" in caught.value.given and "needs 4,000,000 bytes" in caught.value.given
        assert names(moved / "checkpoints") == NAMES and steps(moved) == steps(run_dir)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_kills_during_saves_break_nothing_and_leave_nothing(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"
    options = ["--kills", "10", "--control", "0", "--folder", str(tmp_path)]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False, timeout=380)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and figures["kills"]["value"] == 10, done.stdout + done.stderr
    assert figures["broken_files"]["value"] == figures["temporary_files_left"]["value"] == 0
