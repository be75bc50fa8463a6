"""Scores label files that any program has made against true ones: two folders, paired by name."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from seglab.callbacks.case_measures import CaseScorer
from seglab.data.formats import photo, raster, volumes
from seglab.errors import ConfigError, DataError
from seglab.files import check_writable
from seglab.metrics.cases import case_scores
from seglab.metrics.confusion import count
from seglab.metrics.report import scores
from seglab.run.evaluate_grids import Grid, check_grid, check_place, kind_of, other_grid, read_labels, read_pair
from seglab.run.evaluation import Evaluation, case_metrics, show
from seglab.run.reports.page import write_evaluation
from seglab.spec import IGNORE_INDEX, DataSpec, Intensity, Kind

COLORS = ((0, 0, 0), (230, 75, 60), (60, 140, 230), (60, 180, 100), (240, 180, 40), (150, 90, 200), (40, 190, 200))
DATASET = "dataset.json"


@dataclass(frozen=True)
class Pair:
    """Files of a case.

    Args:
        case: its name.
        pred: predicted labels.
        truth: true labels.
        image: to be shown beneath them.
    """

    case: str
    pred: Path
    truth: Path
    image: Path | None = None


def evaluate_files(cfg: DictConfig) -> dict[str, float]:
    """Score a folder of label files; writes what an evaluation of a run writes.

    Args:
        cfg: composed by Hydra from conf/evaluate.yaml.

    Returns:
        The content of metrics.json.

    Raises:
        SeglabError: files without a partner, of another grid, or with values that are no class.
    """
    folders = {name: _folder(cfg[name], name) for name in ("predictions", "truth")}
    pairs = find_pairs(folders["predictions"], folders["truth"], None if cfg.images is None else Path(cfg.images))
    kind = kind_of(pairs[0].truth)
    names, is_binary = find_classes(pairs, kind, cfg.classes, folders["truth"])
    spec = spec_of(folders["truth"].resolve().name, kind, names)
    output = Path(cfg.output) if cfg.output else folders["predictions"] / "evaluate"
    check_writable(output, "output")
    check_grid(cfg.grid)
    for pair in pairs if cfg.grid == "world" else ():
        check_place(pair.pred, pair.truth)
    known = {} if cfg.metadata is None else read_metadata(Path(cfg.metadata))
    scorer = CaseScorer(case_metrics(cfg.metrics, cfg.tolerance, spec), spec, output / "cases")
    rows, total = [], torch.zeros(len(names), len(names), dtype=torch.int64)
    for pair in track(pairs, description="evaluate", transient=True):
        row, counts = _score(pair, scorer, cfg.grid, is_binary, known.get(pair.case, {}))
        rows.append(row)
        total += counts
    found = Evaluation(
        title=f"{folders['predictions'].resolve().name} against {spec.name}",
        facts={name: str(folder) for name, folder in folders.items()} | {"cases": str(len(rows))},
        spec=spec,
        rows=rows,
        pooled=scores(total, names, has_background=True),
        counts=total.tolist(),
        slices=scorer.slices,
        columns=list(cfg.subgroups),
    )
    values = write_evaluation(found, output)
    show(found, values, output)
    return values


def find_pairs(predictions: Path, truth: Path, images: Path | None) -> list[Pair]:
    """Pair the files of folders by their names without endings.

    Where names differ, as volume-7 and segmentation-7 do, what begins with the first digit must be the same.

    Raises:
        DataError: true labels without prediction, named.
    """
    true, pred = _by_stem(truth), _by_stem(predictions)
    shown = {} if images is None else _by_stem(images)
    if not set(true) <= set(pred):
        true, pred, shown = (_by_number(files) for files in (true, pred, shown))
    elif not set(true) <= set(shown):
        shown = {**shown, **{case: file for case in true if (file := _by_number(shown).get(_number(case)))}}
    missing = sorted(set(true) - set(pred))
    if missing or not true:
        raise DataError(
            f"{len(missing)} of {len(true)} true label files have no prediction",
            given=", ".join(true[case].name for case in missing[:5]) or f"no label file in {truth}",
            allowed=f"a file of the same name in {predictions}, whatever its ending, for each file in {truth}",
            fix="predict these cases too, or take their truth out of the folder",
        )
    return [Pair(case, pred[case], file, shown.get(case)) for case, file in sorted(true.items())]


def find_classes(
    pairs: Sequence[Pair], kind: Kind, given: Sequence[str] | None, truth: Path
) -> tuple[tuple[str, ...], bool]:
    """Names of the classes, and whether 255 in the files stands for class 1.

    Names are those given, else those of a dataset.json beside the true labels, else the numbers found in them.
    Photos whose true labels hold nothing but 0 and 255 have two classes; elsewhere 255 is ignored.
    """
    listed = tuple(given) if given is not None else _listed(truth)
    values: set[int] = set()
    if listed is None or kind == "photo":
        for pair in pairs:
            values |= set(np.unique(read_labels(pair.truth)).tolist())
    is_binary = kind == "photo" and values <= {0, IGNORE_INDEX}
    if listed is None:
        largest = 1 if is_binary else max([1, *(value for value in values if value != IGNORE_INDEX)])
        listed = ("background", "foreground") if largest == 1 else tuple(map(str, range(largest + 1)))
    return listed, is_binary


def spec_of(name: str, kind: Kind, class_names: tuple[str, ...]) -> DataSpec:
    """What is known of labels without a network."""
    n = len(class_names)
    return DataSpec(
        name=name,
        kind=kind,
        spatial_dims=3 if kind == "volume" else 2,
        in_channels=1,
        class_names=class_names,
        class_colors=tuple(COLORS[index % len(COLORS)] for index in range(n)),
        mask_values=tuple(range(n)),
        has_background=True,
        patch_size=(1,) * (3 if kind == "volume" else 2),
        intensity=Intensity(mean=(0.0,), std=(1.0,)),
    )


def read_metadata(file: Path) -> dict[str, dict[str, str]]:
    """What a CSV knows of each case.

    Args:
        file: with a column "case".

    Raises:
        ConfigError: no such file or column.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return {row.pop("case"): row for row in csv.DictReader(stream)}
    except (OSError, KeyError) as error:
        raise ConfigError(
            "the table of cases cannot be read",
            given=f"metadata={file}: {type(error).__name__}: {error}",
            allowed='a CSV with a column "case" and others, such as scanner',
            fix="set metadata=<file>.csv",
        ) from error


def _score(
    pair: Pair, scorer: CaseScorer, compared: Grid, is_binary: bool, known: Mapping[str, str]
) -> tuple[dict[str, Any], Tensor]:
    pred, truth = read_pair(pair.pred, pair.truth, compared)
    if is_binary:
        pred, truth = (np.where(labels == IGNORE_INDEX, 1, labels).astype(np.uint8) for labels in (pred, truth))
    counts = count(torch.from_numpy(pred), torch.from_numpy(truth), scorer.spec.num_classes)
    row: dict[str, Any] = {"case": pair.case, "group": known.get("group", pair.case)}
    row |= {name: value for name, value in known.items() if name != "group"}
    row |= case_scores(counts, scorer.spec.class_names, has_background=True)
    spacing = volumes.read_geometry(pair.truth).spacing if scorer.spec.kind == "volume" else (1.0, 1.0, 1.0)
    return row | scorer.measure(row, _image(pair, truth.shape), pred, truth, spacing), counts


def _image(pair: Pair, shape: tuple[int, ...]) -> NDArray[Any]:
    """What is shown beneath the labels, (1, D, H, W); black where there is no image."""
    if pair.image is None:
        return np.zeros((1, *shape), np.float32)
    kind = kind_of(pair.image)
    if kind == "photo":
        image = photo.read_photo(pair.image)
    else:
        image = volumes.read_volume(pair.image)[0] if kind == "volume" else raster.read_raster(pair.image)[0]
    grey: NDArray[Any] = image.astype(np.float32).mean(axis=0, keepdims=True)
    if grey.shape[1:] != shape:
        raise other_grid(pair.image, pair.truth, f"{grey.shape[1:]} and {shape}")
    return grey


def _folder(value: str | None, key: str) -> Path:
    if value is None or not Path(value).is_dir():
        raise ConfigError(
            f"{key} is no folder",
            given=f"{key}={value}",
            allowed="a folder with label files",
            fix="type predictions=<folder> truth=<folder>",
        )
    return Path(value)


def _files(folder: Path) -> Iterator[Path]:
    endings = (*volumes.SUFFIXES, *photo.SUFFIXES)
    return (file for file in folder.iterdir() if file.is_file() and file.name.lower().endswith(endings))


def _by_stem(folder: Path) -> dict[str, Path]:
    return {file.name.removesuffix(".gz").rpartition(".")[0]: file for file in sorted(_files(folder))}


def _by_number(files: Mapping[str, Path]) -> dict[str, Path]:
    return {_number(stem): file for stem, file in files.items()}


def _number(stem: str) -> str:
    found = re.search(r"\d.*", stem)
    return found.group() if found else stem


def _listed(truth: Path) -> tuple[str, ...] | None:
    """Class names of a dataset.json in or above the folder, as nnU-Net writes it."""
    for folder in (truth, truth.parent):
        if (folder / DATASET).is_file():
            labels = json.loads((folder / DATASET).read_text(encoding="utf-8")).get("labels", {})
            values = {int(value): name for name, value in labels.items() if isinstance(value, int)}
            if sorted(values) == list(range(len(values))) and values:
                return tuple(values[index] for index in range(len(values)))
    return None
