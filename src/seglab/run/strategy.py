"""How the processes of a run share the work: the strategy of Lightning's trainer, and which can be had where."""

import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import FSDPStrategy
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

from seglab.errors import ConfigError
from seglab.run.watch import START, WatchedDDPStrategy

if TYPE_CHECKING:
    from seglab.run.engine import Engine

STRATEGIES = ("auto", "ddp", "ddp_spawn", "fsdp")
SHARD_FROM = 1_000_000
"""Parameters of a part of the network that FSDP gathers and frees on its own."""


def check_strategy(engine: "Engine") -> None:
    """Refuse a strategy that there is not, or not here.

    Raises:
        ConfigError: with what can be had instead.
    """
    given, fix, allowed = f"trainer.strategy={engine.strategy}", "set trainer.strategy=auto", ", ".join(STRATEGIES)
    if engine.strategy in ("ddp_fork", "ddp_notebook"):
        what = "processes are not forked here: a forked one can use neither CUDA nor the threads of its parent"
        raise ConfigError(what, given=given, allowed=allowed, fix="set trainer.strategy=ddp_spawn")
    if engine.strategy not in STRATEGIES:
        raise ConfigError("there is no such strategy", given=given, allowed=allowed, fix=fix)
    if engine.strategy == "ddp_spawn" and engine.num_nodes != 1:
        raise ConfigError(
            "spawned processes run on one machine",
            given=f"{given}, trainer.num_nodes={engine.num_nodes}",
            allowed="trainer.num_nodes=1, or ddp under torchrun or srun",
            fix=fix,
        )
    if engine.strategy == "fsdp":
        _check_fsdp(engine, given, fix)


def _check_fsdp(engine: "Engine", given: str, fix: str) -> None:
    if not engine.uses_gpu:
        raise ConfigError(
            "FSDP shards a network over GPUs", given=f"{given} without a GPU", allowed="GPUs, or ddp on CPUs", fix=fix
        )
    if engine.gradient_clip_val is not None:
        raise ConfigError(
            "Lightning's FSDP cannot clip the norm of a gradient",
            given=f"{given}, trainer.gradient_clip_val={engine.gradient_clip_val}",
            allowed="trainer.gradient_clip_val=null, as in trainer=fsdp",
            fix="set trainer.gradient_clip_val=null",
        )
    if engine.sync_batchnorm:
        raise ConfigError(
            "synchronised batch norm has been built for DDP alone",
            given=f"{given}, trainer.sync_batchnorm=true",
            allowed="trainer.sync_batchnorm=false with fsdp",
            fix="set trainer.sync_batchnorm=false",
        )


def new_strategy(engine: "Engine", *, leaves_unused: bool) -> Any:
    """The strategy of several processes; running statistics are averaged before each scoring, not at every step.

    Args:
        engine: of the run.
        leaves_unused: whether a step leaves parameters without a gradient.
    """
    if engine.world_size == 1:
        return "auto"
    if engine.strategy == "fsdp":
        return sharded(engine.timeout_s)
    return WatchedDDPStrategy(
        forward_sync_buffers=False,
        find_unused_parameters=leaves_unused,
        timeout=timedelta(seconds=engine.timeout_s),
    )


def sharded(timeout_s: float) -> FSDPStrategy:
    """FSDP whose checkpoints are whole, plain files that open anywhere, on any number of processes.

    Args:
        timeout_s: how long a process waits for the others.
    """
    policy = functools.partial(size_based_auto_wrap_policy, min_num_params=SHARD_FROM)
    return FSDPStrategy(
        state_dict_type="full", auto_wrap_policy=policy, timeout=max(START, timedelta(seconds=timeout_s))
    )


def cluster_environments() -> list[SLURMEnvironment]:
    """Slurm's, where it has started this process; it must not put the job into the queue again behind our back."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
