"""From the shell: help, typos and missing values are answered with what to type, without a traceback or a folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.types import RunMode
from run_jobs import composed

from seglab.errors import ConfigError
from seglab.run.cli import Refused, user_errors

SRC = Path(__file__).resolve().parents[2] / "src"


def shell(folder: Path, job: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SRC / f"{job}.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_the_choices_and_writes_nothing(tmp_path: Path) -> None:
    done = shell(tmp_path, "train", "--help")
    assert done.returncode == 0 and "model=attention_unet" in done.stdout and "data.root=phantom" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_typo_in_the_shell_names_the_nearest_key_and_writes_nothing(tmp_path: Path) -> None:
    done = shell(tmp_path, "train", "trainer.max_epoch=3")
    assert done.returncode == 1 and "fix:     type trainer.max_epochs=3" in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_an_error_of_ours_ends_with_code_1_and_its_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused) as stop, user_errors():
        raise ConfigError("it failed", given="a", allowed="b", fix="c")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "\nError: it failed\n  given:   a\n  allowed: b\n  fix:     c\n"


def test_a_value_that_must_be_given_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    cfg = composed("evaluate", [])
    with pytest.raises(Refused), user_errors():
        _ = cfg.run
    assert "fix:     type run=<value>" in capsys.readouterr().err


def test_in_a_sweep_the_error_goes_on_so_that_other_jobs_run(tmp_path: Path) -> None:
    composed("train", [], tmp_path, RunMode.MULTIRUN)
    with pytest.raises(ConfigError), user_errors():
        raise ConfigError("it failed", given="a", allowed="b", fix="c")
