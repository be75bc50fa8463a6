"""What each of several jobs at once may use: GPUs of its own, and its share of the cores. Imports no torch."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seglab.errors import ConfigError
from seglab.run.ids import fresh_environment

COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True)
class Need:
    """What a job needs.

    Args:
        n_processes: of the job, None for as many as there are GPUs.
        uses_gpu: false for a job that is told to stay on the CPU.
        n_nodes: machines, on each of which it has so many processes.
    """

    n_processes: int | None = 1
    uses_gpu: bool = True
    n_nodes: int = 1


def need(config: DictConfig) -> Need:
    """What a composed job needs.

    Raises:
        ConfigError: more than one machine.
    """
    chosen = {name: OmegaConf.select(config, f"trainer.{name}") for name in ("devices", "accelerator", "num_nodes")}
    if (chosen["num_nodes"] or 1) != 1:
        raise ConfigError(
            "the jobs of a sweep run on the machine of the sweep",
            given=f"trainer.num_nodes={chosen['num_nodes']}",
            allowed="trainer.num_nodes=1 with -m, or jobs of a cluster",
            fix="leave trainer.num_nodes out, or add hydra/launcher=submitit",
        )
    text = str(chosen["devices"])
    n_processes = None if text == "-1" else int(text) if text.isdecimal() else 1
    return Need(n_processes, chosen["accelerator"] != "cpu")


class Shares:
    """Hands out GPUs and cores to the jobs of a sweep; a single job at a time has the whole machine.

    Args:
        parallel: jobs at once.
        environment: of the sweep.
    """

    def __init__(self, parallel: int, environment: Mapping[str, str]) -> None:
        self.parallel = parallel
        self.environment = fresh_environment(environment) | {"PYTHONUNBUFFERED": "1"}  # a log file to look on at
        self.gpus: list[str] = []
        self.free: list[str] = []

    def need(self, config: DictConfig) -> Need:
        """What a composed job needs; see `need`."""
        return need(config)

    def command(self, first: list[str], again: list[str], need: Need, folder: Path) -> list[str]:
        """The command of a job, as it is; a job that is started again here is given another one to start with."""
        return first

    def check(self, needs: Sequence[Need]) -> None:
        """Look for GPUs if any of these jobs may use them, and see that the largest jobs fit beside each other.

        Raises:
            ConfigError: they need more GPUs than there are.
        """
        if self.parallel > 1 and not self.gpus and any(need.uses_gpu for need in needs):
            self.gpus = visible_gpus(self.environment)
            self.free = list(self.gpus)
        largest = max((self._n_gpus(need) for need in needs), default=0)
        if largest * min(self.parallel, len(needs)) <= len(self.gpus):
            return
        n_fitting = len(self.gpus) // largest
        raise ConfigError(
            "there are not enough GPUs for so many jobs at once",
            given=f"hydra.launcher.parallel={self.parallel}, trainer.devices={largest}, {len(self.gpus)} GPU(s)",
            allowed=f"at most {n_fitting} job(s) of {largest} device(s) at once",
            fix=f"set hydra.launcher.parallel={n_fitting}" if n_fitting else f"set trainer.devices={len(self.gpus)}",
        )

    def take(self, need: Need) -> tuple[list[str], dict[str, str]]:
        """GPUs for a job, to be given back, and its environment; what the user set himself stays."""
        environment = dict(self.environment)
        if self.parallel == 1:
            return [], environment
        n_gpus = self._n_gpus(need)
        taken, self.free = self.free[:n_gpus], self.free[n_gpus:]
        if taken:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        n_threads = max(1, n_cores() // (self.parallel * (need.n_processes or 1)))
        environment.setdefault("OMP_NUM_THREADS", str(n_threads))
        return taken, environment

    def give_back(self, gpus: Sequence[str]) -> None:
        """Take back the GPUs of a job that has ended."""
        self.free.extend(gpus)

    def _n_gpus(self, need: Need) -> int:
        if not self.gpus or not need.uses_gpu:
            return 0
        return len(self.gpus) if need.n_processes is None else need.n_processes


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that CUDA shows to this environment; asks another process, so that this one stays small."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return list(takewhile(lambda name: name not in ("", "-1"), (part.strip() for part in given.split(","))))
    asked = subprocess.run([sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False)
    return [str(number) for number in range(int(asked.stdout or 0))]


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
