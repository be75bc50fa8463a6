"""predict: labels files with a trained run; each output lies on the grid of its input."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from seglab.data import outputs
from seglab.data.channels import first_channels, sibling_files
from seglab.data.contents import content_hash
from seglab.data.formats.volumes import DicomLabels
from seglab.data.intensity import normalise_windows
from seglab.data.module import SegmentationData
from seglab.data.outputs import Wanted
from seglab.errors import ConfigError, DataError, SeglabError
from seglab.files import check_writable
from seglab.run.build import Config, build_data
from seglab.run.checkpoints.checkpoint import find_checkpoint
from seglab.run.choose import stored_postprocess
from seglab.run.console import plain_console
from seglab.run.engine import available_threads, engine_for
from seglab.run.ensemble import load_labelling, members_of, run_folder
from seglab.run.exports.backends import BackendChoice, computing
from seglab.run.inputs import find_inputs, name_outputs
from seglab.run.make import make
from seglab.run.predictions import Predictions, claimed
from seglab.run.record import read_run
from seglab.run.trained import TrainedRun
from seglab.task.segmentation import SegmentationTask


@dataclass(frozen=True)
class Predictor:
    """A trained network with everything it needs to label a file.

    Args:
        task: in eval mode, on its device.
        data: reads and writes files of the kind it was trained on.
        wanted: what is written for each file.
    """

    task: SegmentationTask
    data: SegmentationData
    wanted: Wanted

    def __call__(self, file: Path, stem: Path) -> Iterator[float]:
        """Label one file, part by part.

        Args:
            file: an image of the kind the network was trained on.
            stem: output path without ending, in a temporary folder: after an error files are left half-written.

        Yields:
            The share that is done.

        Raises:
            DataError: a file of another kind, a broken one, or one with another number of channels.
            OSError: when an output cannot be written.
        """
        if not self.data.reads(file):
            raise DataError(
                f"{file.name} is not of a kind that data={self.data.dataset} reads",
                given=file.suffix or "no ending",
                allowed=", ".join(self.data.suffixes),
                fix="convert it, or leave it out of input=...",
            )
        spec = self.task.spec
        with outputs.opened(self.data, file, spec.channels) as case:
            image = case.image
            expected = spec.in_channels // spec.n_slices
            if image.shape[0] != expected:
                raise DataError(
                    f"{file.name} has another number of channels than the training data",
                    given=f"{image.shape[0]} channels",
                    allowed=f"{expected} channels",
                    fix="predict with a run that was trained on such images",
                )
            with outputs.created(self.data, spec, case, stem, self.wanted) as writer, torch.inference_mode():
                n_done, n_all = 0, int(np.prod(image.shape[1:3]))
                for part in self._parts(image):
                    writer.write(part)
                    n_done += (part.depth[1] - part.depth[0]) * (part.height[1] - part.height[0])
                    yield min(n_done / n_all, 1.0)

    def _parts(self, image: Any) -> Iterator[Any]:
        wanted = self.wanted
        has_threshold = wanted.postprocess is not None and wanted.postprocess.threshold is not None
        prepare = partial(normalise_windows, intensity=self.task.spec.intensity, device=self.task.device)
        predictor = self.task.predictor(prepare)
        return predictor.parts(image, probs=wanted.probabilities or has_threshold, entropy=wanted.entropy)


def predict(cfg: DictConfig) -> None:
    """Label every input file that is not labelled yet; what cannot be labelled is named at the end.

    Args:
        cfg: composed by Hydra from conf/predict.yaml.

    Raises:
        SeglabError: no such run, no input, an unwritable output folder, or, after all others were done, failed files.
    """
    output = Path(cfg.output)
    _check_choices(cfg)
    check_writable(output, "output")
    files = find_inputs(cfg.input, output, cfg.column)
    with claimed(output):
        predictor, settings = load_predictor(cfg)
        files = first_channels(files, predictor.task.spec.channels)
        outcome = _predict_all(predictor, name_outputs(files, output), Predictions(output, settings), again=cfg.again)
    outcome.tell(output)


def load_predictor(cfg: DictConfig) -> tuple[Predictor, dict[str, Any]]:
    """Open the run's checkpoints on the best device there is.

    Returns:
        The predictor, and what its outputs depend on beside the inputs, as plain data.
    """
    run_dir = run_folder(cfg.run)
    members = members_of(run_dir)
    record = read_run(members[0])
    config: Config = record["config"]
    engine = engine_for(OmegaConf.to_container(cfg.trainer), record["precision"])  # type: ignore[arg-type]  # a dict
    torch.set_num_threads(engine.threads or available_threads(1))
    task = load_labelling(members, cfg.checkpoint)
    choice, changes = _split_inference(cfg.inference)
    windows = with_changes(config["inference"], changes)
    task.sliding_window = make(windows, "inference")
    data = build_data(config)
    data.dicom_labels, data.scratch_dir = cfg.dicom, Path(cfg.output)
    post = stored_postprocess(run_dir) if cfg.postprocess == "stored" else None
    shown = {name: cfg[name] for name in ("probabilities", "entropy", "polygons", "cog")}
    settings = {
        "checkpoints": [content_hash(find_checkpoint(member, cfg.checkpoint)) for member in members],
        "inference": windows,
        "backend": asdict(choice),
        "precision": engine.resolved_precision,
        "postprocess": None if post is None else post.to_dict(),
        "dicom": cfg.dicom,
        **shown,
    }
    task = task.to("cuda" if engine.uses_gpu and choice.backend == "torch" else "cpu")
    run = TrainedRun(run_dir=run_dir, member_dir=members[0], task=task, config=config)
    task.compute = computing(run, choice, engine.resolved_precision, scored=record["precision"])
    return Predictor(task, data, Wanted(**shown, postprocess=post)), settings


def _split_inference(node: DictConfig) -> tuple[BackendChoice, dict[str, Any]]:
    """What computes the logits, and the changes to how windows cover an image."""
    changes = dict(OmegaConf.to_container(node))  # type: ignore[arg-type]  # a dict
    choice = BackendChoice(**{name: changes.pop(name) for name in ("backend", "fold", "int8", "max_dice_loss")})
    return choice, changes


def with_changes(trained: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The inference settings of a run with those that are not null in place of the trained ones, also nested."""
    merged = dict(trained)
    for name, value in changes.items():
        if isinstance(value, Mapping):
            nested = with_changes(merged.get(name) or {}, value)
            if nested.keys() - {"_target_"}:
                merged[name] = nested
        elif value is not None:
            merged[name] = value
    return merged


@dataclass(frozen=True)
class _Outcome:
    """What became of the inputs."""

    written: list[Path]
    kept: list[Path]
    failures: dict[Path, SeglabError | OSError]

    def tell(self, output: Path) -> None:
        """Print the counts; raises DataError where files failed."""
        kept = f", {len(self.kept)} were done before" if self.kept else ""
        plain_console().print(f"{len(self.written)} file(s) predicted into {output}{kept}", soft_wrap=True)
        if self.failures:
            reasons = "\n".join(
                f"    {file}: {str(error).replace(chr(10), chr(10) + '    ')}" for file, error in self.failures.items()
            )
            raise DataError(
                f"{len(self.failures)} of {len(self.written) + len(self.kept) + len(self.failures)} input files "
                "could not be predicted",
                given=f"\n{reasons}",
                allowed="whole files of the kind the network was trained on",
                fix="mend or remove these files; the others are done",
            )


def _predict_all(predictor: Predictor, stems: Mapping[Path, Path], done: Predictions, *, again: bool) -> _Outcome:
    outcome = _Outcome([], [], {})
    taken: dict[Path, Path] = {}
    with _progress() as progress:
        bar = progress.add_task("predict", total=len(stems))
        for index, (file, stem) in enumerate(stems.items()):
            progress.update(bar, completed=index, description=f"predict {file.name}")
            try:
                _check_stem(file, stem, taken)
                siblings = sibling_files(file, predictor.task.spec.channels)
                content = " ".join(content_hash(sibling) for sibling in siblings)
                if not again and done.is_done(stem, content):
                    outcome.kept.append(file)
                else:
                    with done.writing(stem, file, content) as temporary:
                        for share in predictor(file, temporary):
                            progress.update(bar, completed=index + share)
                    outcome.written.append(file)
                taken[stem] = file
            except (SeglabError, OSError) as error:
                outcome.failures[file] = error
        progress.update(bar, completed=len(stems))
    return outcome


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True)


def _check_stem(file: Path, stem: Path, taken: Mapping[Path, Path]) -> None:
    if stem in taken or stem.parent.resolve() == file.parent.resolve():
        raise ConfigError(
            f"the output of {file.name} would overwrite another file",
            given=str(taken[stem]) if stem in taken else f"output={stem.parent}, the folder of the input",
            allowed="one output per input, in another folder",
            fix="choose another output=..., or rename one of the inputs",
        )


def _check_choices(cfg: DictConfig) -> None:
    for name, allowed in {"dicom": get_args(DicomLabels), "postprocess": ("stored", "none")}.items():
        if cfg[name] not in allowed:
            raise ConfigError(
                "predictions cannot be made or written so",
                given=f"{name}={cfg[name]}",
                allowed=" or ".join(f"{name}={value}" for value in allowed),
                fix=f"leave {name} out for {allowed[0]}",
            )
