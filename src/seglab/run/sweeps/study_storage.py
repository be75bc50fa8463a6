"""Where a study is kept, and the samplers and pruners of Optuna by the names that we give them."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from seglab.errors import ConfigError
from seglab.extras import require
from seglab.run.sweeps.study_settings import StudySettings

OWN = "study.journal"
"""In the folder of a sweep whose study is kept nowhere else."""
KINDS = "journal:<file>, sqlite:///<file>, postgresql://<user>@<host>/<database>, or null for the sweep's own folder"
POSTGRES = ("postgresql", "postgresql+psycopg")
"""With the driver of the extra, which is another one than that of older versions of SQLAlchemy."""
LOCKED_S = 60
"""How long to wait while another process writes to an SQLite file."""

N_OPENINGS = 5
"""How often a database is opened in which another process is making its tables."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(address: str | None, sweep_dir: Path) -> BaseStorage:
    """Open the storage of a study, which is made when there is none.

    Args:
        address: as in hydra.sweeper.storage.
        sweep_dir: folder of the sweep, for an address of None.

    Raises:
        ConfigError: nothing can be kept there.
    """
    try:
        if address is None or address.startswith("journal:"):
            file = sweep_dir / OWN if address is None else Path(address.removeprefix("journal:"))
            return JournalStorage(JournalFileBackend(str(file)))
        url = make_url(address)
        if secret := url.password or url.query.get("password"):
            raise _refused(
                address.replace(str(secret), "***"),
                "a password in an address would be written into the record of every run",
                "leave it out of the address; PostgreSQL takes it from ~/.pgpass or from the variable PGPASSWORD",
            )
        if url.drivername in POSTGRES:
            require("psycopg", "postgres", "a study in PostgreSQL")
            url = url.set(drivername=POSTGRES[-1])
        patience = {"connect_args": {"timeout": LOCKED_S}} if url.get_backend_name() == "sqlite" else {}
        return _database(url.render_as_string(hide_password=False), patience)
    except (OSError, ImportError, SQLAlchemyError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise _refused(f"{address}: {reason}", "the storage of the study cannot be opened") from error


def new_sampler(settings: StudySettings, number: int) -> BaseSampler:
    """The sampler that draws one trial; what it knows of the others is in the storage.

    Args:
        settings: of the study.
        number: of the trial; with a seed the same number is drawn alike in a resumed study.
    """
    seed = None if settings.seed is None else _mixed(settings.seed, number)
    if settings.sampler == "tpe":
        with catch_warnings(action="ignore", category=ExperimentalWarning):  # constant_liar, before Optuna 5
            return TPESampler(n_startup_trials=settings.n_startup_trials, constant_liar=True, seed=seed)
    if settings.sampler == "cmaes":
        return CmaEsSampler(n_startup_trials=settings.n_startup_trials, warn_independent_sampling=False, seed=seed)
    return RandomSampler(seed=seed)


def pruner_terms(settings: StudySettings) -> dict[str, Any]:
    """What the jobs of a study must know of its pruner, as plain data for the storage."""
    return {
        "name": settings.pruner,
        "startup_trials": settings.pruner_startup_trials,
        "warmup_epochs": settings.pruner_warmup_epochs,
        "reduction": settings.pruner_reduction,
    }


def new_pruner(terms: Mapping[str, Any]) -> BasePruner:
    """The pruner of a study.

    Args:
        terms: from `pruner_terms`.
    """
    if terms["name"] == "median":
        return MedianPruner(n_startup_trials=terms["startup_trials"], n_warmup_steps=terms["warmup_epochs"])
    if terms["name"] == "hyperband":
        least = max(1, terms["warmup_epochs"])
        return HyperbandPruner(min_resource=least, max_resource="auto", reduction_factor=terms["reduction"])
    return NopPruner()


def _database(address: str, patience: Mapping[str, Any]) -> RDBStorage:
    """Open a database; of several processes that find it empty at once, one makes the tables."""
    for _ in range(N_OPENINGS - 1):
        try:
            return RDBStorage(address, engine_kwargs=dict(patience))
        except (IntegrityError, ProgrammingError):
            time.sleep(1)
    return RDBStorage(address, engine_kwargs=dict(patience))


def _mixed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def _refused(given: str, what: str, fix: str = "correct hydra.sweeper.storage=..., or leave it out") -> ConfigError:
    return ConfigError(what, given=f"hydra.sweeper.storage={given}", allowed=KINDS, fix=fix)
