"""One id for all processes of a run, and one folder."""

import re
from pathlib import Path

import pytest

from seglab.errors import ConfigError
from seglab.run.ids import is_main_process, run_dir, run_id, run_name


def test_an_id_is_made_once_and_handed_to_processes_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_id()
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", first) and run_id() == first
    monkeypatch.setenv("RUN_ID", "mine")
    assert run_id() == "mine"
    monkeypatch.setenv("RUN_ID", "")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run_id())


def test_torchrun_and_slurm_give_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "rendezvous")
    assert run_id() == "rendezvous"
    monkeypatch.setenv("RUN_ID", "")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert re.fullmatch(r"torchrun-\d+-1234", run_id())
    monkeypatch.setenv("RUN_ID", "")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert run_id() == "slurm-77-0"


def test_only_rank_zero_is_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.setenv(name, "0")
        assert is_main_process()
        monkeypatch.setenv(name, "1")
        assert not is_main_process(), name
        monkeypatch.setenv(name, "0")


def test_the_folder_is_made_below_the_runs_and_shared_by_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_ID", "abc")
    assert run_dir(str(tmp_path), None) == str(tmp_path / "abc") == run_dir(str(tmp_path), None)
    assert list((tmp_path / "abc").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"paths\.runs_dir=<another folder>"):
        run_dir(str(tmp_path / "file" / "runs"), None)


def test_a_job_of_a_sweep_is_named_after_sweep_and_number(tmp_path: Path) -> None:
    assert run_name(tmp_path / "20260101-aa") == "20260101-aa"
    assert run_name(tmp_path / "sweep-x" / "3") == "sweep-x-3"
