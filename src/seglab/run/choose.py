"""The postprocessing of a run: chosen on its validation cases by a rule, kept in its folder, applied ever after."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from seglab.callbacks.candidates import CANDIDATES, STEPS, THRESHOLD, THRESHOLDS
from seglab.errors import ConfigError
from seglab.inference.postprocess import Postprocess, Steps
from seglab.metrics.bootstrap import interval
from seglab.run.record import read_json, write_json
from seglab.spec import DataSpec

FILE = "postprocess.json"
MIN_GAIN = 0.001
RULE = (
    f"the candidate with the largest mean Dice over the validation cases, if it gains at least {MIN_GAIN} and the "
    "interval of 95 % of its gain, over patients, photos or scenes, does not reach below 0; else nothing"
)

Rows = Sequence[dict[str, Any]]


def stored_postprocess(run_dir: Path) -> Postprocess | None:
    """What was chosen for a run or ensemble; None where nothing was.

    Args:
        run_dir: its folder.

    Raises:
        ConfigError: a file that cannot be read.
    """
    file = run_dir / FILE
    try:
        return Postprocess.from_dict(read_json(file)) if file.is_file() else None
    except ValueError as error:
        raise ConfigError(
            "the postprocessing of the run cannot be read",
            given=f"{file}: {error}",
            allowed="JSON, as written by postprocess=auto",
            fix=f"delete it, or type python src/evaluate.py run={run_dir} postprocess=auto",
        ) from error


def choose_threshold(rows: Rows) -> float | None:
    """The threshold that the rule chooses; None for the likeliest class."""
    if not rows or THRESHOLD not in rows[0]:
        return None
    table = [row[THRESHOLD] for row in rows]
    best = _best(table, _groups(rows), base=THRESHOLDS.index(0.5))
    return None if best is None else THRESHOLDS[best]


def choose_steps(rows: Rows) -> dict[int, Steps]:
    """The steps that the rule chooses, for the classes where it chooses some."""
    chosen = {}
    for index in rows[0][STEPS] if rows else ():
        best = _best([row[STEPS][index] for row in rows], _groups(rows), base=0)
        if best is not None:
            chosen[index] = CANDIDATES[best]
    return chosen


def keep(run_dir: Path, post: Postprocess, rows: Rows, spec: DataSpec) -> None:
    """Write what was chosen into the folder of the run, with the rule and the Dice before and after.

    Args:
        run_dir: its folder.
        post: what was chosen.
        rows: of the validation cases, at the chosen threshold.
        spec: of the data.
    """
    considered = {}
    for index in rows[0][STEPS]:
        table = [row[STEPS][index] for row in rows]
        best = _ranked(table, 0)
        low, _ = interval(_gains(table, best, 0), _groups(rows))
        considered[spec.class_names[index]] = {
            "best": asdict(CANDIDATES[best]),
            "dice_before": fmean(case[0] for case in table),
            "dice_after": fmean(case[best] for case in table),
            "gain_ci_low": low,
            "chosen": index in post.steps,
        }
    content = {**post.to_dict(), "chosen_on": "val", "n_cases": len(rows), "rule": RULE, "considered": considered}
    write_json(run_dir / FILE, content)


def described(post: Postprocess | None, spec: DataSpec) -> str:
    """A postprocessing as a line of text."""
    if post is None or (post.threshold is None and not post.steps):
        return "none"
    unit = "mm3" if spec.kind == "volume" else "px"
    parts = [] if post.threshold is None else [f"threshold {post.threshold:g}"]
    for index, steps in post.steps.items():
        words = ["holes filled"] if steps.fill_holes else []
        words += [f"parts below {steps.min_size:g} {unit} removed"] if steps.min_size else []
        words += ["largest part kept"] if steps.largest else []
        parts.append(f"{spec.class_names[index]}: {', '.join(words)}")
    return "; ".join(parts)


def _groups(rows: Rows) -> list[Any]:
    return [row["group"] for row in rows]


def _best(table: Sequence[Sequence[float]], groups: Sequence[Any], *, base: int) -> int | None:
    """Number of the candidate that the rule chooses, the first of equals; None to leave things as they are."""
    best = _ranked(table, base)
    gains = _gains(table, best, base)
    low, _ = interval(gains, groups)
    return best if fmean(gains) >= MIN_GAIN and low >= 0 else None


def _ranked(table: Sequence[Sequence[float]], base: int) -> int:
    """The candidate with the largest mean; of equals the one that changes least."""
    means = [fmean(column) for column in zip(*table, strict=True)]
    return max(range(len(means)), key=lambda index: (means[index], -abs(index - base)))


def _gains(table: Sequence[Sequence[float]], best: int, base: int) -> list[float]:
    return [case[best] - case[base] for case in table]
