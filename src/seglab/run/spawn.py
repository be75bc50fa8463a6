"""trainer.strategy=ddp_spawn: the processes of a run are spawned from Python, each of which does the whole job.

Lightning's own ddp_spawn pickles trainer, network and data for each call of fit and test, and leaves the main process
with a trainer that has seen nothing. Here only the composed configuration crosses over. The spawned processes find
their ranks in the environment, as under torchrun, so that they do and leave what those of ddp do.
"""

import logging
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from seglab.errors import SeglabError, TrainingError
from seglab.run.engine import Engine
from seglab.run.guard import SET_DEATH_SIGNAL, linux_prctl
from seglab.run.ids import run_id
from seglab.run.make import make
from seglab.run.started import free_port, started_by
from seglab.run.sweeps.sweep_record import read_result
from seglab.run.watch import CLOSE_S, GRACE_S, POLL_S

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def spawned(cfg: DictConfig) -> dict[str, float] | None:
    """Do a job in spawned processes, if it is to be done so and this is not one of them.

    Args:
        cfg: composed by Hydra from conf/train.yaml.

    Returns:
        The scores in result.json; None where this process is to do the job itself.

    Raises:
        SystemExit: code of rank 0, whose error has been shown, or which was told to stop.
        TrainingError: in a sweep, where other jobs go on.
    """
    if cfg.trainer.get("strategy") != "ddp_spawn" or started_by(os.environ) != "nobody":
        return None
    settings: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    engine: Engine = make(settings, "trainer")
    if engine.world_size == 1:
        return None
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    (run_dir / "result.json").unlink(missing_ok=True)
    code = _run_all(cfg, engine.world_size)
    if code:
        raise _end(code)
    result = read_result(run_dir)
    return {key: float(value) for key, value in result.items() if isinstance(value, int | float) and key != "value"}


def _run_all(cfg: DictConfig, n_ranks: int) -> int:
    """Start all processes and wait for them; the exit code of the run."""
    environment = {"RUN_ID": run_id(), "NODE_RANK": "0", "WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "127.0.0.1"}
    environment |= {"MASTER_PORT": str(free_port())}
    content = (OmegaConf.to_container(cfg, resolve=True), HydraConfig.instance().cfg)
    context = multiprocessing.get_context("spawn")
    everybody: list[BaseProcess] = []
    for rank in range(n_ranks):
        own = environment | {"LOCAL_RANK": str(rank)}
        everybody.append(context.Process(target=_one, args=(*content, own, list(sys.argv)), name=f"rank-{rank}"))
    with _handing_on(everybody):
        for process in everybody:
            process.start()
        return _wait(everybody)


def _one(config: dict[str, Any], hydra: DictConfig, environment: dict[str, str], argv: Sequence[str]) -> None:
    """One spawned process: what the main function of train.py does, with its rank in the environment."""
    linux_prctl()(SET_DEATH_SIGNAL, int(signal.SIGTERM))
    os.environ |= environment
    sys.argv = list(argv)
    from seglab.run import cli  # noqa: F401  # registers the resolvers
    from seglab.run.fit import fit

    rank = int(environment["LOCAL_RANK"])
    if rank:
        with read_write(hydra.hydra), open_dict(hydra.hydra):
            hydra.hydra.job.name = f"{hydra.hydra.job.name}_process_{rank}"
    HydraConfig.instance().set_config(hydra)
    configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    try:
        fit(OmegaConf.create(config))
    except SeglabError as error:
        if rank == 0:
            sys.stderr.write(f"\nError: {error}\n")
        logging.getLogger("seglab").debug(str(error))
        raise SystemExit(1) from None


def _wait(everybody: Sequence[BaseProcess]) -> int:
    """Wait for all; when one fails and the others do not follow in time, end them."""
    deadline = math.inf
    while any(process.is_alive() for process in everybody):
        failed = [process for process in everybody if process.exitcode]
        if failed and deadline == math.inf:
            deadline = time.monotonic() + 2 * GRACE_S + CLOSE_S
        if time.monotonic() > deadline:
            sys.stderr.write(f"\nError: {failed[0].name} ended with code {failed[0].exitcode}; the run ends\n")
            for process in everybody:
                process.kill()
        time.sleep(POLL_S / 10)
    codes = [code if (code := process.exitcode or 0) >= 0 else 128 - code for process in everybody]
    return codes[0] or max(codes)


@contextmanager
def _handing_on(everybody: Sequence[BaseProcess]) -> Iterator[None]:
    """Hand signals on to rank 0, which tells the others after the step under way."""

    def tell(number: int, frame: Any) -> None:
        """Hand a signal on to the main process of the run."""
        if everybody[0].pid is not None and everybody[0].is_alive():
            os.kill(everybody[0].pid, number)

    former = {number: signal.signal(number, tell) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(code: int) -> SystemExit | TrainingError:
    from seglab.run.cli import Refused

    if HydraConfig.get().mode == RunMode.MULTIRUN and code < 128:
        return TrainingError(
            "the processes of a job ended with an error",
            given=f"exit code {code}",
            allowed="exit code 0",
            fix="see what they said, and result.json of the job",
        )
    return Refused(code) if code == 1 else SystemExit(code)
