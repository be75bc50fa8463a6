"""A study: what is searched, which trial comes next, and how each ended; no job runs here."""

import csv
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from study_parts import DEFAULTS, MIXED, space, study

from seglab.errors import ConfigError
from seglab.extras import require
from seglab.run.sweeps.study import DROPPED, SLOT, SWEEP, SweepStudy
from seglab.run.sweeps.study_outcome import PRUNED, Outcome, check_objective, outcome_of
from seglab.run.sweeps.study_report import report
from seglab.run.sweeps.study_settings import StudySettings, check_direction, names_of
from seglab.run.sweeps.study_storage import open_storage
from seglab.run.sweeps.sweep import Sweep
from seglab.run.sweeps.sweep_job import Program
from seglab.run.sweeps.sweep_record import Job
from seglab.run.sweeps.trial import TrialReport


def value(params: dict[str, Any]) -> Outcome:
    return Outcome(values=(-((params["a"] - 0.3) ** 2),))


def finish(one: SweepStudy, n: int = 100, outcome: Callable[[dict[str, Any]], Outcome] = value) -> list[dict[str, Any]]:
    """Run at most n trials one after the other; their parameters."""
    found = []
    while len(found) < n and (batch := one.next_batch(1)):
        found.append(batch[0].params)
        one.tell(batch[0].number, outcome(batch[0].params))
    return found


# the search space


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("lr=interval(1,2)", FloatDistribution(1, 2)),
        ("lr=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("width=interval(4,64)", IntDistribution(4, 64)),
        ("width=interval(4.,64)", FloatDistribution(4, 64)),
        ("width=float(interval(4,64))", FloatDistribution(4, 64)),
        ("nothing=tag(log,interval(1,8))", IntDistribution(1, 8, log=True)),
        ("nothing=interval(1.,8)", FloatDistribution(1, 8)),
        ("lr=int(interval(1,3))", IntDistribution(1, 3)),
        ("dropout=interval(0,1)", FloatDistribution(0, 1)),
        ("width=range(2,9,2)", IntDistribution(2, 8, step=2)),
        ("width=range(9,2,-3)", IntDistribution(3, 9, step=3)),
        ("width=tag(log,range(1,9))", IntDistribution(1, 8, log=True)),
        ("lr=range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
    ],
)
def test_a_range_of_numbers_is_what_hydra_means_and_integers_stay_integers(typed: str, wanted: Any) -> None:
    assert list(space(typed).distributions.values()) == [wanted]


def test_choices_of_any_kind_are_typed_as_they_were_given() -> None:
    found = space("name=a,'b c',1.5,null,true,[1,2],{k:v}", "width=shuffle(choice(8,16,8))", "dropout=choice([64,64])")
    assert [found.overrides(point)[0] for point in found.grid()[::2]] == [
        "name=a",
        "name='b c'",
        "name=1.5",
        "name=null",
        "name=True",
        "name=[1,2]",
        "name={k:v}",
    ]
    assert found.choices()["width"] == ["8", "16"] and found.choices()["dropout"] == ["[64,64]"]


def test_what_is_typed_wins_over_the_file_and_the_rest_is_passed_on() -> None:
    found = space("lr=0.1", "~name", "+extra=[1,2]", "width=range(1,3)", lr="interval(1,2)", width="choice(8,16)")
    assert list(found.distributions) == ["width"] and found.fixed == ["lr=0.1", "~name", "+extra=[1,2]"]
    assert found.overrides({"width": 2}) == [*found.fixed, "width=2"]
    assert space("lr=range(0.,0.5,0.1)").overrides({"lr": 0.1 + 0.2}) == ["lr=0.3"]


@pytest.mark.parametrize(
    ("typed", "fault"),
    [
        ("lr=0.1", "there is nothing to search"),
        ("lr=interval(2,1)", "this is no interval"),
        ("lr=interval(1,1)", "this is no interval"),
        ("lr=tag(log,interval(0,1))", "above 0 for tag"),
        ("lr=range(5,2)", "this is no range"),
        ("lr=range(1,5,0)", "this is no range"),
        ("width=tag(log,range(1,9,2))", "with step 1"),
        ("lr=tag(log,choice(1,2))", "this tag means nothing here"),
        ("lr=tag(ln,interval(1,2))", "this tag means nothing here"),
    ],
)
def test_what_cannot_be_searched_is_refused(typed: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        space(typed)


def test_a_grid_is_every_combination_and_takes_no_interval() -> None:
    assert space("width=range(1,3)", "name=a,b").grid() == [{"width": w, "name": n} for w in (1, 2) for n in ("a", "b")]
    with pytest.raises(ConfigError, match=r"type b=choice"):
        space(*MIXED, "a=1,2").grid()


# settings


@pytest.mark.parametrize(
    ("changed", "fix"),
    [
        ({"sampler": "tpee"}, "set hydra.sweeper.sampler=tpe"),
        ({"pruner": "mean"}, "set hydra.sweeper.pruner=median"),
        ({"directions": ("max",)}, "set hydra.sweeper.direction=maximize"),
        ({"n_trials": 0}, "set hydra.sweeper.n_trials=1"),
        ({"n_trials": "many"}, "set hydra.sweeper.n_trials=1"),
        ({"pruner_reduction": 1}, "set hydra.sweeper.pruner_reduction=2"),
        ({"objective": ("a", "b")}, r"set hydra.sweeper.direction=\[maximize,maximize\]"),
        ({"objective": ("a", "b"), "directions": ("maximize",) * 2, "pruner": "median"}, "set hydra.sweeper.pruner"),
        ({"objective": ("a", "b"), "directions": ("maximize",) * 2, "sampler": "cmaes"}, "set hydra.sweeper.sampler"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        StudySettings(**{**DEFAULTS, **changed})


def test_the_study_wants_what_the_checkpoint_wants() -> None:
    settings = StudySettings(**{**DEFAULTS, "directions": names_of("minimize")})
    with pytest.raises(ConfigError, match=r"set hydra\.sweeper\.direction=maximize"):
        check_direction(settings, "max")
    check_direction(settings, "min")
    check_direction(settings, None)
    check_direction(StudySettings(**{**DEFAULTS, "directions": ("minimize",), "objective": ("test/loss",)}), "max")


def test_a_missing_package_is_answered_with_the_extra_that_brings_it() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'seglab\[sweep\]'"):
        require("optuna_that_nobody_has", "sweep", "hydra/sweeper=optuna")


# asking


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_a_sampler_gives_as_many_different_trials_as_wanted(sampler: str, tmp_path: Path) -> None:
    one = study(tmp_path, sampler=sampler, n_trials=5, n_startup_trials=2)
    assert len({tuple(params.values()) for params in finish(one)}) == 5 and not one.next_batch(1)
    assert [trial.number for trial in one.trials()] == list(range(5))


def test_a_grid_runs_each_point_once_or_as_many_as_wanted(tmp_path: Path) -> None:
    typed = ("a=range(0.,0.3,0.1)", "c=x,y")
    found = finish(study(tmp_path / "all", *typed, sampler="grid", n_trials=99))
    assert sorted((p["a"], p["c"]) for p in found) == sorted((a, c) for a in (0.0, 0.1, 0.2) for c in "xy")
    assert len(finish(study(tmp_path / "some", *typed, sampler="grid", n_trials=4))) == 4


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_with_a_seed_a_study_that_was_stopped_draws_what_it_would_have_drawn(sampler: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"sampler": sampler, "seed": 1, "n_trials": 4, "n_startup_trials": 1}
    whole = finish(study(tmp_path / "whole", **settings))
    halves = [finish(study(tmp_path / "halves", **settings), n) for n in (3, 100)]
    assert [*halves[0], *halves[1]] == whole and len({params["a"] for params in whole}) == 4
    assert finish(study(tmp_path / "other", sampler=sampler, seed=2), 1) != whole[:1]


def test_what_a_stopped_sweep_left_unfinished_comes_first_with_its_number_and_values(tmp_path: Path) -> None:
    former = study(tmp_path)
    finish(former, 2)
    left = former.next_batch(2)
    one = study(tmp_path)
    assert [(t.number, t.params) for t in one.next_batch(3)[:2]] == [(t.number, t.params) for t in left]
    for trial in one.next_batch(3):
        one.tell(trial.number, PRUNED)
    assert len(finish(one)) == 1 and len(one.trials()) == 6


@pytest.mark.parametrize("how", ["asked", "claimed", "drawn in part"])
def test_a_trial_that_was_never_drawn_completely_is_replaced(how: str, tmp_path: Path) -> None:
    former = study(tmp_path)
    finish(former, 2)
    former.study.enqueue_trial({}, user_attrs={SLOT: 2})
    trial = former.study.ask()
    if how != "asked":
        trial.set_user_attr(SWEEP, former.sweep_id)
    if how == "drawn in part":
        trial.suggest_float("a", 0.0, 1.0)
    one = study(tmp_path)
    finish(one)
    assert [t.number for t in one.trials()] == [0, 1, 3, 4, 5, 6]
    assert DROPPED in one.study.trials[2].user_attrs and one.study.trials[2].state == TrialState.FAIL


@pytest.mark.parametrize("kind", ["journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_sweeps_that_share_a_study_share_its_trials_out(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "study"
    shared = {"storage": f"journal:{file}" if kind == "journal" else f"sqlite:///{file}", "study_name": "s"}
    sweeps = [study(tmp_path / name, **shared, n_trials=5) for name in "ab"]
    first, second = (sweep.next_batch(2) for sweep in sweeps)
    assert [t.number for t in first + second] == [0, 1, 2, 3]
    assert [len(sweep.next_batch(4)) for sweep in sweeps] == [3, 2], "its own again, and one that is left"
    for sweep in sweeps:
        finish(sweep)
    assert [t.state for t in sweeps[0].trials()] == [TrialState.COMPLETE] * 5
    assert len(finish(study(tmp_path / "c", **shared, n_trials=7))) == 2, "more trials may be wanted later"
    assert "study.storage='" in sweeps[0].overrides(first[0])[-3]


def test_of_two_processes_with_the_same_slot_the_first_one_keeps_it(tmp_path: Path) -> None:
    one = study(tmp_path, n_trials=2)
    one.study.enqueue_trial({}, user_attrs={SLOT: 0})
    one.study.enqueue_trial({}, user_attrs={SLOT: 0})
    one.study.add_trial(create_trial(state=TrialState.WAITING))
    assert len(finish(one)) == 2 and [t.number for t in one.trials()] == [0, 3]
    assert one.study.trials[1].user_attrs[DROPPED] == "another process had the same slot"


@pytest.mark.ddp
def test_four_processes_at_once_run_each_trial_once_and_no_more_than_wanted(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("study_parts.py")), str(tmp_path)]
    running = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE) for n in range(4)]
    rows = [line.split() for process in running for line in process.communicate(timeout=100)[0].decode().splitlines()]
    assert [process.returncode for process in running] == [0] * 4
    assert len(rows) == 24 and len({number for number, _ in rows}) == len({a for _, a in rows}) == 24
    assert len(study(tmp_path / "0", storage=f"journal:{tmp_path}/journal", study_name="s").trials()) == 24


# what a study is


def test_a_study_goes_on_only_as_it_was_begun_but_for_an_objective_that_no_job_had(tmp_path: Path) -> None:
    finish(study(tmp_path, objective=("worth",)), 1, lambda _: Outcome(error="no"))
    one = study(tmp_path)
    finish(one, 1)
    with pytest.raises(ConfigError, match=r"objective: \['value'\] -> \['worth'\]"):
        study(tmp_path, objective=("worth",))
    with pytest.raises(ConfigError, match=r"params\.a: FloatDistribution.* -> IntDistribution"):
        study(tmp_path, *MIXED, "a=range(1,3)")
    with pytest.raises(ConfigError, match=r"direction"):
        study(tmp_path, directions=("minimize",))
    with pytest.raises(ConfigError, match=r"pruner"):
        study(tmp_path, pruner="median")
    assert study(tmp_path, n_trials=9, sampler="tpe", seed=5).name == one.name


def test_the_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    one = study(tmp_path)
    one.check_folder([Job(0, ["train.py"], one.overrides(one.next_batch(1)[0]), "0")])
    with pytest.raises(ConfigError, match="another sweep"):
        one.check_folder([Job(0, ["train.py"], ["a=1"], "0")])


def test_cmaes_needs_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set hydra\.sweeper\.sampler=tpe"):
        study(tmp_path, "a=interval(0.,1.)", "c=x,y", sampler="cmaes")


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("postgresql://me:secret@host/db", r"me:\*\*\*@host"),
        ("postgresql://me@host/db?password=secret", r"me@host/db\?password=\*\*\*"),
        ("postgresql+psycopg://me:secret@host/db", "variable PGPASSWORD"),
        ("nonsense", "cannot be opened"),
        ("oracle9://x/y", "cannot be opened"),
        ("postgresql://me@localhost:1/db", r"cannot be opened|extra postgres"),
        ("sqlite:////nowhere/at/all.db", "cannot be opened"),
        ("journal:/nowhere/at/all", "cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(address: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        open_storage(address, tmp_path)
    assert "secret" not in str(caught.value)


# how a trial ended


@pytest.mark.parametrize(
    ("result", "wanted"),
    [
        ({"value": 0.5, "x": 1}, Outcome(values=(0.5,))),
        ({"value": 3}, Outcome(values=(3.0,))),
        ({"value": None}, Outcome(error="value in result.json is None, not a number")),
        ({"value": float("nan")}, Outcome(error="value in result.json is nan, not a number")),
        ({}, Outcome(error="value in result.json is missing, not a number")),
        ({"pruned": True, "value": 0.1}, PRUNED),
    ],
)
def test_the_result_of_a_job_is_a_value_a_failure_or_pruned(result: dict[str, Any], wanted: Outcome) -> None:
    assert outcome_of(result, ["value"]) == wanted


def test_an_objective_that_jobs_do_not_have_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set hydra\.sweeper\.objective=test/dice/mean"):
        check_objective(["test/dice/mena"], {"status": "finished", "value": 1.0, "test/dice/mean": None})
    one = study(tmp_path / "s")
    failed = Job(0, [], [], "0", status="failed", error="ValueError: no")
    assert str(one.outcome(failed, tmp_path).error).startswith("ValueError: no; see ")


def test_a_failed_and_a_pruned_trial_count_and_the_study_goes_on(tmp_path: Path) -> None:
    outcomes = iter([Outcome(error="boom"), PRUNED, *[Outcome(values=(1.0,))] * 4])
    one = study(tmp_path, sampler="tpe")
    finish(one, outcome=lambda _: next(outcomes))
    states = [trial.state.name for trial in one.trials()]
    assert states == ["FAIL", "PRUNED", *["COMPLETE"] * 4]


# a trial while it trains


def behind(folder: Path, **changed: Any) -> tuple[SweepStudy, int]:
    """A study whose first trials reached 0.5 in epoch 0 and 0.8 in epoch 1, and the number of the next one."""
    one = study(folder, **{"pruner": "median", **changed})
    for trial in one.next_batch(3):
        tell = TrialReport(None, one.name, trial.number, folder)
        assert [tell(epoch, value) for epoch, value in ((0, 0.5), (1, 0.8))] == [False, False]
        one.tell(trial.number, Outcome(values=(0.8,)))
    return one, one.next_batch(1)[0].number


def test_a_trial_that_falls_behind_is_told_to_stop_and_reports_no_epoch_twice(tmp_path: Path) -> None:
    one, number = behind(tmp_path)
    tell = TrialReport(None, one.name, number, tmp_path)
    assert tell(0, 0.6) is False
    resumed = TrialReport(None, one.name, number, tmp_path)
    assert resumed(0, 0.1) is False and resumed(1, 0.3) is True
    assert one.study.trials[number].intermediate_values == {0: 0.6, 1: 0.3}
    one.tell(number, PRUNED)
    assert one.study.trials[number].value == 0.3
    assert tell(2, 0.1) is False, "a run that goes on after its trial has ended is on its own"
    assert 2 not in one.study.trials[number].intermediate_values


@pytest.mark.slow
def test_hyperband_stops_trials_and_no_pruner_stops_none(tmp_path: Path) -> None:
    one = study(tmp_path / "h", pruner="hyperband", n_trials=30, pruner_warmup_epochs=1, seed=0)
    stopped = 0
    for trial in one.next_batch(30):
        tell = TrialReport(None, one.name, trial.number, tmp_path / "h")
        is_stopped = any(tell(epoch, trial.params["a"] * epoch) for epoch in range(9))
        one.tell(trial.number, PRUNED if is_stopped else Outcome(values=(trial.params["a"],)))
        stopped += is_stopped
    assert 5 < stopped < 30
    other, number = behind(tmp_path / "n", pruner="none")
    assert TrialReport(None, other.name, number, tmp_path / "n")(0, 0.0) is False


@pytest.mark.parametrize("storage", ["sqlite:////nowhere/at/all.db", "journal:{0}/empty", "journal:{0}/broken"])
def test_without_its_study_a_trial_trains_on_and_says_so_once(
    storage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").write_text("no journal\n{}\n")
    tell = TrialReport(storage.format(tmp_path), "s", 0, tmp_path)
    with caplog.at_level(logging.WARNING, "seglab"):
        assert [tell(epoch, 0.5) for epoch in range(3)] == [False] * 3
    assert [record.message.partition(",")[0] for record in caplog.records] == ["the study of trial 0 is out of reach"]


# what is left at the end


def ended(one: SweepStudy, folder: Path) -> bool:
    program = Program("src/train.py", [], ["--config-name=my"], [], folder)
    sweep = Sweep(folder, program, parallel=1, retries=0, grace_s=1.0)
    try:
        return report(one, sweep)
    finally:
        sweep.close()


def test_a_study_leaves_a_table_a_page_and_a_line_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = study(tmp_path, *MIXED, "note='<b>'", seed=0)
    outcomes = iter([Outcome(values=(0.5,)), Outcome(values=(0.7,)), Outcome(error="E <i>"), PRUNED])
    finish(one, 4, lambda _: next(outcomes))
    assert ended(one, tmp_path) is False
    rows = list(csv.DictReader((tmp_path / "trials.csv").open(newline="")))
    assert [(row["status"], row["value"]) for row in rows] == [
        ("finished", "0.5"),
        ("finished", "0.7"),
        ("failed", ""),
        ("pruned", ""),
    ]
    best = rows[1]
    values = f"a={best['a']} b={best['b']} c={best['c']}"
    note = shlex.quote("note='<b>'")
    line = f"python src/train.py --config-name=my seed=3 {note} {values}"
    said = capsys.readouterr()
    assert f"best    {line}\n" in said.out and "4 trials, 2 finished" in said.out
    assert "Error: 1 of 4 trials failed\n  #2 a=" in said.err and "E <i>" in said.err
    page = (tmp_path / "sweep.html").read_text()
    assert (
        page.count("<svg") == 3
        and "&lt;b&gt;" in page
        and "<b>" not in page
        and "E &lt;i&gt;" in page
        and "<i>" not in page
    )
    assert '<tr class="best"><td>1</td>' in page
    assert not [word for word in ("<script", "<link", "<img", "@import") if word in page]


@pytest.mark.slow
def test_of_several_objectives_the_front_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = study(tmp_path, objective=("score", "cost"), directions=("maximize", "minimize"), n_trials=3)
    values = iter([(0.5, 1.0), (0.9, 2.0), (0.4, 3.0)])
    finish(one, outcome=lambda _: Outcome(values=next(values)))
    assert ended(one, tmp_path) is True
    page = (tmp_path / "sweep.html").read_text()
    assert page.count('<tr class="best">') == 2 and "Pareto front" in page
    assert " a=" + json.dumps(one.trials()[1].params["a"]) in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_without_a_finished_trial_has_a_page_too(tmp_path: Path) -> None:
    one = study(tmp_path, n_trials=1)
    finish(one, outcome=lambda _: PRUNED)
    assert ended(one, tmp_path) and "No trial has finished" in (tmp_path / "sweep.html").read_text()
