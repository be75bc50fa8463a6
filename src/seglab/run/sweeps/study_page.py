"""sweep.html: a study as one file without anything outside it, drawings as SVG."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from io import StringIO
from typing import Any
from warnings import catch_warnings

import optuna
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 2em } svg { max-width: 100%; height: auto }
pre { background: #f4f4f4; padding: .8em; white-space: pre-wrap }
table { border-collapse: collapse; font-size: .85em } th, td { padding: .25em .7em; text-align: left }
tr:nth-child(even) { background: #f7f7f7 } th { border-bottom: 1px solid #999 } .best { font-weight: bold }
"""
HIDDEN = ("folder",)


def page(
    study: optuna.Study,
    objective: Sequence[str],
    best: Sequence[FrozenTrial],
    rows: Sequence[Mapping[str, Any]],
    title: str,
    command: str,
) -> str:
    """The page of a study.

    Args:
        study: of Optuna.
        objective: names of its values.
        best: trials, the best first; of several objectives the Pareto front.
        rows: of the table.
        title: of the page.
        command: that trains with the best values.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sections = [("Best", f"<pre>{escape(command)}</pre>" if command else "<p>No trial has finished.</p>")]
    if finished:
        sections += [("History", history(study, finished, objective))]
        sections += [("Pareto front", front(finished, best, objective))] if len(objective) > 1 else []
        sections += [("Importance of the parameters", importances(study, objective))] if len(finished) > 1 else []
        sections += [("Each parameter", slices(finished, objective))]
    marked = best[:1] if len(objective) == 1 else best
    sections.append(("Trials", trial_table(rows, {trial.number for trial in marked})))
    body = "".join(f"<h2>{escape(name)}</h2>\n{content}\n" for name, content in sections)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html><head>{head}</head><body>\n<h1>{escape(title)}</h1>\n{body}</body></html>\n"


def history(study: optuna.Study, finished: Sequence[FrozenTrial], objective: Sequence[str]) -> str:
    """Value of each trial, and the best so far."""
    figure, panels = _panels(len(objective), n_columns=1, height=2.6)
    for index, (axes, name) in enumerate(zip(panels, objective, strict=True)):
        numbers, values = [trial.number for trial in finished], [trial.values[index] for trial in finished]
        better = max if study.directions[index] == StudyDirection.MAXIMIZE else min
        so_far = [better(values[: n + 1]) for n in range(len(values))]
        axes.plot(numbers, values, "o", markersize=4, alpha=0.6, label="trial")
        axes.step(numbers, so_far, where="post", label="best so far")
        axes.set(xlabel="trial", ylabel=name)
        axes.legend(fontsize="small")
    return _svg(figure, "history")


def front(finished: Sequence[FrozenTrial], best: Sequence[FrozenTrial], objective: Sequence[str]) -> str:
    """The first two objectives against each other; the front is what no trial beats in all."""
    figure, (axes,) = _panels(1, n_columns=1, height=4)
    for trials, label in ((finished, "trial"), (best, "Pareto front")):
        first, second = ([trial.values[index] for trial in trials] for index in (0, 1))
        axes.plot(first, second, "o", markersize=4 if label == "trial" else 7, alpha=0.7, label=label)
    axes.set(xlabel=objective[0], ylabel=objective[1])
    axes.legend(fontsize="small")
    return _svg(figure, "front")


def importances(study: optuna.Study, objective: Sequence[str]) -> str:
    """How much each parameter decides whether a trial is among the best (PED-ANOVA, Watanabe et al. 2023)."""
    figure, panels = _panels(len(objective), n_columns=1, height=2.2)
    for index, (axes, name) in enumerate(zip(panels, objective, strict=True)):
        sign = -1 if study.directions[index] == StudyDirection.MAXIMIZE else 1
        target = partial(_signed, index=index, sign=sign)  # the evaluator takes low values for good ones, and says so
        with catch_warnings(action="ignore"):
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
        shown = list(reversed(found.items()))
        axes.barh([key for key, _ in shown], [share for _, share in shown])
        axes.set(xlabel=f"share in {name}", xlim=(0, 1))
    return _svg(figure, "importances")


def slices(finished: Sequence[FrozenTrial], objective: Sequence[str]) -> str:
    """Value over each parameter; the darker, the later the trial."""
    keys = list(dict.fromkeys(key for trial in finished for key in trial.params))
    figure, panels = _panels(len(keys) * len(objective), n_columns=3, height=2.8)
    pairs = [(index, key) for index in range(len(objective)) for key in keys]
    for axes, (index, key) in zip(panels, pairs, strict=False):
        having = [trial for trial in finished if key in trial.params]
        values, numbers = [trial.values[index] for trial in having], [trial.number for trial in having]
        distribution = having[0].distributions[key]
        given: list[Any] = [trial.params[key] for trial in having]
        if isinstance(distribution, CategoricalDistribution):
            axes.set_xticks(range(len(distribution.choices)), [str(choice) for choice in distribution.choices])
            given = [distribution.choices.index(value) for value in given]
        elif getattr(distribution, "log", False):
            axes.set_xscale("log")
        axes.scatter(given, values, c=numbers, cmap="Blues", vmin=-len(finished) / 2, s=18, edgecolors="#888")
        axes.set(xlabel=key, ylabel=objective[index])
    return _svg(figure, "slices")


def trial_table(rows: Sequence[Mapping[str, Any]], best: set[int]) -> str:
    """All trials as a table."""
    names = [name for name in (rows[0] if rows else {}) if name not in HIDDEN]
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"]
    for row in rows:
        cells = "".join(f"<td>{escape('' if row[name] is None else str(row[name]))}</td>" for name in names)
        lines.append(f'<tr class="best">{cells}</tr>' if row["number"] in best else f"<tr>{cells}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _signed(trial: FrozenTrial, *, index: int, sign: int) -> float:
    return sign * float(trial.values[index])


def _panels(n: int, *, n_columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels, `height` inches each."""
    n_rows = -(-n // n_columns)
    figure = Figure(figsize=(10, height * n_rows), layout="constrained")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axes in panels[n:]:
        axes.remove()
    for axes in panels[:n]:
        axes.grid(alpha=0.3)
    return figure, panels[:n]


def _svg(figure: Figure, name: str) -> str:
    """A figure as an element of HTML, without the names of parts that other figures on the page have too."""
    stream = StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    drawing = stream.getvalue()
    return re.sub(r' id="[\w.]+_\d+"', "", drawing[drawing.index("<svg") :])
