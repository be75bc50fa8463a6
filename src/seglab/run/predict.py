"""predict: labels files with a trained run; each output lies on the grid of its input."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from seglab.data.formats.dicom_files import is_series
from seglab.data.formats.volumes import DicomLabels
from seglab.data.intensity import normalise
from seglab.data.module import SegmentationData
from seglab.errors import ConfigError, DataError, SeglabError
from seglab.files import check_writable
from seglab.run.build import Config, build_data
from seglab.run.engine import available_threads, engine_for
from seglab.run.ensemble import load_members, members_of
from seglab.run.make import make
from seglab.run.record import read_run
from seglab.task.segmentation import SegmentationTask


@dataclass(frozen=True)
class Predictor:
    """A trained network with everything it needs to label a file.

    Args:
        task: in eval mode, on its device.
        data: reads and writes files of the kind it was trained on.
        precision: as Lightning names it.
    """

    task: SegmentationTask
    data: SegmentationData
    precision: str

    def __call__(self, file: Path, target_stem: Path) -> Path:
        """Label one file.

        Args:
            file: an image of the kind the network was trained on.
            target_stem: output path without ending.

        Returns:
            The written file.

        Raises:
            DataError: a file of another kind, a broken one, or one with another number of channels.
        """
        if not self.data.reads(file):
            raise DataError(
                f"{file.name} is not of a kind that data={self.data.dataset} reads",
                given=file.suffix or "no ending",
                allowed=", ".join(self.data.suffixes),
                fix="convert it, or leave it out of input=...",
            )
        image, _, _ = self.data.read_image(file)
        expected = self.task.spec.in_channels // self.task.spec.n_slices
        if image.shape[0] != expected:
            raise DataError(
                f"{file.name} has another number of channels than the training data",
                given=f"{image.shape[0]} channels",
                allowed=f"{expected} channels",
                fix="predict with a run that was trained on such images",
            )
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        device = self.task.device
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            labels = self.task.predict_labels(normalise(image, self.task.spec.intensity).to(device))
        return self.data.write_labels(labels.cpu().numpy(), file, target_stem, self.task.spec)


def predict(cfg: DictConfig) -> None:
    """Label every input file; what cannot be labelled is named at the end.

    Args:
        cfg: composed by Hydra from conf/predict.yaml.

    Raises:
        SeglabError: no such run, no input, an unwritable output folder, or, after all others were done, failed files.
    """
    output = Path(cfg.output)
    if cfg.dicom not in get_args(DicomLabels):
        raise ConfigError(
            "labels of a DICOM series cannot be written so",
            given=f"dicom={cfg.dicom}",
            allowed="dicom=nifti or dicom=seg",
            fix="leave dicom out for NIfTI",
        )
    check_writable(output, "output")
    files = find_inputs(cfg.input, output)
    predictor = load_predictor(cfg)
    failures: dict[Path, SeglabError | OSError] = {}
    written: dict[Path, Path] = {}
    for file, stem in track(list(name_outputs(files, output).items()), description="predict", transient=True):
        try:
            written[file] = _label(predictor, file, stem, set(written.values()))
        except (SeglabError, OSError) as error:
            failures[file] = error
    _summarise(written, failures, output)


def load_predictor(cfg: DictConfig) -> Predictor:
    """Open the run's checkpoint on the best device there is."""
    run_dir = Path(cfg.run)
    members = members_of(run_dir)
    record = read_run(members[0])
    config: Config = record["config"]
    engine = engine_for(OmegaConf.to_container(cfg.trainer), record["precision"])  # type: ignore[arg-type]  # a dict
    torch.set_num_threads(engine.threads or available_threads(1))
    task = load_members(members, cfg.checkpoint)
    if not task.labels_images:
        raise ConfigError(
            "this run cannot label images",
            given=f"run={run_dir}, trained with {type(task).__name__}",
            allowed="runs whose network takes images",
            fix="name the run that it was the first stage of",
        )
    changes = {str(name): value for name, value in cfg.inference.items() if value is not None}
    task.sliding_window = make({**config["inference"], **changes}, "inference")
    data = build_data(config)
    data.dicom_labels = cfg.dicom
    return Predictor(task.to("cuda" if engine.uses_gpu else "cpu"), data, engine.resolved_precision)


def find_inputs(pattern: str, output: Path) -> list[Path]:
    """Files of a file name, a folder (with subfolders) or a glob, sorted; folders with a DICOM series count as one.

    Of a folder, hidden files do not count, nor what earlier predictions left in an output folder inside it.

    Raises:
        ConfigError: when nothing is found.
    """
    path = Path(pattern)
    if path.is_dir():
        skipped = output.resolve() if path.resolve() in output.resolve().parents else None
        visible = (file for file in path.rglob("*") if not file.name.startswith("."))
        found = [file for file in visible if skipped not in file.resolve().parents]
    else:
        found = [path] if path.is_file() else [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207  # absolute patterns
    found = [file for file in found if file.is_file()]
    series = {folder for folder in {file.parent for file in found} if is_series(folder)} if found != [path] else set()
    files = sorted({file.parent if file.parent in series else file for file in found})
    if not files:
        raise ConfigError(
            "there is nothing to predict",
            given=f"input={pattern}",
            allowed="an existing file, a folder with files, or a glob that matches some",
            fix="check the path; quote a glob: 'input=\"scans/*.nii.gz\"'",
        )
    return files


def name_outputs(files: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Output path without ending of each input; subfolders are kept."""
    parents = [file.parent.resolve() for file in files]
    base = parents[0]
    while not all(parent.is_relative_to(base) for parent in parents):
        base = base.parent
    return {file: output / parent.relative_to(base) / _stem(file) for file, parent in zip(files, parents, strict=True)}


def _label(predictor: Predictor, file: Path, stem: Path, taken: set[Path]) -> Path:
    clash = [path for path in taken if path.parent == stem.parent and _stem(path) == stem.name]
    if clash or stem.parent.resolve() == file.parent.resolve():
        raise ConfigError(
            f"the output of {file.name} would overwrite another file",
            given=str(clash[0]) if clash else f"output={stem.parent}, the folder of the input",
            allowed="one output per input, in another folder",
            fix="choose another output=..., or rename one of the inputs",
        )
    return predictor(file, stem)


def _stem(path: Path) -> str:
    return (not path.is_dir() and path.name.removesuffix(".gz").rpartition(".")[0]) or path.name


def _summarise(written: dict[Path, Path], failures: dict[Path, SeglabError | OSError], output: Path) -> None:
    Console().print(f"{len(written)} file(s) written to {output}", highlight=False, soft_wrap=True)
    if failures:
        reasons = "\n".join(
            f"    {file}: {str(error).replace(chr(10), chr(10) + '    ')}" for file, error in failures.items()
        )
        raise DataError(
            f"{len(failures)} of {len(written) + len(failures)} input files could not be predicted",
            given=f"\n{reasons}",
            allowed="whole files of the kind the network was trained on",
            fix="mend or remove these files; the others are done",
        )
