"""What a study leaves at its end: a table of the best trials, trials.csv, sweep.html and a line to type."""

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table
from rich.text import Text

from seglab.files import write_text
from seglab.run.console import plain_console
from seglab.run.record import write_rows
from seglab.run.secrets import scrub_override
from seglab.run.sweeps.study import ERROR, FOLDER, SweepStudy
from seglab.run.sweeps.study_page import page
from seglab.run.sweeps.sweep import Sweep, shown_path
from seglab.run.sweeps.sweep_job import Program
from seglab.run.sweeps.sweep_record import shown_time, shown_value

N_SHOWN = 10
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def report(study: SweepStudy, sweep: Sweep) -> bool:
    """Show the best trials and the failed ones of this sweep, and write both files; whether none has failed.

    Args:
        study: that has ended, as far as this sweep is concerned.
        sweep: with its folder and its program.
    """
    trials, folder, console = study.trials(), sweep.record.folder, plain_console()
    found, best = rows(study, trials), best_trials(study, trials)
    line = command(study, sweep.program, best[0]) if best else ""
    title = f"{study.name}: {summary(trials)}"
    write_rows(folder / "trials.csv", found)
    write_text(folder / "sweep.html", page(study.study, study.settings.objective, best, found, title, line))
    console.print(title, markup=False)
    console.print(table(study, best))
    for name, text in (("best", line), ("folder", shown_path(folder)), ("page", shown_path(folder / "sweep.html"))):
        console.print(f"{name:<6}  {text or 'no trial has finished'}", soft_wrap=True, markup=False)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL and study.is_own(trial)]
    if failed:
        lines = [f"\nError: {len(failed)} of {len(trials)} trials failed"]
        lines += [f"  #{trial.number} {shown_params(study, trial)}: {trial.user_attrs.get(ERROR)}" for trial in failed]
        sys.stderr.write("\n".join([*lines, ""]))
    return not failed


def best_trials(study: SweepStudy, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Finished trials, the best first; of several objectives those that no other trial beats in all."""
    if len(study.settings.objective) > 1:
        return sorted(study.study.best_trials, key=lambda trial: trial.values, reverse=_is_max(study))
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(finished, key=lambda trial: trial.values, reverse=_is_max(study))


def rows(study: SweepStudy, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """One row for each trial: number, status, values, parameters, time, error and folder."""
    found = []
    for trial in trials:
        values = trial.values or [None] * len(study.settings.objective)
        found.append(
            {"number": trial.number, "status": STATES[trial.state.name]}
            | dict(zip(study.settings.objective, values, strict=True))
            | {key: study.space.text(key, trial.params[key]) if key in trial.params else "" for key in _keys(study)}
            | {"seconds": _seconds(trial), "error": trial.user_attrs.get(ERROR, "")}
            | {"folder": trial.user_attrs.get(FOLDER, "")}
        )
    return found


def table(study: SweepStudy, best: Sequence[FrozenTrial]) -> Table:
    """The best trials for the screen."""
    shown = Table()
    shown.add_column("trial")
    for name in study.settings.objective:
        shown.add_column(name, justify="right")
    for key in _keys(study):
        shown.add_column(key)
    shown.add_column("time", justify="right")
    for trial in best[:N_SHOWN]:
        params = [Text(_short(study.space.text(key, trial.params[key]))) for key in _keys(study)]
        shown.add_row(str(trial.number), *map(shown_value, trial.values), *params, shown_time(_seconds(trial) or 0))
    return shown


def summary(trials: Sequence[FrozenTrial]) -> str:
    """How many trials ended how: "20 trials, 14 finished, 6 pruned"."""
    counts = Counter(STATES[trial.state.name] for trial in trials)
    return ", ".join([f"{len(trials)} trials", *(f"{n} {status}" for status, n in counts.most_common())])


def shown_params(study: SweepStudy, trial: FrozenTrial) -> str:
    """The values of a trial: "optimizer.lr=0.001 model=unet"."""
    return " ".join(f"{key}={study.space.text(key, value)}" for key, value in trial.params.items())


def command(study: SweepStudy, program: Program, trial: FrozenTrial) -> str:
    """What to type to train with the values of a trial."""
    overrides = map(scrub_override, study.space.overrides(trial.params))
    return shlex.join(["python", program.script, *program.flags, *overrides])


def _short(text: str) -> str:
    """A number with four digits, any other text as it is."""
    try:
        return text if text.lstrip("+-").isdecimal() else f"{float(text):.4g}"
    except ValueError:
        return text


def _keys(study: SweepStudy) -> list[str]:
    return list(study.space.distributions)


def _seconds(trial: FrozenTrial) -> float | None:
    return None if trial.duration is None else round(trial.duration.total_seconds(), 1)


def _is_max(study: SweepStudy) -> bool:
    return study.study.directions[0] == StudyDirection.MAXIMIZE
