"""Preflight: what can only be checked once data and network exist, on the CPU, before any training."""

import logging
from copy import deepcopy
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import nn

from seglab.data.module import SegmentationData
from seglab.errors import ConfigError, DataError, SeglabError
from seglab.nets.base import SegmentationNet
from seglab.run.engine import Engine
from seglab.task.segmentation import SegmentationTask
from seglab.task.shared_norm import share_batch_norm

log = logging.getLogger("seglab")


def check_monitor(monitor: str, known: list[str], name: str) -> None:
    """Refuse a monitored metric that validation will not log.

    Raises:
        ConfigError: names the nearest metric.
    """
    if monitor not in known:
        nearest = get_close_matches(monitor, known, n=1, cutoff=0.3)
        raise ConfigError(
            f"callbacks.{name} watches a metric that is not logged",
            given=f"callbacks.{name}.monitor={monitor}",
            allowed=", ".join(known),
            fix=f"set callbacks.{name}.monitor={nearest[0] if nearest else known[0]}",
        )


def check_ranks(data: SegmentationData, world_size: int) -> None:
    """Refuse fewer cases than processes: a process without a case would leave the others waiting.

    Raises:
        DataError: names the split.
    """
    for split in ("train", "val", "test"):
        n_cases = len(data.records[split])
        if 0 < n_cases < world_size:
            raise DataError(
                f"the {split} split has fewer cases than processes",
                given=f"{n_cases} {split} case(s) for {world_size} processes (trainer.devices x trainer.num_nodes)",
                allowed=f"at least {world_size} cases in each split",
                fix=f"set trainer.devices={n_cases}, or a larger data.{split}_fraction"
                if split != "train"
                else f"set trainer.devices={n_cases}, or smaller data.val_fraction and data.test_fraction",
            )


@dataclass(frozen=True)
class Patch:
    """What the network does with a training patch.

    Args:
        has_thin_level: whether a 3-D convolution gets several slices, but fewer than its kernel has.
        leaves_unused: whether some of its parameters have no part in its output, such as a head for training.
    """

    has_thin_level: bool
    leaves_unused: bool


def check_patch(task: SegmentationTask, batch_size: int) -> Patch:
    """Push the shape of one training batch through a weightless copy of the network.

    Raises:
        ConfigError: when the network cannot take it.
    """
    probe = deepcopy(task.net).to("meta").train()
    is_thin: list[bool] = []
    for module in probe.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(
                lambda conv, inputs: is_thin.append(1 < inputs[0].shape[2] < conv.kernel_size[0])
            )
    patch = task.spec.patch_size
    try:
        logits = probe(torch.empty(batch_size, probe.in_channels, *probe.input_size_for(patch), device="meta"))
        logits.sum().backward()
        covers = all(length >= wanted for length, wanted in zip(logits.shape[2:], patch, strict=True))
        fault = None if covers else f"gives logits of {tuple(logits.shape)}"
    except SeglabError:
        raise
    except (RuntimeError, ValueError) as error:
        fault = str(error)
    if fault:
        raise ConfigError(
            f"{type(task.net).__name__} cannot train on this patch",
            given=f"data.patch_size={list(patch)}, data.batch_size={batch_size}: {fault}",
            allowed="patches that leave more than one pixel per batch at the network's lowest level",
            fix=f"set data.patch_size={[max(2 * n, 64) for n in patch]} or data.batch_size=2",
        )
    leaves_unused = any(parameter.grad is None for parameter in probe.parameters())
    return Patch(has_thin_level=any(is_thin), leaves_unused=leaves_unused)


def check_supported(engine: Engine, net: SegmentationNet) -> Engine:
    """Refuse settings of the trainer that the network, or one inside it, names as unsupported.

    Args:
        engine: as configured.
        net: of the run.

    Returns:
        The engine, in 32-true where only `auto` chose a bfloat16 that the network cannot take.

    Raises:
        ConfigError: gives the network's reason and the setting to type.
    """
    nets = [module for module in net.modules() if isinstance(module, SegmentationNet)]
    reasons = {name: f"{type(inner).__name__}: {why}" for inner in nets for name, why in inner.unsupported.items()}
    if "bf16" in reasons and engine.precision == "auto" and engine.resolved_precision == "bf16-mixed":
        log.info(f"no bfloat16 for {reasons['bf16']}: training in 32-true")
        engine = replace(engine, precision="32-true")
    asked = {
        "compile": (engine.compile, "trainer.compile=true", "trainer.compile=false"),
        "bf16": (engine.precision == "bf16-mixed", "trainer.precision=bf16-mixed", "trainer.precision=auto"),
        "channels_last": (engine.channels_last, "trainer.channels_last=true", "trainer.channels_last=false"),
    }
    for name, (is_asked, setting, fix) in asked.items():
        if is_asked and name in reasons:
            raise ConfigError(
                f"{type(net).__name__} cannot train with {setting}",
                given=f"{setting} with {reasons[name]}",
                allowed=f"{fix}, or a network without this limit",
                fix=f"set {fix}",
            )
    return engine


def share_norms(engine: Engine, net: SegmentationNet) -> None:
    """Let batch norm look at the batches of all processes, where that is asked for.

    Raises:
        ConfigError: a network without batch norm.
    """
    if engine.sync_batchnorm and engine.world_size > 1 and not share_batch_norm(net):
        raise ConfigError(
            "there is no batch norm to synchronise",
            given=f"trainer.sync_batchnorm=true with {type(net).__name__}",
            allowed="networks with batch norm; other norms look at one image at a time",
            fix="set trainer.sync_batchnorm=false",
        )


def sound_precision(engine: Engine, *, has_thin_level: bool) -> Engine:
    """Leave bfloat16 where the CPU computes wrong gradients in it.

    On CPUs torch (2.14 at least) gets the weight gradient of a Conv3d in bfloat16 wrong, with values from unset memory,
    whenever its input has more than one slice but fewer than its kernel: 2 for 3-wide kernels, 2 to 4 for 5-wide.

    Args:
        engine: as configured.
        has_thin_level: whether the network has such a level with the patch of this run.

    Raises:
        ConfigError: when bf16-mixed was asked for by name.
    """
    if engine.uses_gpu or not has_thin_level or engine.resolved_precision != "bf16-mixed":
        return engine
    if engine.precision == "auto":
        log.info("a level with fewer slices than a kernel has wrong bfloat16 gradients on CPUs: training in 32-true")
        return replace(engine, precision="32-true")
    raise ConfigError(
        "bfloat16 gives wrong gradients for this network and patch on a CPU",
        given=f"trainer.precision={engine.precision} with a level of fewer slices than its convolutions' kernels",
        allowed="32-true, or a patch that leaves one slice or as many as the kernel has at every level",
        fix="set trainer.precision=auto",
    )
