"""Two processes that find an empty PostgreSQL database at once share one study; needs a server and psycopg."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from seglab.run.started import free_port
from seglab.run.sweeps.study_storage import open_storage

pytest.importorskip("psycopg")
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
JOB = """
import sys, optuna
from pathlib import Path
from seglab.run.sweeps.study_storage import open_storage
study = optuna.create_study(storage=open_storage(sys.argv[1], Path()), study_name="two", load_if_exists=True)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server here")]


@pytest.fixture
def address() -> Iterator[str]:
    """An empty database of a server that is not there afterwards; root runs it as nobody, as PostgreSQL asks for."""
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        if user:
            Path(folder).chmod(0o777)

        def run(program: str, *given: str) -> None:
            subprocess.run(
                [PROGRAMS[-1] / program, *given], check=True, cwd="/", capture_output=True, timeout=90, **user
            )

        data = f"{folder}/data"
        run("initdb", "-D", data, "-U", "me", "-A", "trust")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        subprocess.run(
            [PROGRAMS[-1] / "pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start"],
            check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=90, **user,
        )  # fmt: skip
        try:
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_two_processes_share_a_study_that_neither_has_found(address: str, tmp_path: Path) -> None:
    both = [subprocess.Popen([sys.executable, "-c", JOB, address], cwd=tmp_path) for _ in range(2)]
    assert [process.wait(timeout=100) for process in both] == [0, 0]
    study = optuna.load_study(study_name="two", storage=open_storage(address, tmp_path))
    assert sorted(trial.number for trial in study.trials) == list(range(10))
