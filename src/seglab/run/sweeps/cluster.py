"""Jobs of a sweep on a cluster: what each asks Slurm for, and the command that submits it. Imports no torch."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seglab.errors import ConfigError
from seglab.run.ids import fresh_environment
from seglab.run.sweeps.shares import Need

SOURCES = Path(__file__).resolve().parents[3]
EXECUTORS = ("slurm", "local")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Of conf/hydra/launcher/submitit.yaml.

    Args:
        executor: slurm, or local for processes of this machine.
        timeout_min: time limit of a job; it goes on in another one where it was.
        signal_delay_s: how long before the limit a job is told to save.
        max_timeouts: how often a job may reach its limit.
        partition: of the cluster.
        account: that is charged.
        qos: quality of service.
        mem_gb: of a machine.
        gpus_per_node: null asks for trainer.devices, or for none with trainer.accelerator=cpu.
        cpus_per_task: of a process.
        setup: lines of shell before the processes start.
        extra: other options of sbatch, by name.

    Raises:
        ConfigError: an executor that there is not, or a time that is none.
    """

    executor: str = "slurm"
    timeout_min: int = 60
    signal_delay_s: int = 120
    max_timeouts: int = 100
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    mem_gb: float | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    setup: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise _refused("executor", self.executor, ", ".join(EXECUTORS), "slurm")
        for name in ("timeout_min", "signal_delay_s"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise _refused(name, value, "an integer from 1 up", "60")

    def parameters(self, need: Need, name: str) -> dict[str, Any]:
        """What submitit's AutoExecutor is told: a task for each device, as Lightning counts under Slurm.

        Args:
            need: of the job.
            name: of the job in the queue.
        """
        n_tasks = need.n_processes or 1
        gpus = self.gpus_per_node if self.gpus_per_node is not None else n_tasks if need.uses_gpu else 0
        own = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "setup": list(self.setup) or None,
            "signal_delay_s": self.signal_delay_s,
            "additional_parameters": dict(self.extra) or None,
        }
        return {
            "name": name,
            "timeout_min": self.timeout_min,
            "nodes": need.n_nodes,
            "tasks_per_node": n_tasks,
            "gpus_per_node": gpus or None,
            "cpus_per_task": self.cpus_per_task,
            "mem_gb": self.mem_gb,
            **{f"slurm_{key}": value for key, value in own.items()},
            "local_setup": list(self.setup) or None,
        }


class Cluster:
    """Stands where a sweep asks what a job may use of this machine: nothing, for it runs elsewhere.

    Args:
        settings: of the launcher.
        environment: of the sweep.
    """

    def __init__(self, settings: ClusterSettings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        own = {name: text for name, text in fresh_environment(environment).items() if not _is_of_slurm_job(name)}
        sources = os.pathsep.join(filter(None, [str(SOURCES), own.get("PYTHONPATH")]))
        self.environment = own | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": sources}

    def need(self, config: DictConfig) -> Need:
        """What a composed job asks for.

        Raises:
            ConfigError: a number of devices that only the machine of the job knows.
        """
        trainer = {key: OmegaConf.select(config, f"trainer.{key}") for key in ("devices", "num_nodes", "accelerator")}
        is_cpu, text = trainer["accelerator"] == "cpu", str(trainer["devices"] or 1)
        if text == "-1" or (text == "auto" and not is_cpu):
            raise ConfigError(
                "a job on a cluster says how many devices it needs",
                given=f"trainer.devices={text} with hydra/launcher=submitit",
                allowed="a number of GPUs for each machine, of which there are trainer.num_nodes",
                fix="set trainer.devices=1",
            )
        return Need(1 if text == "auto" else int(text), not is_cpu, int(trainer["num_nodes"] or 1))

    def check(self, needs: Sequence[Need]) -> None:
        """Refuse several machines where there is one.

        Raises:
            ConfigError: a job of several nodes for the local executor.
        """
        most = max((need.n_nodes for need in needs), default=1)
        if self.settings.executor == "local" and most > 1:
            raise ConfigError(
                "this machine is one node",
                given=f"trainer.num_nodes={most} with hydra.launcher.executor=local",
                allowed="trainer.num_nodes=1, or the executor slurm",
                fix="set hydra.launcher.executor=slurm",
            )

    def take(self, need: Need) -> tuple[list[str], dict[str, str]]:
        """No GPU of this machine, and the environment to submit the job in."""
        return [], dict(self.environment)

    def give_back(self, gpus: Sequence[str]) -> None:
        """Nothing was taken."""

    def command(self, first: list[str], again: list[str], need: Need, folder: Path) -> list[str]:
        """The process that submits a job and waits for it.

        Args:
            first: command of the job.
            again: command that goes on with it once it has a checkpoint.
            need: of the job.
            folder: of the job.
        """
        name = f"{folder.resolve().parent.name}-{folder.name}"
        spec = {
            "first": first,
            "again": again,
            "folder": str(folder.absolute()),
            "executor": self.settings.executor,
            "max_timeouts": self.settings.max_timeouts,
            "parameters": self.settings.parameters(need, name),
        }
        return [sys.executable, "-m", "seglab.run.sweeps.cluster_job", json.dumps(spec)]


def settings_of(given: Mapping[str, Any]) -> ClusterSettings:
    """Settings from plain data, as Hydra hands them over."""
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(given)), resolve=True)
    return ClusterSettings(**plain)


def _is_of_slurm_job(name: str) -> bool:
    """Whether a variable tells of the job that the sweep itself runs in."""
    return name.startswith("SLURM_") and name != "SLURM_CONF"


def _refused(name: str, value: object, allowed: str, fix: str) -> ConfigError:
    return ConfigError(
        f"hydra.launcher.{name} cannot be that",
        given=f"hydra.launcher.{name}={value}",
        allowed=allowed,
        fix=f"set hydra.launcher.{name}={fix}",
    )
