"""Jobs of a sweep are processes: none harms another, none runs twice, none is left behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf
from sweep_app import jobs, run_sweep

from seglab.errors import ConfigError
from seglab.run.guard import sweep_up
from seglab.run.ids import fresh_environment, run_name
from seglab.run.sweeps.shares import Need, Shares, n_cores, need
from seglab.run.sweeps.sweep import Sweep, check_alone
from seglab.run.sweeps.sweep_job import Program, cause, first_overrides, quoted
from seglab.run.sweeps.sweep_record import SweepRecord, has_finished, setting, shown_time

SRC = Path(__file__).resolve().parents[2] / "src"
PLAIN = Program("train.py", [], [], [], Path())

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a sweep is started in, whose name is awkward."""
    folder = tmp_path / "my lab's, (1)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def seen(place: Path, number: int) -> Any:
    """What a job saw."""
    return json.loads((place / f"sweep/{number}/seen.json").read_text())


def starts(place: Path) -> list[str]:
    """`a` of each job that was started."""
    return (place / "sweep/starts.txt").read_text().split()


def rows(place: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((place / "sweep/sweep.csv").open(newline="")))


def until(check: Callable[[], object], seconds: float = 50) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# what is typed


@pytest.mark.parametrize(
    "typed",
    [
        "a='x,y',z",
        "a=[1,2],[3,'4, 5']",
        "a={b:1,c:'d e'},{}",
        "a='it\\'s',\"say\"",
        "a=x\\,y,tr\\ y",
        "a='k=v','true',' lead'",
        "a='${b}',$HOME",
        "a=null,'null',''",
        "a=1e-7,nan,007",
        "+a.b=1,2",
        "++a=['b c',{d:[1,null]}]",
        "model@first.model=unet,dcunet",
        r"a='back\\',C:\\x",
        "a='tab\there','new\nline','ü'",
    ],
)
def test_an_override_means_to_its_job_what_it_means_to_the_sweep(typed: str, tmp_path: Path) -> None:
    parser = OverridesParser.create()
    (override,) = parser.parse_overrides([typed])
    values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    wanted = [override._convert_value(value) for value in values]
    handed_out = BasicSweeper.split_arguments([override], None)[0]
    for value, (text,) in zip(wanted, handed_out, strict=True):
        command = PLAIN.command([text], tmp_path, 3)
        got = parser.parse_override(command[2])
        assert got.get_key_element() == override.get_key_element()
        assert repr(got.value()) == repr(value)


@pytest.mark.parametrize("name", ["plain", "a b", "it's", 'say "x"', "k=v,w", "{x}[y]", "back\\", "ü"])
def test_the_folder_of_a_job_is_handed_over_whatever_its_name(name: str, tmp_path: Path) -> None:
    overrides = OverridesParser.create().parse_overrides(PLAIN.command([], tmp_path / name, 3)[2:])
    assert {o.key_or_group: o.value() for o in overrides} == {
        "hydra.mode": "RUN",
        "hydra.run.dir": str(tmp_path / name),
        "hydra.job.num": 3,
        "hydra.job.id": 3,
    }


def test_flags_that_choose_the_configuration_reach_the_jobs_and_settings_of_the_sweep_do_not() -> None:
    argv = ["src/train.py", "-m", "--config-dir", "my conf", "-cn=other", "a=1,2", "hydra.launcher.parallel=2"]
    hydra = ["hydra.mode=MULTIRUN", "hydra/launcher=process", "hydra.launcher.parallel=2", "hydra.sweep.dir=x"]
    program = Program.typed(argv, [*hydra, "hydra.verbose=true", "hydra.searchpath=[a]"], Path())
    command = program.command(["a=1"], Path("x/0"), 0)
    assert command[1:7] == [
        "src/train.py",
        "--config-name=other",
        "--config-dir=my conf",
        "hydra.verbose=true",
        "hydra.searchpath=[a]",
        "a=1",
    ]
    assert not [text for text in command if "launcher" in text or "sweep" in text or text == "-m"]
    assert program.again(Path("runs/x")) == (
        "python src/train.py -m --config-dir 'my conf' -cn=other a=1,2 hydra.launcher.parallel=2 hydra.sweep.dir=runs/x"
    )


def test_an_override_is_shown_as_it_was_meant() -> None:
    assert setting("a='x, y'") == ("a", "x, y") and setting("a=[1,'b c']") == ("a", "[1,'b c']")
    assert setting("model@first.model=unet") == ("model@first.model", "unet") and setting("a=null") == ("a", "null")


def test_a_job_is_no_rank_of_anything_and_makes_its_own_id() -> None:
    names = ["RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK"]
    names += ["TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "LOCAL_WORLD_SIZE"]
    kept = {"HOME": "/", "RANKING": "1", "SLURM_JOB_ID": "7", "WANDB_MODE": "offline"}
    assert fresh_environment(dict.fromkeys(names, "1") | kept) == kept


# what is left behind


def test_each_job_is_a_plain_run_in_its_folder_and_the_record_says_how_it_went(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_ID", "of-the-sweep")
    (returned,) = run_sweep(place, "a=1,2", "b='p,q'")
    assert [job.return_value for job in returned] == [2.0, 4.0]
    assert [(job.cfg.a, job.hydra_cfg.hydra.job.num) for job in returned] == [(1, 0), (2, 1)]
    saw = seen(place, 1)
    assert saw["argv"][1:3] == ["a=2", "b='p,q'"] and "-m" not in saw["argv"] and saw["cwd"] == str(place)
    assert "RUN_ID" not in saw["env"]
    record = jobs(place)["1"]
    assert record["overrides"] == ["a=2", "b='p,q'"] and (record["status"], record["value"]) == ("finished", 4)
    assert [list(row.values())[:5] for row in rows(place)] == [
        ["0", "1", "p,q", "finished", "2.0"],
        ["1", "2", "p,q", "finished", "4.0"],
    ]
    assert list(rows(place)[0]) == ["number", "a", "b", "status", "value", "seconds", "folder"]
    assert "4.0000" in capsys.readouterr().out
    assert run_name(place / "sweep/1") == "sweep-1"


def test_a_failing_job_stops_no_other_and_is_named_with_its_cause(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_sweep(place, "a=1,2,3", "how=fails")
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "Error: 1 of 3 jobs failed\n  #1 a=2: ValueError: a is too large\n    log: sweep/1/job.log\n" in said
    assert "  run them again: python app.py -m a=1,2,3 how=fails hydra.sweep.dir=sweep\n" in said
    assert [job["status"] for job in jobs(place).values()] == ["finished", "failed", "finished"]
    assert "for this" in (place / "sweep/1/job.log").read_text()


def test_a_failed_job_is_tried_again_as_often_as_wished(place: Path) -> None:
    (returned,) = run_sweep(place, "a=1", "how=once", "hydra.launcher.retries=1")
    assert returned[0].return_value == 2.0 and starts(place) == ["1", "1"]
    with pytest.raises(SystemExit):
        run_sweep(place / "other", "a=2", "how=fails", "hydra.launcher.retries=1")
    assert starts(place / "other") == ["2", "2"]


def test_started_again_only_what_has_not_finished_runs_and_numbers_stay(place: Path) -> None:
    with pytest.raises(SystemExit):
        run_sweep(place, "a=1,2,3", "how=fails")
    (place / "sweep/mended").touch()
    (place / "sweep/4").mkdir()  # somebody else's
    (returned,) = run_sweep(place, "how=fails", "a=0,1,2,3,3")
    assert [job.return_value for job in returned] == [0.0, 2.0, 4.0, 6.0, 6.0]
    assert starts(place) == ["1", "2", "3", "0", "2"]
    assert {row["number"]: row["a"] for row in rows(place)} == {"0": "1", "1": "2", "2": "3", "5": "0"}
    assert (place / "sweep/1-aside-1/job.log").is_file()
    (place / "sweep/0/result.json").unlink()
    run_sweep(place, "how=fails", "a=1,2,3")
    assert starts(place)[5:] == ["1"], "a job whose result is gone has not finished"


def test_a_secret_reaches_the_jobs_and_no_file_of_the_sweep_and_hides_no_job(place: Path) -> None:
    secrets = ["postgresql://me:pass-one@host/db", "postgresql://me:pass-two@host/db"]
    typed = ["a=1,2", "how=fails", "b=" + ",".join(f"'{secret}'" for secret in secrets), "+plant.token=pass-three"]
    with pytest.raises(SystemExit):
        run_sweep(place, *typed)
    assert all(f"b='{secrets[n % 2]}'" in seen(place, n)["argv"] for n in range(4))
    files = [place / "sweep" / name for name in ("sweep.json", "sweep.csv", "multirun.yaml")]
    assert not [file for file in files if "pass-" in file.read_text()] and all(
        "***" in file.read_text() for file in files
    )
    assert [job["status"] for job in jobs(place).values()] == ["finished", "finished", "failed", "failed"]
    (place / "sweep/mended").touch()
    run_sweep(place, *typed)
    assert starts(place) == ["1", "1", "2", "2", "2", "2"] and len(jobs(place)) == 4
    assert all("+plant.token=pass-three" in seen(place, n)["argv"] for n in (2, 3))


def test_other_sweepers_hand_out_batches_and_get_failures_as_a_status(place: Path) -> None:
    batches = [[["a=1", "how=fails"], ["a=2", "how=fails"]], [["a=3", "how=fails"], ["a=1", "how=fails"]]]
    launcher, (first, second) = run_sweep(place, batches=batches)
    assert [job.status for job in first] == [JobStatus.COMPLETED, JobStatus.FAILED]
    with pytest.raises(Exception, match=r"ValueError: a is too large; see .*job\.log"):
        _ = first[1].return_value
    assert [job.return_value for job in second] == [6.0, 2.0]
    assert starts(place) == ["1", "2", "3"] and sorted(jobs(place)) == ["0", "1", "2"]
    assert launcher.report() is False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a job that was started and stopped in its first epoch."""
    made = tmp_path / "0"
    (made / "first").mkdir(parents=True)
    (made / "run.json").write_text("{}")
    (made / "result.json").write_text('{"status": "failed", "error": "E: one\\ntwo"}')
    return made


def test_a_job_with_a_checkpoint_goes_on_and_one_without_starts_anew_beside_its_remains(folder: Path) -> None:
    assert first_overrides(folder, ["a=1"]) == ["a=1"] and sorted(folder.iterdir()) == [folder / "first"]
    assert (folder.with_name("0-aside-1") / "run.json").is_file()
    assert first_overrides(folder, ["a=1"]) == ["a=1"], "a first stage that was stopped goes on in place"
    (folder / "checkpoints").mkdir()
    for name in ("run.json", "result.json", "checkpoints/last.ckpt"):
        (folder / name).touch()
    assert first_overrides(folder, ["a=1"]) == [f"resume={quoted(folder)}"]
    assert not (folder / "result.json").exists() and (folder / "run.json").exists()


@pytest.mark.parametrize(
    ("result", "is_run", "ended_well", "finished"),
    [
        ('{"status": "finished"}', True, False, True),
        ('{"status": "stopped"}', True, True, False),
        ("", True, True, False),
        ("", False, True, True),
        ("", False, False, False),
    ],
)
def test_a_job_has_finished_when_its_result_says_so(
    result: str, is_run: bool, ended_well: bool, finished: bool, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_text(result)
    if is_run:
        (tmp_path / "run.json").touch()
    assert has_finished(tmp_path, ended_well=ended_well) is finished
    assert not has_finished(tmp_path / "deleted", ended_well=True)


@pytest.mark.parametrize(
    ("said", "code", "shown"),
    [
        ("\nError: no such data\n  given:   x:\nOSError: y\n  fix:     z\n", 1, "no such data"),
        ("Traceback:\n  File\ntorch.OutOfMemoryError: 2 GiB\nmore\n", 1, "torch.OutOfMemoryError: 2 GiB"),
        ("step 1\n", 137, "ended by SIGKILL"),
        ("step 1\nbye\n\nSet the environment variable HYDRA_FULL_ERROR=1 for ...\n", 3, "bye"),
        ("", 3, "exit code 3"),
    ],
)
def test_the_cause_is_one_line_of_what_the_job_said(said: str, code: int, shown: str, tmp_path: Path) -> None:
    assert cause(tmp_path, code, said) == shown


def test_the_error_in_the_result_comes_first(folder: Path) -> None:
    assert cause(folder, 1, "ValueError: later") == "E: one"


def test_times_are_shown_in_units_that_one_reads() -> None:
    assert [shown_time(s) for s in (59.4, 200, 7500)] == ["59 s", "3 min 20 s", "2 h 5 min"]


# shares


def test_jobs_at_once_have_gpus_of_their_own() -> None:
    shares = Shares(2, {"CUDA_VISIBLE_DEVICES": "4,5,7,GPU-1", "OMP_NUM_THREADS": "3"})
    shares.check([Need(2), Need(1), Need(2)])
    first, environment = shares.take(Need(2))
    assert first == ["4", "5"] and environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert environment["OMP_NUM_THREADS"] == "3", "what the user set stays"
    second, environment = shares.take(Need(1))
    assert environment["CUDA_VISIBLE_DEVICES"] == "7"
    shares.give_back(first)
    assert shares.take(Need(2))[0] == ["GPU-1", "4"] and second == ["7"]


def test_jobs_at_once_share_the_cores_and_a_single_one_has_them_all() -> None:
    assert "OMP_NUM_THREADS" not in Shares(1, {}).take(Need())[1]
    shares = Shares(2, {"CUDA_VISIBLE_DEVICES": ""})
    shares.check([Need(8)])
    for n_processes in (1, 2):
        taken, environment = shares.take(Need(n_processes))
        assert taken == [] and environment["OMP_NUM_THREADS"] == str(max(1, n_cores() // 2 // n_processes))


@pytest.mark.parametrize(
    ("parallel", "needs", "fix"),
    [(3, [Need(1)] * 3, "parallel=2"), (2, [Need(1), Need(2)], "parallel=1"), (2, [Need(3)], "trainer.devices=2")],
)
def test_more_gpus_than_there_are_cannot_be_shared_out(parallel: int, needs: list[Need], fix: str) -> None:
    shares = Shares(parallel, {"CUDA_VISIBLE_DEVICES": "0,1"})
    with pytest.raises(ConfigError, match=fix):
        shares.check(needs)
    shares.check([Need(9, uses_gpu=False)] * 4)


def test_what_a_job_needs_is_read_from_its_configuration() -> None:
    assert need(OmegaConf.create({})) == Need(1)
    auto = {"trainer": {"devices": "auto", "accelerator": "auto", "num_nodes": 1}}
    assert need(OmegaConf.create(auto)) == Need(1)
    assert need(OmegaConf.create({"trainer": {"devices": 2, "accelerator": "cpu"}})) == Need(2, uses_gpu=False)
    assert need(OmegaConf.create({"trainer": {"devices": -1}})) == Need(None)
    with pytest.raises(ConfigError, match=r"trainer\.num_nodes"):
        need(OmegaConf.create({"trainer": {"num_nodes": 2}}))


def test_two_jobs_at_once_meet(place: Path) -> None:
    (returned,) = run_sweep(place, "a=1,2", "how=meets", "hydra.launcher.parallel=2")
    assert [job.return_value for job in returned] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("hydra.launcher.parallel=0", "set hydra.launcher.parallel=1"),
        ("hydra.launcher.parallel=two", "set hydra.launcher.parallel=1"),
        ("hydra.launcher.retries=-1", "set hydra.launcher.retries=0"),
        ("hydra.sweeper.max_batch_size=2", "hydra.launcher.parallel=2 instead"),
        ("hydra.sweep.subdir=same", "leave hydra.sweep.subdir out"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_job(
    override: str, fix: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_sweep(place, "a=1,2", override)
    assert stop.value.code == 1 and fix in capsys.readouterr().err
    assert not (place / "sweep/starts.txt").exists()


@pytest.mark.parametrize("name", ["TORCHELASTIC_RUN_ID", "SLURM_PROCID", "LOCAL_RANK"])
def test_one_process_sweeps_not_each_rank(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_alone()
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match="leave torchrun or srun out"):
        check_alone()


def test_a_folder_holds_one_sweep_at_a_time(tmp_path: Path) -> None:
    settings = {"parallel": 1, "retries": 0, "grace_s": 1.0}
    sweep = Sweep(tmp_path, PLAIN, **settings)
    with pytest.raises(ConfigError, match="a sweep is running in this folder"):
        Sweep(tmp_path, PLAIN, **settings)
    sweep.close()
    Sweep(tmp_path, PLAIN, **settings).close()


# stopping


@pytest.fixture
def no_orphans(place: Path) -> Iterator[None]:
    """All processes that jobs wrote down are gone in the end."""
    yield
    pids = [int(pid) for file in (place / "sweep").glob("pids*") for pid in file.read_text().split()]
    assert pids
    until(lambda: not [pid for pid in pids if is_alive(pid)])


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_that_is_stopped_ends_its_jobs_and_says_how_to_go_on(
    number: int, code: int, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_it() -> None:
        until(lambda: all((place / f"sweep/pids{a}").exists() for a in (1, 2)))
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=stop_it, daemon=True).start()
    with pytest.raises(SystemExit) as stop:
        run_sweep(place, "a=1,2,3", "how=hangs", "hydra.launcher.parallel=2")
    assert stop.value.code == code
    said = capsys.readouterr().err
    assert "  stopped   #0 #1\n  waiting   #2\n  go on with: python app.py -m a=1,2,3 how=hangs" in said
    assert [job["status"] for job in jobs(place).values()] == ["stopped", "stopped", "waiting"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("no_orphans")
def test_no_job_outlives_a_sweep_that_was_killed_and_the_next_one_goes_on(place: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("sweep_app.py")), str(place), "a=1,2"]
    sweep = subprocess.Popen([*command, "how=deaf", "hydra.launcher.grace_s=0.5"], cwd=place)
    until((place / "sweep/pids1").exists)
    pids = [int(pid) for pid in (place / "sweep/pids1").read_text().split()]
    guard = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGSTOP)  # until it was seen that the jobs keep the folder
    sweep.kill()
    assert sweep.wait() == -signal.SIGKILL
    settings = {"parallel": 1, "retries": 0, "grace_s": 1.0}
    with pytest.raises(ConfigError, match="jobs of a killed sweep take some seconds to end"):
        Sweep(place / "sweep", PLAIN, **settings)
    os.kill(guard, signal.SIGCONT)
    until(lambda: not [pid for pid in pids if is_alive(pid)])
    assert [job.status for job in SweepRecord(place / "sweep").jobs.values()] == ["stopped", "waiting"]


def test_what_a_job_leaves_behind_is_killed_after_a_while() -> None:
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    start = time.monotonic()
    sweep_up(left.pid, wait_s=0.2)
    assert left.wait() == -signal.SIGKILL and time.monotonic() - start < 30
    sweep_up(left.pid, wait_s=60)
    assert time.monotonic() - start < 50, "nothing is waited for that is not there"


def test_the_plugin_is_light_because_hydra_imports_it_at_each_start() -> None:
    code = (
        "import sys, hydra.main; before = set(sys.modules); import hydra_plugins.seglab.process_launcher; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SRC, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"hydra", "hydra_plugins", "omegaconf", "antlr4", "yaml", "typing_extensions"}
