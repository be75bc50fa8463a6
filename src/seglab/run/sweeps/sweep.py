"""A sweep: runs jobs as processes, some at once, and is stopped and started again without losing or repeating one."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from seglab.errors import ConfigError
from seglab.files import check_writable
from seglab.run.console import plain_console
from seglab.run.ids import is_main_process
from seglab.run.secrets import hide_secrets
from seglab.run.sweeps.cluster import Cluster
from seglab.run.sweeps.shares import Need, Shares
from seglab.run.sweeps.sweep_job import Program, cause, first_overrides, quoted
from seglab.run.sweeps.sweep_record import Job, SweepRecord, has_finished, read_result, shown_time, shown_value

log = logging.getLogger("seglab.sweep")

GUARD = Path(__file__).resolve().parents[1] / "guard.py"
POLL_S = 0.05


@dataclass
class Running:
    """A job that runs.

    Args:
        job: which.
        guard: the process that stands over it.
        gpus: taken for it.
        started: by the monotonic clock, in seconds.
        log_start: length of its log when it was started, in bytes.
    """

    job: Job
    guard: "subprocess.Popen[bytes]"
    gpus: list[str]
    started: float
    log_start: int


class Sweep:
    """The jobs in one folder.

    Args:
        folder: of the sweep, new or old.
        program: that the jobs run.
        parallel: jobs at once.
        retries: how often a failed job is started again.
        grace_s: seconds for jobs to end themselves when the sweep is stopped.

    Raises:
        ConfigError: settings that cannot be, or a folder that cannot be written or where a sweep is running.
    """

    def __init__(self, folder: Path, program: Program, *, parallel: int, retries: int, grace_s: float) -> None:
        check_settings(parallel, retries)
        check_writable(folder, "hydra.sweep.dir")
        self.program, self.parallel, self.retries, self.grace_s = program, parallel, retries, grace_s
        self.lock = locked(folder)
        self.record = SweepRecord(folder)
        hide_secrets(folder / "multirun.yaml")
        self.shares: Shares | Cluster = Shares(parallel, os.environ)
        self.running: list[Running] = []
        self.n_starts: dict[int, int] = {}
        self.wanted: dict[int, Job] = {}

    def run(self, jobs: Sequence[tuple[Job, DictConfig | None]]) -> None:
        """Run jobs that have not finished; returns when all have ended.

        Args:
            jobs: each with its composed configuration, None where it finished before.

        Raises:
            ConfigError: jobs that do not fit on the machine.
            SystemExit: code 128 + n after SIGINT or SIGTERM, when no job runs any more.
        """
        needs = {job.number: self.shares.need(config) for job, config in jobs if config is not None}
        self.shares.check(list(needs.values()))
        self.wanted |= {job.number: job for job, _ in jobs}
        waiting = deque(self.wanted[number] for number in needs)
        for job in waiting:
            job.status, job.error, self.n_starts[job.number] = "waiting", None, 0
        self.record.write()
        for job in {job.number: job for job, config in jobs if config is None}.values():
            log.info(f"{self.record.title(job)} finished before, value {shown_value(job.value)}")
        n_told = 0
        with signals_noted() as asked:
            while (waiting and not asked) or self.running:
                while waiting and not asked and len(self.running) < self.parallel:
                    job = waiting.popleft()
                    self._start(job, needs[job.number])
                n_told = self._tell(asked, n_told)
                for one in [one for one in self.running if one.guard.poll() is not None]:
                    if self._end(one, stopping=bool(asked)):
                        waiting.appendleft(one.job)
                time.sleep(POLL_S)
        if asked:
            self._say_stopped(asked[0])
            raise SystemExit(128 + asked[0])

    def report(self) -> bool:
        """Show the table and, on stderr, the jobs that failed; whether all that were asked for have finished."""
        plain_console().print(self.record.table())
        plain_console().print(f"folder  {shown_path(self.record.folder)}", soft_wrap=True)
        failed = [job for job in self.wanted.values() if job.status != "finished"]
        if failed:
            lines = [f"\nError: {len(failed)} of {len(self.wanted)} jobs failed"]
            for job in failed:
                lines += [f"  {self.record.title(job)}: {job.error}", f"    log: {shown_path(self.log_file(job))}"]
            sys.stderr.write("\n".join([*lines, f"  run them again: {self._again()}\n"]))
        return not failed

    def close(self) -> None:
        """Let go of the folder; jobs that have been left keep it."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def log_file(self, job: Job) -> Path:
        """Where all that a job says is written."""
        return self.record.place(job) / "job.log"

    def _start(self, job: Job, need: Need) -> None:
        folder = self.record.place(job)
        overrides = first_overrides(folder, job.overrides)
        gpus, environment = self.shares.take(need)
        first = self.program.command(overrides, folder, job.number)
        again = self.program.command([f"resume={quoted(folder)}"], folder, job.number)
        command = self.shares.command(first, again, need, folder)
        with self.log_file(job).open("ab") as stream:
            log_start = stream.tell()
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(self.grace_s), *command],
                cwd=self.program.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[] if self.lock is None else [self.lock],  # the folder stays locked while a job of it runs
            )
        self.running.append(Running(job, guard, gpus, time.monotonic(), log_start))
        job.status = "running"
        self.n_starts[job.number] += 1
        self.record.write()
        how = "started" if overrides is job.overrides else "goes on"
        log.info(f"{self.record.title(job)} {how}, log in {shown_path(self.log_file(job))}")

    def _end(self, one: Running, *, stopping: bool) -> bool:
        """Note how a job ended; whether it is to be started again."""
        self.running.remove(one)
        self.shares.give_back(one.gpus)
        job, folder, code = one.job, self.record.place(one.job), one.guard.returncode
        job.seconds = round(job.seconds + time.monotonic() - one.started, 1)
        again = False
        if has_finished(folder, ended_well=code == 0 and not stopping):
            job.status, job.value = "finished", read_result(folder).get("value")
            said = f"finished, value {shown_value(job.value)}"
        elif stopping:
            job.status, said = "stopped", "stopped"
        else:
            with self.log_file(job).open("rb") as stream:
                stream.seek(one.log_start)
                job.error = cause(folder, code, stream.read().decode(errors="replace"))
            again = self.n_starts[job.number] <= self.retries
            job.status, said = "failed", f"failed{', is tried again' if again else ''}: {job.error}"
        self.record.write()
        n_done, n = sum(job.status == "finished" for job in self.wanted.values()), len(self.wanted)
        log.info(f"{self.record.title(job)} {said} ({shown_time(job.seconds)}; {n_done} of {n} finished)")
        return again

    def _tell(self, asked: list[int], n_told: int) -> int:
        """Hand new signals on to all that run; the number of signals handed on by now."""
        for number in asked[n_told:]:
            log.info(f"{signal.Signals(number).name}: {len(self.running)} job(s) are told to stop; again kills them")
            for one in self.running:
                one.guard.send_signal(number)
        return len(asked)

    def _say_stopped(self, number: int) -> None:
        lines = [f"\nThe sweep was stopped by {signal.Signals(number).name}"]
        for status in ("finished", "failed", "stopped", "waiting"):
            jobs = [f"#{job.number}" for job in self.wanted.values() if job.status == status]
            lines += [f"  {status:<9} {' '.join(jobs)}"] if jobs else []
        sys.stderr.write("\n".join([*lines, f"  go on with: {self._again()}\n"]))

    def _again(self) -> str:
        return self.program.again(Path(shown_path(self.record.folder)))


def check_settings(parallel: object, retries: object) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: names the setting.
    """
    for name, value, least in (("parallel", parallel, 1), ("retries", retries, 0)):
        if not isinstance(value, int) or value < least:
            raise ConfigError(
                f"hydra.launcher.{name} is a number of jobs or starts",
                given=f"hydra.launcher.{name}={value}",
                allowed=f"an integer from {least} up",
                fix=f"set hydra.launcher.{name}={least}",
            )


def check_one_batch(max_batch_size: int | None) -> None:
    """Refuse batches of Hydra's basic sweeper, which gives up the later ones when a job of an earlier one has failed.

    Raises:
        ConfigError: there are to be batches.
    """
    if max_batch_size is not None:
        raise ConfigError(
            "batches are of no use to jobs that are processes of their own",
            given=f"hydra.sweeper.max_batch_size={max_batch_size}",
            allowed="all jobs in one batch, of which hydra.launcher.parallel run at once",
            fix=f"type hydra.launcher.parallel={max_batch_size} instead",
        )


def check_alone() -> None:
    """Refuse to sweep in each of several processes that somebody else has started.

    Raises:
        ConfigError: under torchrun, or in another process than the first one of srun or mpirun.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or not is_main_process():
        raise ConfigError(
            "a sweep starts the processes of its jobs itself",
            given="-m in one of several processes, such as those of torchrun or srun",
            allowed="python src/train.py -m ..., in one process; jobs on several devices by trainer.devices=<k>",
            fix="leave torchrun or srun out",
        )


def locked(folder: Path) -> int | None:
    """A lock on the folder of a sweep, held by this process and those that inherit it; None where disks have no locks.

    Raises:
        ConfigError: another sweep, or a job that one has left, is at work there.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            "a sweep is running in this folder",
            given=f"hydra.sweep.dir={folder}",
            allowed="the folder of a sweep that has ended; jobs of a killed sweep take some seconds to end",
            fix="wait for it or stop it with Ctrl-C, or leave hydra.sweep.dir out",
        ) from error
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are written to, instead of ending the process."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, lambda given, _: asked.append(given)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


def shown_path(path: Path) -> str:
    """A path seen from here, when it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
