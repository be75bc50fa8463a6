"""Engine: how a run uses the hardware; builds the Lightning trainer from explicit settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger

from seglab.errors import ConfigError
from seglab.run.checkpoints.checkpoint_io import CheckpointFiles
from seglab.run.make import make
from seglab.run.started import check_started
from seglab.run.strategy import check_strategy, cluster_environments, new_strategy

PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Settings of the Lightning trainer and of the processor.

    Args:
        max_epochs: end of the training.
        max_steps: optimizer steps, -1 for no limit.
        max_time: DD:HH:MM:SS or null.
        accelerator: auto, cpu, gpu, mps.
        devices: processes (CPU) or devices (GPU) of a node, or auto: 1 on CPUs, all on GPUs.
        num_nodes: machines.
        strategy: auto (ddp for several processes), ddp, ddp_spawn (without a command line to repeat) or fsdp (GPUs).
        sync_batchnorm: batch norm over the batches of all processes, as if they were one.
        precision: auto, 32-true, bf16-mixed or 16-mixed (GPU); auto takes bf16-mixed where the hardware has it.
        channels_last: memory layout of network and images.
        compile: compile the network in place.
        threads: torch threads per process; null takes OMP_NUM_THREADS or shares the cores out.
        accumulate_grad_batches: batches per optimizer step.
        gradient_clip_val: largest gradient norm, null for none.
        check_val_every_n_epoch: epochs between validations.
        log_every_n_steps: steps between log rows.
        limit_train_batches: for a quick look: batches (integer) or share (float).
        limit_val_batches: the same for validation.
        limit_test_batches: the same for the test.
        num_sanity_val_steps: validation batches before the first epoch.
        deterministic: refuse operations without a deterministic form.
        detect_anomaly: find the operation that made a NaN, slow.
        profiler: null, simple, advanced or pytorch.
        timeout_s: seconds after which a process that has started gives up waiting for the others.

    Raises:
        ConfigError: an unknown precision or strategy, a number of devices that is none, or a training without an end.
    """

    max_epochs: int = 100
    max_steps: int = -1
    max_time: str | None = None
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    threads: int | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    check_val_every_n_epoch: int = 1
    log_every_n_steps: int = 10
    limit_train_batches: float | int = 1.0
    limit_val_batches: float | int = 1.0
    limit_test_batches: float | int = 1.0
    num_sanity_val_steps: int = 0
    deterministic: bool = False
    detect_anomaly: bool = False
    profiler: str | None = None
    timeout_s: int = 600

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(
                "there is no such precision",
                given=f"trainer.precision={self.precision}",
                allowed=", ".join(PRECISIONS),
                fix="set trainer.precision=auto",
            )
        check_strategy(self)
        if self.devices != "auto" and (not isinstance(self.devices, int) or self.devices < -1 or self.devices == 0):
            raise ConfigError(
                "this is no number of devices",
                given=f"trainer.devices={self.devices}",
                allowed="auto, an integer from 1 up, or -1 for all",
                fix="set trainer.devices=1",
            )
        if self.max_epochs < 1 and self.max_steps < 1:
            raise ConfigError(
                "the training has no end, or none to start with",
                given=f"trainer.max_epochs={self.max_epochs}, trainer.max_steps={self.max_steps}",
                allowed="one of them from 1 up; learning-rate schedules span the whole training",
                fix="set trainer.max_epochs=50",
            )

    @property
    def uses_gpu(self) -> bool:
        """Whether the run is on CUDA devices."""
        return self.accelerator in ("gpu", "cuda") or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def n_devices(self) -> int:
        """Processes of one node."""
        if self.devices == "auto":
            return max(torch.cuda.device_count(), 1) if self.uses_gpu else 1
        return max(torch.cuda.device_count(), 1) if self.devices == -1 else int(self.devices)

    @property
    def world_size(self) -> int:
        """Processes over all nodes."""
        return self.n_devices * self.num_nodes

    @property
    def validates(self) -> bool:
        """Whether the training is long enough for a validation."""
        return self.limit_val_batches != 0 and (self.max_epochs < 1 or self.check_val_every_n_epoch <= self.max_epochs)

    @property
    def resolved_precision(self) -> Any:
        """The precision that `auto` stands for on this machine."""
        if self.precision != "auto":
            return self.precision
        return "bf16-mixed" if computes_in_bf16(self.uses_gpu) else "32-true"

    def trainer(
        self, *, callbacks: list[Callback], loggers: list[Logger], run_dir: Path, leaves_unused: bool = False
    ) -> Trainer:
        """The Lightning trainer; our samplers share out the data, so Lightning's are off.

        Args:
            callbacks: of the run.
            loggers: of the run.
            run_dir: folder of the run.
            leaves_unused: whether a step leaves parameters without a gradient, which DDP must then look for.

        Raises:
            ConfigError: hardware that is not there, or a setting that Lightning refuses.
        """
        torch.set_num_threads(self.threads or available_threads(self.n_devices))
        check_started(self.n_devices, self.num_nodes, os.environ)
        try:
            return self._trainer(callbacks, loggers, run_dir, leaves_unused)
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(
                "this machine cannot run the trainer as configured",
                given=f"trainer.accelerator={self.accelerator}, trainer.devices={self.devices}: {error}",
                allowed="hardware that is there, and settings that Lightning's Trainer takes",
                fix="set trainer.accelerator=auto trainer.devices=auto, or correct the setting it names",
            ) from error

    def _trainer(self, callbacks: list[Callback], loggers: list[Logger], run_dir: Path, leaves_unused: bool) -> Trainer:
        return Trainer(
            accelerator=self.accelerator,
            devices=self.n_devices,
            num_nodes=self.num_nodes,
            strategy=new_strategy(self, leaves_unused=leaves_unused),
            precision=self.resolved_precision,
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            max_time=self.max_time,
            accumulate_grad_batches=self.accumulate_grad_batches,
            gradient_clip_val=self.gradient_clip_val,
            check_val_every_n_epoch=self.check_val_every_n_epoch,
            log_every_n_steps=self.log_every_n_steps,
            limit_train_batches=self.limit_train_batches,
            limit_val_batches=self.limit_val_batches,
            limit_test_batches=self.limit_test_batches,
            num_sanity_val_steps=self.num_sanity_val_steps,
            deterministic=self.deterministic,
            detect_anomaly=self.detect_anomaly,
            profiler=self.profiler,
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=run_dir,
            plugins=[CheckpointFiles(), *cluster_environments()],
            use_distributed_sampler=False,
            enable_model_summary=False,
        )


def engine_for(settings: Mapping[str, Any], trained_precision: str) -> Engine:
    """The engine of a job on a trained run: in the precision of the training unless another is asked for.

    Args:
        settings: of the trainer.
        trained_precision: as in run.json; the half precision of GPUs becomes 32-true on a CPU.
    """
    engine: Engine = make({"_target_": f"{__name__}.Engine", **settings, "precision": "32-true"}, "trainer")
    trained = "32-true" if trained_precision == "16-mixed" and not engine.uses_gpu else trained_precision
    return replace(engine, precision=settings["precision"] or trained)


def computes_in_bf16(gpu: bool) -> bool:
    """Whether the hardware multiplies bfloat16 itself: CUDA capability 8 and up, CPUs with avx512_bf16 or AMX."""
    if gpu:
        return torch.cuda.get_device_capability()[0] >= 8
    info = Path("/proc/cpuinfo")
    return info.is_file() and cpu_computes_in_bf16(info.read_text())


def cpu_computes_in_bf16(cpuinfo: str) -> bool:
    """Whether the first processor of a /proc/cpuinfo text has avx512_bf16 or AMX."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def available_threads(n_processes: int) -> int:
    """Threads per process: OMP_NUM_THREADS where it is set, else an equal share of the cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, available_cores() // n_processes))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
