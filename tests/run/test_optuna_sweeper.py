"""`-m hydra/sweeper=optuna`: trials of a study are jobs, and a study that was stopped goes on without losing any."""

import fcntl
import inspect
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from sweep_app import jobs, run_sweep

from hydra_plugins.seglab.optuna_sweeper import OptunaSweeper
from seglab.run.catalogue import CONF
from seglab.run.sweeps.study_storage import open_storage

SRC = Path(__file__).resolve().parents[2] / "src"
OPTUNA = ["hydra/sweeper=optuna", "+study={storage:null,name:null,trial:null}", "hydra.sweeper.n_trials=3"]
GRID = [*OPTUNA, "hydra.sweeper.sampler=grid"]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a sweep is started in."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder = tmp_path / "my lab's, (1)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def until(check: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def is_free(folder: Path) -> bool:
    """Whether no sweep, and no job that one has left, is at work in a folder."""
    with (folder / ".lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def states(folder: Path, address: str | None = None, name: str = "sweep") -> list[str]:
    """How the trials of a study ended."""
    study = optuna.load_study(study_name=name, storage=open_storage(address, folder))
    return [trial.state.name for trial in study.trials]


def test_a_trial_is_a_job_with_its_number_and_one_that_fails_stops_no_other(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "seglab.sweep")
    with pytest.raises(SystemExit) as stop:
        run_sweep(place, *GRID, "a=range(1,4)", "how=fails", "hydra.launcher.parallel=2")
    assert stop.value.code == 1
    assert states(place / "sweep") == ["COMPLETE", "FAIL", "COMPLETE"]
    for number, job in jobs(place).items():
        assert job["folder"] == number and f"study.trial={number}" in job["overrides"]
        assert f"a={int(number) + 1}" in job["overrides"]
    assert "#0 a=1 started" in caplog.text and "#2 a=3 started" in caplog.text, "named by what is searched"
    said = capsys.readouterr()
    assert "Error: 1 of 3 trials failed\n  #1 a=2: ValueError: a is too large; see " in said.err
    assert "best    python app.py " in said.out and said.out.index("best") < len(said.out)
    assert (place / "sweep/sweep.html").is_file() and (place / "sweep/trials.csv").is_file()


@pytest.mark.slow
def test_a_value_that_is_no_number_is_a_failure_and_what_has_ended_is_not_run_again(place: Path) -> None:
    for n_trials in (3, 3, 4):
        with pytest.raises(SystemExit):
            run_sweep(
                place,
                *OPTUNA,
                "a=nan,1",
                "b=interval(0.,1.)",
                f"hydra.sweeper.n_trials={n_trials}",
                "hydra.sweeper.seed=3",
            )
    assert len(states(place / "sweep")) == len((place / "sweep/starts.txt").read_text().split()) == 4
    assert set(states(place / "sweep")) == {"COMPLETE", "FAIL"}


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        (["a=interval(0.,1.)", "hydra.sweeper.sampler=grid"], "type a=choice(...), or hydra.sweeper.sampler=tpe"),
        (["a=1"], "add 'optimizer.lr=tag(log,interval(1e-5,1e-2))'"),
        (["a=1,2", "hydra.sweeper.sampler=tpee"], "set hydra.sweeper.sampler=tpe"),
        (["a=1,2", "hydra/launcher=basic"], "leave hydra/launcher out"),
        (["a=1,2", "hydra.sweeper.storage=nonsense"], "correct hydra.sweeper.storage"),
    ],
)
def test_what_cannot_work_is_said_before_any_job(
    typed: list[str], fix: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_sweep(place, *OPTUNA, *typed)
    assert stop.value.code == 1 and fix in capsys.readouterr().err
    assert not (place / "sweep/starts.txt").exists()


@pytest.mark.parametrize("typed", [["aa=1,2"], ["a=1,2", "hydra/launcher=process", "trainer.device=1,2"]])
def test_a_key_that_does_not_exist_ends_the_sweep_before_a_study_is_begun(typed: list[str], place: Path) -> None:
    with pytest.raises(ConfigCompositionException):
        run_sweep(place, *OPTUNA, *typed)
    assert not (place / "sweep").exists()


@pytest.mark.ddp
def test_a_sweep_that_was_killed_goes_on_with_the_trial_that_it_was_at(place: Path) -> None:
    typed = [*GRID, "a=range(1,4)", "how=meets", "hydra.launcher.grace_s=0.5"]
    command = [sys.executable, str(Path(__file__).with_name("sweep_app.py")), str(place), *typed]
    sweep = subprocess.Popen(command, cwd=place)
    until((place / "sweep/here1").exists)  # the first job waits for a second one
    sweep.kill()
    sweep.wait()
    until(lambda: is_free(place / "sweep"))
    (place / "sweep/here2").touch()
    assert subprocess.run(command, cwd=place, check=False).returncode == 0
    assert states(place / "sweep") == ["COMPLETE"] * 3
    assert (place / "sweep/starts.txt").read_text().split() == ["1", "1", "2", "3"]
    assert [job["value"] for job in jobs(place).values()] == [2, 4, 6]


@pytest.mark.ddp
def test_two_sweeps_at_once_share_the_trials_of_one_study(place: Path) -> None:
    shared = [f"hydra.sweeper.storage='journal:{place.parent}/study'", "hydra.sweeper.study_name=s"]
    typed = [*OPTUNA, *shared, "a=range(1,9)", "b=x,y", "hydra.sweeper.n_trials=7", "hydra.launcher.parallel=2"]
    app = str(Path(__file__).with_name("sweep_app.py"))
    sweeps = [subprocess.Popen([sys.executable, app, str(place.parent / name), *typed]) for name in "cd"]
    assert [sweep.wait() for sweep in sweeps] == [0, 0]
    assert states(place, f"journal:{place.parent}/study", "s").count("COMPLETE") == 7
    numbers = [set(jobs(place.parent / name)) for name in "cd"]
    assert not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 7


def test_the_yaml_states_every_argument_and_a_sweep_of_the_group_chooses_the_sweeper() -> None:
    text = (CONF / "hydra/sweeper/optuna.yaml").read_text()
    target, *written = yaml.safe_load(text)
    assert text.startswith(f"{target}: ") and set(written) == set(inspect.signature(OptunaSweeper).parameters)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for file in sorted((CONF / "sweep").glob("*.yaml")):
            config = compose("train", [f"sweep={file.stem}"], return_hydra_config=True)
            assert config.hydra.sweeper._target_.endswith(".OptunaSweeper") and config.hydra.sweeper.params
            assert config.hydra.launcher._target_.endswith(".ProcessLauncher")


def test_the_plugin_brings_no_package_at_each_start_of_hydra() -> None:
    code = (
        "import sys, hydra.main; before = set(sys.modules); import hydra_plugins.seglab.optuna_sweeper; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SRC, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"hydra", "hydra_plugins", "omegaconf", "antlr4", "yaml", "typing_extensions"}
