"""export: writes a trained network for others to run, once it was compared with the network on real windows."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import torch
from omegaconf import DictConfig
from torch import Tensor

from seglab.data.store import Record
from seglab.errors import ConfigError
from seglab.extras import require
from seglab.files import check_writable
from seglab.inference.backend import Onnxruntime, Openvino
from seglab.inference.backend_onnx import write_openvino
from seglab.inference.network import Predict
from seglab.run.console import plain_console
from seglab.run.engine import available_threads
from seglab.run.ensemble import load_labelling, members_of, run_folder
from seglab.run.exports.backends import FOLDER, check_exportable, exported, onnx_file, program_of
from seglab.run.exports.export_bundle import check_bundled, write_bundle
from seglab.run.exports.export_check import Agreement, check_agreement, compared
from seglab.run.exports.int8 import check_dice, int8_file
from seglab.run.make import make
from seglab.run.record import read_run
from seglab.run.trained import TrainedRun

FORMATS = {"onnx": "network.onnx", "torch_export": "network.pt2", "openvino": "openvino", "bundle": "bundle"}


def export(cfg: DictConfig) -> Agreement:
    """Write a network in one of `FORMATS`; under its name there is a whole file that was compared, or the old one.

    Args:
        cfg: composed by Hydra from conf/export.yaml.

    Returns:
        How far file and network agree.

    Raises:
        SeglabError: no such run or format, a network that cannot be exported, packages or data that are missing, a file
            that gives other labels, or 8 bits that lose too much Dice.
    """
    check_format(cfg)
    run = opened(cfg)
    target = Path(cfg.output) if cfg.output else run.run_dir / FOLDER / FORMATS[cfg.format]
    check_writable(target.parent, "output")
    windows = run.windows(checked_records(run), cfg.n_windows)
    with whole(target) as temporary:
        compute = write(run, cfg, temporary)
        found = compared(run.task, compute, windows)
        if not cfg.int8:
            check_agreement(found, run.task)
    plain_console().print(f"{found}\nwritten to  {target}", soft_wrap=True)
    return found


def check_format(cfg: DictConfig) -> None:
    """Refuse an unknown format, and what a format cannot be.

    Raises:
        ConfigError: names what can.
    """
    if cfg.format not in FORMATS or (cfg.int8 and cfg.format == "torch_export"):
        raise ConfigError(
            "networks cannot be written so",
            given=f"format={cfg.format}, int8={str(cfg.int8).lower()}",
            allowed=f"format={', '.join(FORMATS)}; 8 bits with all but torch_export",
            fix="set format=onnx",
        )
    packages = {"onnx": ["onnxruntime"], "openvino": ["openvino"], "bundle": ["onnxruntime"]}.get(cfg.format, [])
    for package in [*packages, *(["onnx", "onnxscript"] if packages else []), *(["onnxruntime"] if cfg.int8 else [])]:
        require(package, "export", f"format={cfg.format}")


def opened(cfg: DictConfig) -> TrainedRun:
    """The run or ensemble, with the windows of this export.

    Raises:
        SeglabError: it cannot be opened, or its network cannot be exported.
    """
    torch.set_num_threads(cfg.trainer.threads or available_threads(1))
    run_dir = run_folder(cfg.run)
    members = members_of(run_dir)
    config = read_run(members[0])["config"]
    task = load_labelling(members, cfg.checkpoint)
    changes = {str(name): value for name, value in cfg.inference.items() if value is not None}
    task.sliding_window = make({**config["inference"], **changes}, "inference")
    check_exportable(task)
    if cfg.format == "bundle":
        check_bundled(task)
    return TrainedRun(run_dir=run_dir, member_dir=members[0], task=task, config=config, root=cfg.data.root)


def checked_records(run: TrainedRun) -> tuple[Record, ...]:
    """The cases that the file is compared on: validation, else test, else training."""
    records = run.data.records
    return next(records[name] for name in ("val", "test", "train", "all") if records.get(name))


def write(run: TrainedRun, cfg: DictConfig, target: Path) -> Predict:
    """Write the network; returns what computes its logits from what was written."""
    threads = torch.get_num_threads()
    if cfg.format == "torch_export":
        torch.export.save(program_of(exported(run.task)), target)
        return program_logits(torch.export.load(target).module())
    file = onnx_file(run)
    if cfg.int8:
        file = int8_file(run, file)
        backend = "openvino" if cfg.format == "openvino" else "onnxruntime"
        compute = Openvino(file, threads) if backend == "openvino" else Onnxruntime(file, threads)
        check_dice(run, file, compute, backend=backend, max_loss=cfg.max_dice_loss, keys="")
    if cfg.format == "openvino":
        target.mkdir()
        write_openvino(file, target / "network.xml")
        return Openvino(target / "network.xml", threads)
    if cfg.format == "bundle":
        write_bundle(run, file, target)
        return Onnxruntime(target / "network.onnx", threads)
    shutil.copyfile(file, target)
    return Onnxruntime(target, threads)


def program_logits(program: Callable[[Tensor], Tensor]) -> Predict:
    """Logits of a batch by a program that takes one image."""
    return lambda batch: torch.cat([program(image[None].contiguous()) for image in batch])


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside a file or folder and rename it when the block succeeds."""
    temporary = target.with_name(f".part-{uuid4().hex[:8]}-{target.name}")
    old = target.with_name(f".old-{uuid4().hex[:8]}-{target.name}")
    try:
        yield temporary
        if target.is_dir():
            target.replace(old)
        temporary.replace(target)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
