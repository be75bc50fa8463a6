"""Whoever has started the processes of a run must have started as many as the trainer counts on."""

import random
import socket
from collections.abc import Mapping

from seglab.errors import ConfigError

INTERACTIVE = ("bash", "interactive")
"""Names of Slurm jobs in which Lightning starts the processes itself."""
PORTS = range(10_000, 32_768)
"""Below those that systems hand out themselves: 32,768 and up on Linux, 49,152 and up elsewhere."""


def started_by(environment: Mapping[str, str]) -> str:
    """Who has started this process as one of several: torchrun, slurm, somebody, or nobody."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return "torchrun"
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in INTERACTIVE:
        return "slurm"
    return "somebody" if {"LOCAL_RANK", "WORLD_SIZE"} <= environment.keys() else "nobody"


def check_started(n_devices: int, n_nodes: int, environment: Mapping[str, str]) -> None:
    """Refuse another number of processes than trainer.devices x trainer.num_nodes: they would wait, or train apart.

    Args:
        n_devices: processes of a machine.
        n_nodes: machines.
        environment: of this process.

    Raises:
        ConfigError: with the line to put into the batch file, or the command to type.
    """
    starter, wanted = started_by(environment), n_devices * n_nodes
    if starter == "slurm":
        _check_slurm(n_devices, n_nodes, environment)
    elif starter != "nobody" and int(environment["WORLD_SIZE"]) != wanted:
        found = int(environment["WORLD_SIZE"])
        per_node = int(environment.get("LOCAL_WORLD_SIZE", found))
        raise ConfigError(
            "there are not as many processes as the trainer counts on",
            given=f"{found} process(es), trainer.devices={n_devices}, trainer.num_nodes={n_nodes}",
            allowed="a process for each device of each node",
            fix=f"set trainer.devices={per_node} trainer.num_nodes={max(1, found // per_node)}, or start "
            f"torchrun --nnodes={n_nodes} --nproc-per-node={n_devices}",
        )


def free_port() -> int:
    """A port of this machine that nobody listens at, and that no connection of somebody else gets before it is used."""
    draw = random.SystemRandom()
    while True:
        port = draw.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _check_slurm(n_devices: int, n_nodes: int, environment: Mapping[str, str]) -> None:
    n_tasks, wanted = int(environment["SLURM_NTASKS"]), n_devices * n_nodes
    per_node = int(environment.get("SLURM_NTASKS_PER_NODE") or n_tasks)
    known_nodes = int(environment.get("SLURM_NNODES") or n_nodes)
    lines = f"#SBATCH --nodes={n_nodes} --ntasks-per-node={n_devices}"
    if (n_tasks, per_node, known_nodes) != (wanted, n_devices, n_nodes):
        raise ConfigError(
            "Slurm starts another number of processes than the trainer counts on",
            given=f"{n_tasks} task(s) on {known_nodes} node(s), {per_node} each; trainer.devices={n_devices}, "
            f"trainer.num_nodes={n_nodes}",
            allowed="a task for each device of each node",
            fix=f"put into the batch file: {lines}; or set trainer.devices={per_node} trainer.num_nodes={known_nodes}",
        )
    if n_tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        raise ConfigError(
            "Lightning is told the tasks of a node",
            given=f"SLURM_NTASKS={n_tasks} without SLURM_NTASKS_PER_NODE",
            allowed="--ntasks-per-node, not --ntasks alone",
            fix=f"put into the batch file: {lines}",
        )
    if n_tasks > 1 and "SLURM_STEP_ID" not in environment:
        raise ConfigError(
            "this process is the batch script's own, and nobody starts the others",
            given=f"{n_tasks} tasks, no srun",
            allowed="one process for each task, which srun starts",
            fix="type srun before python in the batch file",
        )
