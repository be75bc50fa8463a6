"""Runs that label together: evaluate, predict and export take several, or the folder of an ensemble, like a run."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from seglab.errors import CheckpointError, ConfigError
from seglab.nets.ensemble import Ensemble
from seglab.run.checkpoints.checkpoint import find_checkpoint, load_task
from seglab.run.record import read_run, write_json
from seglab.spec import Intensity
from seglab.task.segmentation import SegmentationTask

FILE = "ensemble.json"


def write_ensemble(folder: Path, members: Sequence[Path]) -> Path:
    """Write ensemble.json: the run folders whose networks label together, as seen from its folder where they lie in it.

    Args:
        folder: of the ensemble, for example of a sweep.
        members: run folders.
    """
    names = [str(run.relative_to(folder)) if run.is_relative_to(folder) else str(run.resolve()) for run in members]
    write_json(folder / FILE, {"members": names})
    return folder / FILE


def run_folder(run: str | Sequence[str]) -> Path:
    """The folder that `run=` names: of a run or an ensemble; of several runs that of their ensemble.

    That one is made beside the first of them and named after all, so the same runs always share one folder.

    Args:
        run: a folder, or some.

    Raises:
        CheckpointError: no folder, or one of several that holds no run.
    """
    if isinstance(run, str):
        return Path(run)
    members = [Path(name) for name in run]
    if not members:
        raise CheckpointError(
            "no run is named", given="run=[]", allowed="a run folder, or some", fix="type run=[runs/<run>,runs/<other>]"
        )
    for member in members:
        read_run(member)
    if len(members) == 1:
        return members[0]
    names = "\n".join(str(member.resolve()) for member in members)
    folder = members[0].parent / f"ensemble-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    folder.mkdir(exist_ok=True)
    write_ensemble(folder, members)
    return folder


def members_of(run_dir: Path) -> list[Path]:
    """The run folders of an ensemble, or the run folder itself where there is none.

    Raises:
        CheckpointError: an ensemble.json that lists no runs.
    """
    file = run_dir / FILE
    if not file.is_file():
        return [run_dir]
    try:
        names = json.loads(file.read_text(encoding="utf-8"))["members"]
        members = [run_dir / str(name) for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise _no_ensemble(file, f"{type(error).__name__}: {error}") from error
    if not members:
        raise _no_ensemble(file, "no members")
    return members


def load_labelling(members: Sequence[Path], which: str) -> SegmentationTask:
    """The same as `load_members`, for labels of images.

    Args:
        members: run folders.
        which: checkpoint, best or last.

    Raises:
        ConfigError: a network that takes no images, such as the one trained to encode labels.
        SeglabError: as `load_members`.
    """
    task = load_members(members, which)
    if not task.labels_images:
        raise ConfigError(
            "this run cannot label images",
            given=f"run={members[0]}, trained with {type(task).__name__}",
            allowed="runs whose network takes images",
            fix="name the run that it was the first stage of",
        )
    return task


def load_members(members: Sequence[Path], which: str) -> SegmentationTask:
    """The task of a run; of several runs that of the first one, with a network that averages all of them.

    Args:
        members: run folders.
        which: checkpoint, best or last.

    Raises:
        SeglabError: a member that cannot be opened, or networks that do not fit together.
    """
    tasks = [load_task(find_checkpoint(run, which)) for run in members]
    first = tasks[0]
    _check_alike(members, [_data_of(task) for task in tasks])
    if len(tasks) > 1:
        ways = [_to_member(first.spec.intensity, task.spec.intensity) for task in tasks]
        repeats = first.spec.in_channels // len(first.spec.intensity.mean)  # slices of a stack are alike
        scales, shifts = ([part * repeats for part in side] for side in zip(*ways, strict=True))
        first.net = Ensemble([task.net for task in tasks], scales=scales, shifts=shifts).eval()
    return first


def _data_of(task: SegmentationTask) -> str:
    """What a network takes and gives, in words."""
    spec = task.spec
    return f"{spec.in_channels} channels in {spec.spatial_dims}-D, {', '.join(spec.class_names)}"


def _check_alike(members: Sequence[Path], data: Sequence[str]) -> None:
    for run, own in zip(members, data, strict=True):
        if own != data[0]:
            raise CheckpointError(
                "the runs of an ensemble were trained on different data",
                given=f"{members[0]}: {data[0]}; {run}: {own}",
                allowed="runs with the same channels, dimensions and classes",
                fix=f"leave {run} out",
            )


def _to_member(known: Intensity, wanted: Intensity) -> tuple[list[float], list[float]]:
    """Scale and shift per channel from an image normalised one way to the same image normalised another way."""
    if (known.low, known.high) != (wanted.low, wanted.high):
        raise CheckpointError(
            "the runs of an ensemble clip their images differently",
            given=f"[{known.low}, {known.high}] and [{wanted.low}, {wanted.high}]",
            allowed="runs with one intensity window",
            fix="join runs that were trained with the same data settings",
        )
    pairs = zip(known.mean, known.std, wanted.mean, wanted.std, strict=True)
    ways = [(std / own_std, (mean - own_mean) / own_std) for mean, std, own_mean, own_std in pairs]
    return [scale for scale, _ in ways], [shift for _, shift in ways]


def _no_ensemble(file: Path, given: str) -> CheckpointError:
    return CheckpointError(
        "the ensemble cannot be read",
        given=f"{file}: {given}",
        allowed='JSON such as {"members": ["0", "1", "2"]}, the folders of runs',
        fix="correct the file, or name one run with run=...",
    )
