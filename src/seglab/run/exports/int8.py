"""The network of a run in 8 bits: calibrated on training cases, refused where it costs Dice on validation cases."""

import hashlib
import logging
from pathlib import Path

import torch
from rich.progress import track

from seglab.errors import ConfigError, DataError
from seglab.inference.backend import in_precision
from seglab.inference.backend_onnx import write_int8
from seglab.inference.network import Predict
from seglab.metrics.confusion import count
from seglab.metrics.report import scores
from seglab.run.exports.kept import made_once
from seglab.run.record import read_json, write_json
from seglab.run.trained import TrainedRun, plain_predictor

N_CALIBRATION = 16
"""Windows of training cases whose activations give the ranges of the 8 bits."""

log = logging.getLogger("seglab")


def int8_file(run: TrainedRun, plain: Path) -> Path:
    """The network as ONNX in 8 bits, beside its float32 file; made where it is not there yet, or damaged.

    What was calibrated and measured on other data than the run's own has a name of its own.

    Args:
        run: whose training cases give the ranges.
        plain: the float32 file.

    Raises:
        DataError: the data of the run is not there.
    """
    data = "" if run.root is None else f"-{hashlib.sha256(run.root.encode()).hexdigest()[:8]}"
    file = plain.with_name(f"{plain.stem}-int8{data}.onnx")

    def make(temporary: Path) -> None:
        """Write the network in 8 bits, by what it does to training windows."""
        write_int8(plain, temporary, run.windows(run.data.records["train"], N_CALIBRATION))

    return made_once(file, "the network in 8 bits", make)


def check_dice(
    run: TrainedRun, file: Path, compute: Predict, *, backend: str, max_loss: float, keys: str
) -> dict[str, float | None]:
    """Refuse 8 bits that lose too much Dice on the validation cases; measured once, and kept beside the file.

    Args:
        run: whose validation cases count.
        file: from `int8_file`.
        compute: gives its logits.
        backend: that computes them.
        max_loss: largest loss of mean Dice that is allowed.
        keys: what stands before `int8` and `max_dice_loss` on the command line: "inference." or nothing.

    Raises:
        ConfigError: the loss is larger, or there is no foreground to measure it on.
        DataError: there are no validation cases.
    """
    measured = file.with_name(f"{file.stem}-{backend}.json")
    if not measured.is_file():
        write_json(measured, measured_dice(run, compute, keys))
    found: dict[str, float | None] = read_json(measured)
    check_gate(found, max_loss, keys)
    return found


def measured_dice(run: TrainedRun, compute: Predict, keys: str) -> dict[str, float | None]:
    """Mean Dice over all pixels of the validation cases, by the network in float32 and by `compute`.

    Args:
        run: whose validation cases count.
        compute: gives logits in 8 bits.
        keys: as for `check_dice`.

    Raises:
        DataError: there are no validation cases.
    """
    records, spec = run.data.records["val"], run.task.spec
    if not records:
        raise DataError(
            "8 bits cannot be measured",
            given=f"no validation cases in {run.run_dir}",
            allowed="a run with validation cases",
            fix=f"leave {keys}int8 out, or train with data.val_fraction=0.15",
        )
    ways = {"float32": in_precision(run.task.logits, None, run.task.device.type), "int8": compute}
    sums = {name: torch.zeros(spec.num_classes, spec.num_classes, dtype=torch.int64) for name in ways}
    for record in track(records, description="Dice of 8 bits", transient=True):
        image, mask = run.image(record), torch.tensor(run.data.store.mask(record.id)[:]).long()
        for name, way in ways.items():
            sums[name] += count(plain_predictor(run.task, way).labels(image), mask, spec.num_classes)
    names, background = spec.class_names, spec.has_background
    dice = {
        name: scores(counts, names, has_background=background, regions=spec.regions)["dice/mean"]
        for name, counts in sums.items()
    }
    return {**dice, "loss": dice["float32"] - dice["int8"], "n_cases": len(records)}


def check_gate(measured: dict[str, float | None], max_loss: float, keys: str) -> None:
    """Refuse 8 bits that lose more Dice than is allowed, or of which nothing could be measured.

    Args:
        measured: from `measured_dice`.
        max_loss: largest loss that is allowed.
        keys: as for `check_dice`.

    Raises:
        ConfigError: gives the loss.
    """
    loss = measured["loss"]
    if loss is not None and loss <= max_loss:
        log.info(f"8 bits lose {loss:.4f} of the mean Dice of {measured['n_cases']} validation cases")
        return
    dice, wanted = ("none" if measured[name] is None else f"{measured[name]:.4f}" for name in ("int8", "float32"))
    raise ConfigError(
        "8 bits lose too much",
        given=f"mean Dice {dice} instead of {wanted} on {measured['n_cases']} case(s)",
        allowed=f"a loss of at most {keys}max_dice_loss={max_loss}",
        fix=f"set {keys}int8=false, or raise {keys}max_dice_loss if that is good enough",
    )
