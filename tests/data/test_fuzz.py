"""Damaged files of every format end in a named finding or are read whole; the benchmark takes 500 of each."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz import FINDING, READ, fuzz, outcome, write_samples

from seglab.data.formats import nifti


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_damaged_files_of_each_format_are_refused_or_read(tmp_path: Path) -> None:
    counts = fuzz(20, tmp_path)
    assert len(counts) == 10 and all(sum(found.values()) == 20 for found in counts.values())
    assert not {what for found in counts.values() for what in found} - {FINDING, READ}


def test_the_harness_tells_hangs_crashes_tracebacks_and_cut_files_apart(tmp_path: Path) -> None:
    file, read = write_samples(tmp_path)["nifti"]
    sound = nifti.read_volume(file)[0]
    assert outcome(file, read, sound) == READ
    assert "read as if it were whole" in outcome(file, read, sound + 1)
    assert outcome(tmp_path / "none.nii", read) == FINDING
    assert "killed by SIGSEGV" in outcome(file, lambda _: __import__("ctypes").string_at(0))
    assert "traceback: " in outcome(file, lambda _: 1 // 0)
    assert outcome(file, lambda _: bytearray(8 << 30)) == "out of memory"


def test_a_hang_ends_at_its_limit_whether_it_works_or_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.SECONDS", 0.2)
    assert outcome(tmp_path, lambda _: sum(1 for _ in iter(int, 1))) == "hang"
    monkeypatch.setattr("fuzz.WAITING", 1)
    assert outcome(tmp_path, lambda _: __import__("time").sleep(30)) == "hang"
