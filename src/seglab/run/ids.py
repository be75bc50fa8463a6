"""One id per run, shared by all its processes, and the run folder made from it."""

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from seglab.files import check_writable
from seglab.run.folder import LATEST, latest_run
from seglab.run.record import read_run

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
OF_A_START = (*RANKS, "RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NTASKS", "SLURM_LOCALID")
"""Set by whoever started the processes of a run; Lightning and `run_id` read them."""
OF_A_START_BEGINNING = ("MASTER_", "TORCHELASTIC_", "ROLE_", "SLURM_STEP", "OMPI_COMM_WORLD_", "PMI_", "JSM_")


def run_id() -> str:
    """The id of this run: given by whoever started the processes, else made of time and a random part, and exported.

    RUN_ID comes first, then torchrun's id, then Slurm's. Ranks that are started later inherit RUN_ID and so share the
    folder.
    """
    if not os.environ.get("RUN_ID"):
        os.environ["RUN_ID"] = (
            _torchrun_id() or _slurm_id() or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        )
    return os.environ["RUN_ID"]


def run_dir(runs_dir: str, resume: str | None) -> str:
    """The folder of this run, made here: a new one under `runs_dir`, or the old one, or the latest, when resuming.

    Raises:
        CheckpointError: when there is no run to resume.
        ConfigError: when the folder cannot be made or written, or there is no run to go on with.
    """
    folder = Path(resume) if resume else Path(runs_dir) / run_id()
    if resume == LATEST:
        folder = latest_run(Path(runs_dir), run_id())
    if resume:
        read_run(folder)
    check_writable(folder, "resume" if resume else "paths.runs_dir")
    return str(folder)


def run_name(folder: Path) -> str:
    """Name of a run, unique like its folder; a job of a sweep is called after sweep and number."""
    name, sweep = folder.resolve().name, sweep_of(folder)
    return f"{sweep}-{name}" if sweep else name


def sweep_of(folder: Path) -> str | None:
    """Name of the sweep that a run folder is a job of; None for a run of its own."""
    parent = folder.resolve().parent
    return parent.name if parent.name.startswith("sweep-") or (parent / "sweep.json").is_file() else None


def is_main_process() -> bool:
    """Whether this is rank 0, told from the environment, before any process group exists."""
    return all(int(os.environ.get(name, "0")) == 0 for name in RANKS)


def fresh_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a run of its own: without the id, rank and address of the processes that this one is among."""
    return {
        name: value
        for name, value in environment.items()
        if name not in OF_A_START and not name.startswith(OF_A_START_BEGINNING)
    }


def _torchrun_id() -> str | None:
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    if given == "none":  # torchrun without --rdzv-id; its workers share a parent and a port
        return f"torchrun-{os.getppid()}-{os.environ.get('MASTER_PORT', '0')}"
    return given


def _slurm_id() -> str | None:
    job = os.environ.get("SLURM_JOB_ID")
    return f"slurm-{job}-{os.environ.get('SLURM_STEP_ID', '0')}" if job and "SLURM_PROCID" in os.environ else None
