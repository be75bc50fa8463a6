"""Which backend computes a prediction; ONNX files are made once and kept in the folder of the run."""

import hashlib
import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch.export import ExportedProgram

from seglab.errors import ConfigError
from seglab.extras import require
from seglab.inference.backend import BACKENDS, Backend, Checked, Onnxruntime, Openvino, in_precision
from seglab.inference.backend_onnx import SizeRule, traced, write_onnx
from seglab.inference.folding import fold_batch_norm
from seglab.inference.network import Predict
from seglab.nets import base
from seglab.nets.base import SegmentationNet
from seglab.run.engine import computes_in_bf16
from seglab.run.exports.int8 import check_dice, int8_file
from seglab.run.exports.kept import made_once
from seglab.run.trained import TrainedRun
from seglab.task.implicit import ImplicitTask
from seglab.task.segmentation import SegmentationTask

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
FOLDER = "export"

log = logging.getLogger("seglab")


@dataclass(frozen=True, kw_only=True)
class BackendChoice:
    """What computes logits.

    Args:
        backend: torch, onnxruntime or openvino.
        int8: compute convolutions in 8 bits; not with torch.
        max_dice_loss: largest loss of the mean Dice of the validation cases that 8 bits may cost.
        fold: torch only: fold batch norms into convolutions, which is faster and rounds in another way; the other
            backends always do.

    Raises:
        ConfigError: an unknown backend, or 8 bits with torch.
    """

    backend: Backend = "torch"
    fold: bool = False
    int8: bool = False
    max_dice_loss: float = 0.005

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(
                "there is no such backend",
                given=f"inference.backend={self.backend}",
                allowed=", ".join(BACKENDS),
                fix="set inference.backend=torch",
            )
        if self.int8 and self.backend == "torch":
            raise ConfigError(
                "torch does not compute in 8 bits here",
                given="inference.int8=true with inference.backend=torch",
                allowed="inference.backend=openvino or onnxruntime",
                fix="add inference.backend=openvino",
            )


def computing(run: TrainedRun, choice: BackendChoice, precision: str, *, scored: str | None = None) -> Predict:
    """What gives the logits of a prediction.

    Args:
        run: with the task on its device.
        choice: of the backend.
        precision: as Lightning names it; where the processor has no bfloat16, it is float32.
        scored: the precision in which the run was scored, which is used as it is; any other half precision is compared
            with float32 first.

    Raises:
        ConfigError: packages that are missing, a network that cannot be exported, or 8 bits that cost too much.
    """
    device = run.task.device.type
    dtype = HALF.get(precision)
    if dtype is torch.bfloat16 and not computes_in_bf16(device == "cuda"):
        log.info("this processor does not compute in bfloat16: predicting in float32")
        dtype = None
    if choice.backend == "torch":
        if choice.fold:
            fold(run.task)
        plain = in_precision(run.task.logits, dtype, device)
        if dtype is None or precision == scored:
            return plain
        return Checked(plain, in_precision(run.task.logits, None, device), precision)
    require_runtime(choice.backend)
    if choice.int8:
        file = int8_file(run, onnx_file(run))
        compute = runtime(file, choice.backend)
        check_dice(run, file, compute, backend=choice.backend, max_loss=choice.max_dice_loss, keys="inference.")
        return compute
    file = onnx_file(run)
    if choice.backend == "openvino" and dtype is torch.bfloat16:
        return Checked(Openvino(file, torch.get_num_threads(), "bf16"), runtime(file, "openvino"), precision)
    return runtime(file, choice.backend)


def fold(task: SegmentationTask) -> None:
    """Fold batch norms of the task's network into its convolutions, where one follows the other."""
    image = torch.randn(1, task.net.in_channels, *task.net.input_size_for([1] * task.net.spatial_dims))
    with torch.random.fork_rng(devices=[]):
        folded, n_folded = fold_batch_norm(task.net, image.to(task.device))
    task.net = cast(SegmentationNet, folded).to(memory_format=task.layout)
    log.debug(f"{n_folded} batch norms folded")


def runtime(file: Path, backend: Backend) -> Predict:
    """A network from its ONNX file, in float32 or in the 8 bits of the file."""
    threads = torch.get_num_threads()
    return Openvino(file, threads) if backend == "openvino" else Onnxruntime(file, threads)


def require_runtime(backend: Backend) -> None:
    """See that the packages of a backend are installed.

    Raises:
        ConfigError: one of them is not.
    """
    for package in (backend, "onnx", "onnxscript"):
        require(package, "export", f"inference.backend={backend}")


def onnx_file(run: TrainedRun) -> Path:
    """The network as ONNX, in the folder of the run; made where it is not there yet, or damaged.

    Raises:
        ConfigError: a network that cannot be exported, or a folder that cannot be written.
    """
    check_exportable(run.task)
    file = run.run_dir / FOLDER / f"network-{weights_key(run.task)}.onnx"

    def make(temporary: Path) -> None:
        """Write the network, and remove what no longer is it."""
        net = exported(run.task)
        write_onnx(program_of(net), net, temporary)
        for old in file.parent.glob("network-*"):  # of other weights or other code, and what was made of it
            old.unlink(missing_ok=True)

    return made_once(file, "the network as ONNX", make)


def exported(task: SegmentationTask) -> SegmentationNet:
    """A copy of the network as it is exported: on the CPU, in plain memory layout, batch norms folded."""
    net = deepcopy(task.net).cpu().eval().to(memory_format=torch.contiguous_format)
    image = torch.zeros(1, net.in_channels, *net.input_size_for([1] * net.spatial_dims))
    return cast(SegmentationNet, fold_batch_norm(net, image.normal_(generator=torch.Generator().manual_seed(0)))[0])


def program_of(net: SegmentationNet) -> ExportedProgram:
    """The network traced for images of any size that it takes."""
    return traced(net, net.in_channels, SizeRule.of(net.input_size_for, net.spatial_dims))


def check_exportable(task: SegmentationTask) -> None:
    """Refuse what is known not to work, before anything is tried.

    Raises:
        ConfigError: gives the network's reason.
    """
    nets = [module for module in task.net.modules() if isinstance(module, SegmentationNet)]
    reasons = [f"{type(net).__name__}: {net.unsupported['onnx']}" for net in nets if "onnx" in net.unsupported]
    if isinstance(task, ImplicitTask) and task.coarse_to_fine:
        reasons.append("task=implicit refines a coarse grid by what it finds in the image; a file has fixed steps")
    if reasons:
        raise ConfigError(
            f"{type(task.net).__name__} cannot be exported",
            given="; ".join(reasons),
            allowed="networks to which python src/info.py what=compatibility says yes under ONNX",
            fix="predict with inference.backend=torch, or train another model=...",
        )


def weights_key(task: SegmentationTask) -> str:
    """Hash of the network's weights and of the code of all networks."""
    digest = hashlib.sha256(torch.__version__.encode())
    for file in sorted(Path(base.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    for name, value in task.net.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
