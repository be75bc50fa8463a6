"""The launcher of `-m`: every job is a process of its own, and a sweep goes on where it was stopped."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from seglab.run.sweeps.sweep import Sweep
    from seglab.run.sweeps.sweep_record import Job


class JobFailed(HydraException):
    """A job of the sweep ended without a result; the text names the job, the cause and the log file."""


class ProcessLauncher(Launcher):
    """Starts each job of a multirun as a fresh process in a run folder of its own.

    A failed job raises nothing here: its JobReturn has the status FAILED and raises JobFailed when `return_value` is
    read. Only under Hydra's basic sweeper, which hands out all jobs at once, a sweep ends here, with a table and, when
    jobs failed, with exit code 1. Another sweeper looks at `status`, and calls `report` at its own end.

    Args:
        parallel: jobs at once; each has GPUs of its own, or its share of the cores.
        retries: how often a failed job is started again.
        grace_s: seconds that jobs have to end themselves after Ctrl-C or SIGTERM, before they are killed.
    """

    def __init__(self, *, parallel: int, retries: int, grace_s: float) -> None:
        self.parallel, self.retries, self.grace_s = parallel, retries, grace_s
        self.sweep: Sweep | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra composed; the task function itself runs in the processes of the jobs."""
        self.config, self.loader = config, hydra_context.config_loader
        self.is_grid = str(config.hydra.sweeper._target_).endswith(".BasicSweeper")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs; those that have finished in the folder of the sweep are not run again.

        Args:
            job_overrides: overrides of each job; the same overrides are the same job.
            initial_job_idx: number of the first job, unless it is taken; a known job keeps its number.

        Returns:
            One JobReturn for each entry, in their order: the `value` of its result.json, or the status FAILED.

        Raises:
            SystemExit: code 130 or 143 after Ctrl-C or SIGTERM; code 1 after an error that the user can mend, and under
                the basic sweeper when a job failed.
        """
        from seglab.run.cli import Refused, user_errors

        with user_errors():
            sweep = self.sweep = self.sweep or self._open()
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            found = [self._job(sweep, list(o), n) for o, n in zip(job_overrides, numbers, strict=True)]
            sweep.run(found)
        if self.is_grid:
            sweep.close()
            if not sweep.report():
                raise Refused(1)
        return [self._returned(sweep, job, config) for job, config in found]

    def report(self) -> bool:
        """Show the table of all jobs, and the failed ones with their causes; tell whether all have finished."""
        return self.sweep is None or self.sweep.report()

    def _open(self) -> "Sweep":
        from seglab.run.sweeps.sweep import Sweep, check_alone, check_one_batch
        from seglab.run.sweeps.sweep_job import Program

        hydra = self.config.hydra
        check_alone()
        if self.is_grid:
            check_one_batch(hydra.sweeper.get("max_batch_size"))
        program = Program.typed(sys.argv, list(hydra.overrides.hydra), Path(hydra.runtime.cwd))
        folder = Path(hydra.runtime.cwd) / str(hydra.sweep.dir)
        return Sweep(folder, program, parallel=self.parallel, retries=self.retries, grace_s=self.grace_s)

    def _job(self, sweep: "Sweep", overrides: list[str], number: int) -> "tuple[Job, DictConfig | None]":
        """The job of these overrides, composed unless it has finished."""
        job = sweep.record.find(sweep.program.name, overrides)
        if job is not None and job.status == "finished":
            return job, None
        config = self.loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.num = job.number if job else sweep.record.free_number(number)
            config.hydra.job.id = str(config.hydra.job.num)
        if job is None:
            folder = str(config.hydra.sweep.subdir)
            job = sweep.record.add(config.hydra.job.num, sweep.program.name, overrides, folder)
        return job, config

    def _returned(self, sweep: "Sweep", job: "Job", config: DictConfig | None) -> JobReturn:
        given = JobReturn(overrides=job.overrides, working_dir=str(sweep.record.place(job)))
        if config is not None:
            given.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
            given.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        is_done = job.status == "finished"
        given.status = JobStatus.COMPLETED if is_done else JobStatus.FAILED
        given.return_value = job.value if is_done else JobFailed(f"{job.error}; see {sweep.log_file(job)}")
        return given
