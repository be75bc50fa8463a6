"""RankWatch: no process of a run outlives another one that failed, hangs or was killed, and the first cause is said.

Each process keeps a small file <run>/ranks/<rank>.json up to date: how far it is, where its main thread stands, whether
it failed and why. A thread in each process reads those of the others. Lightning's own observer is left out: it kills
the main process without a word as soon as another one ends.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed import distributed_c10d

from seglab.files import write_text
from seglab.run.record import write_json
from seglab.run.started import free_port

POLL_S = 1.0
SILENT_S = 30.0
"""A process whose file has not changed for this long is gone, or stopped; also one that waits for a finished rank 0."""
GRACE_S = 3.0
"""Time for the process that failed first to say so."""
START = timedelta(minutes=10)
"""Time for all processes of a run to start."""
CLOSE_S = 20.0
"""Time for loggers to close before a process ends in any case."""


@dataclass
class Beat:
    """What a process tells the others of itself.

    Args:
        rank: of the process.
        pid: of the process.
        host: its machine.
        beat: grows with every message.
        n_batches: batches done since the start.
        idle_s: seconds since the last of them.
        place: file, line and function in which the main thread stands.
        status: running, failed or done.
        cause: of the failure.
    """

    rank: int
    pid: int
    host: str
    beat: int = 0
    n_batches: int = 0
    idle_s: float = 0.0
    place: str = ""
    status: str = "running"
    cause: str = ""


class RankWatch(Callback):
    """Watch the other processes of a run, and end with them; rank 0 notes the cause in result.json.

    Args:
        run_dir: shared by all processes of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.own = Beat(rank=0, pid=os.getpid(), host=socket.gethostname())
        self._moved = time.monotonic()
        self._seen: dict[int, tuple[int, float]] = {}  # rank: last beat, and when it changed
        self._ending, self._thread = threading.Lock(), threading.Thread(target=self._watch, daemon=True)
        self._main = threading.main_thread().ident

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to watch, once all processes have shown themselves."""
        self.note_progress()
        if trainer.world_size == 1 or self._thread.is_alive():
            return
        self.own.rank, self.n_ranks = trainer.global_rank, trainer.world_size
        self._write()
        trainer.strategy.barrier()
        atexit.register(self.done)
        self._thread.start()

    def note_progress(self) -> None:
        """Note that the main thread gets on."""
        self.own.n_batches += 1
        self._moved = time.monotonic()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """A batch was trained."""
        self.note_progress()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """A batch was validated."""
        self.note_progress()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        """A case was tested."""
        self.note_progress()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell the others; an error that another process caused is answered with what happened there."""
        if not self._thread.is_alive() or isinstance(exception, KeyboardInterrupt | SystemExit):
            return
        if is_of_the_group(exception):
            time.sleep(GRACE_S)
            self._end(self._first_cause() or self._who_hangs(exception))
        self.own.status, self.own.cause = "failed", f"{type(exception).__name__}: {exception}".partition("\n")[0]
        self._write()

    def done(self) -> None:
        """Say that this process ends as it should; a failure stays one."""
        if self.own.status == "running":
            self.own.status = "done"
            self._write()

    def _watch(self) -> None:
        while self.own.status != "done":
            time.sleep(POLL_S)
            self._write()
            if self.own.status == "running" and (cause := self._first_cause()):
                time.sleep(GRACE_S)  # perhaps another process knows better
                self._end(self._first_cause() or cause)

    def _first_cause(self) -> str:
        others = [beat for rank in range(self.n_ranks) if rank != self.own.rank and (beat := self._read(rank))]
        for beat in others:
            if beat.status == "failed":
                return f"process {beat.rank} failed: {beat.cause}"
        idle_s = time.monotonic() - self._moved
        for beat in others:
            if beat.status == "running" and self._is_gone(beat):
                return f"process {beat.rank} (pid {beat.pid} on {beat.host}) was killed or is out of reach"
            if beat.rank == 0 and beat.status == "done" and idle_s > SILENT_S:
                return "process 0 has ended, and this one waits for it"
        return ""

    def _who_hangs(self, exception: BaseException) -> str:
        running = [beat for rank in range(self.n_ranks) if rank != self.own.rank and (beat := self._read(rank))]
        slow = [f"process {beat.rank} hangs in {beat.place} for {beat.idle_s:.0f} s" for beat in running]
        return "; ".join(slow) or f"{type(exception).__name__}: {exception}".partition("\n")[0]

    def _is_gone(self, beat: Beat) -> bool:
        known, since = self._seen.get(beat.rank, (-1, 0.0))
        if beat.beat != known:
            self._seen[beat.rank] = (beat.beat, time.monotonic())
            return beat.host == self.own.host and not is_alive(beat.pid)
        return time.monotonic() - since > SILENT_S or (beat.host == self.own.host and not is_alive(beat.pid))

    def _end(self, cause: str) -> None:
        if not self._ending.acquire(blocking=False):
            time.sleep(CLOSE_S)  # the other thread is about to end this process
        threading.Timer(CLOSE_S, os._exit, [1]).start()
        self.own.status, self.own.cause = "failed", cause
        self._write()
        if self.own.rank == 0:
            sys.stderr.write(f"\nError: the run ends on all processes: {cause}\n")
            sys.stderr.flush()
            result = self.run_dir / "result.json"
            if not result.is_file():  # one that is there says how the run ended before: stopped, or finished
                write_json(result, {"status": "failed", "error": cause})
            close_loggers()
        os._exit(1)

    def _write(self) -> None:
        self.own.beat += 1
        self.own.idle_s = time.monotonic() - self._moved
        self.own.place = self._place()
        write_text(self._file(self.own.rank), json.dumps(asdict(self.own)))

    def _read(self, rank: int) -> Beat | None:
        try:
            return Beat(**json.loads(self._file(rank).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def _file(self, rank: int) -> Path:
        return self.run_dir / "ranks" / f"{rank}.json"

    def _place(self) -> str:
        frame = sys._current_frames().get(self._main or 0)
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})" if frame else ""


class WatchedDDPStrategy(DDPStrategy):
    """DDP whose processes are watched by RankWatch instead of by Lightning's observer.

    Args:
        timeout: how long a process waits for the others in a collective operation.
        options: of Lightning's strategy.
    """

    def __init__(self, *, timeout: timedelta, **options: Any) -> None:
        super().__init__(timeout=max(timeout, START), **options)
        self.step_timeout = timeout

    def setup_distributed(self) -> None:
        """Give the processes time to start, imports and data included; after that only the wanted time."""
        super().setup_distributed()
        setter = getattr(distributed_c10d, "set_timeout", None) or distributed_c10d._set_pg_timeout
        setter(self.step_timeout)

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        environment = self.cluster_environment
        if isinstance(self._launcher, _SubprocessScriptLauncher) and environment is not None:
            self._launcher = WatchedLauncher(environment, self.num_processes, self.num_nodes)


class WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, and says so when one of them ends with an error."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start them unless a cluster has done so, then call `function`."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally and not self.procs:
            os.environ.setdefault("MASTER_PORT", str(free_port()))  # Lightning's may be given away before it is used
            self._call_children_scripts()
            threading.Thread(target=end_with, args=[self.procs], daemon=True).start()
        return function(*args, **kwargs)


def end_with(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for processes; when one ends with an error and nobody else says why, end all of them and this one."""
    while any(process.poll() is None for process in processes):
        failed = [rank for rank, process in enumerate(processes, start=1) if process.poll()]
        if failed:
            time.sleep(2 * GRACE_S + CLOSE_S)  # RankWatch, or the same error here, comes first if it can
            code = processes[failed[0] - 1].returncode
            sys.stderr.write(f"\nError: process {failed[0]} ended with code {code}, see above; the run ends\n")
            for process in processes:
                process.kill()
            os._exit(1)
        time.sleep(POLL_S)


def close_loggers() -> None:
    """End the W&B run as failed, if one was started."""
    if "wandb" in sys.modules:
        from seglab.run.tracking.wandb_run import close_wandb

        close_wandb(1)


def is_of_the_group(exception: BaseException) -> bool:
    """Whether an error came from a collective operation, because another process did not take part."""
    text = f"{type(exception).__name__} {exception}".lower()
    return any(word in text for word in ("gloo", "nccl", "distbackend", "connection closed", "connection reset"))


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; one that has ended and was not yet waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
