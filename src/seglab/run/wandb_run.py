"""The one place that starts and ends a W&B run: online when a key is there, offline otherwise, never in the way."""

import logging
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger

from seglab.errors import ConfigError

log = logging.getLogger("seglab")

MODES = ("auto", "online", "offline", "disabled")
FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")
FORMER_URL = "https://api.wandb.ai"
"""Under this address older versions of wandb stored the key, and newer ones still find it."""


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """W&B: project, run identity and mode.

    Args:
        project: W&B project.
        entity: user or team, None for the default one.
        mode: auto (online with a key, else offline), online, offline or disabled.
        group: joins runs, e.g. of a sweep.
        tags: labels.
        start_timeout_s: seconds to wait for the server before the run goes on offline.
        finish_timeout_s: seconds to wait for the upload at the end; the rest can be sent by `wandb sync`.

    Raises:
        ConfigError: an unknown mode.
    """

    project: str = "seglab"
    entity: str | None = None
    mode: str = "auto"
    group: str | None = None
    tags: list[str] | None = None
    start_timeout_s: int = 20
    finish_timeout_s: int = 60

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(
                "W&B has no such mode",
                given=f"logger.wandb.mode={self.mode}",
                allowed=", ".join(MODES),
                fix="set logger.wandb.mode=auto, or logger=csv for none",
            )


def open_wandb(settings: WandbSettings, run_dir: Path, run_id: str, config: Mapping[str, Any]) -> WandbLogger:
    """Start a W&B run inside the run folder and wrap it for Lightning.

    Args:
        settings: from the configuration.
        run_dir: everything W&B writes lies below it.
        run_id: id and name of the W&B run; the same id goes on with the same run.
        config: plain configuration.
    """
    mode = choose_mode(settings.mode)
    for name in FOLDERS if mode != "disabled" else ():
        os.environ.setdefault(name, str(run_dir / "wandb"))
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        run = _start(settings, run_dir, run_id, config, mode)
    except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        log.warning(f"W&B cannot be reached ({error}); going on offline, send it later with `wandb sync`")
        wandb.teardown()  # else the id stays taken by the run that failed to start
        run = _start(settings, run_dir, run_id, config, "offline")
    run.define_metric("epoch")
    for pattern in ("train/loss", "train/lr", "val/*", "test/*", "best/*"):
        run.define_metric(pattern, step_metric="epoch")
    log.info(f"W&B run {run_id} ({run.settings.mode}) in {run_dir / 'wandb'}")
    return WandbLogger(experiment=run)


def close_wandb(exit_code: int) -> None:
    """End the W&B run, if one was started; a failed job is shown as failed."""
    if wandb.run is None:
        return
    folder = Path(wandb.run.settings.wandb_dir)
    wandb.finish(exit_code=exit_code)
    for name in FOLDERS:
        if Path(os.environ.get(name, "")) == folder:  # ours: a later run in this process has a folder of its own
            del os.environ[name]


def choose_mode(wanted: str) -> str:
    """What `auto` stands for: WANDB_MODE when set, online with a key, else offline."""
    if wanted != "auto":
        return wanted
    return os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")


def has_key() -> bool:
    """Whether an API key is in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    server = os.environ.get("WANDB_BASE_URL")
    hosts = [urlparse(url).netloc for url in ([server] if server else [wandb.Settings().base_url, FORMER_URL])]
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
        return any(known.authenticators(host) is not None for host in hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def _start(settings: WandbSettings, run_dir: Path, run_id: str, config: Mapping[str, Any], mode: str) -> Any:
    return wandb.init(
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        tags=settings.tags,
        dir=run_dir,
        id=run_id,
        name=run_id,
        job_type="train",
        resume="allow",
        config=dict(config),
        mode=mode,  # type: ignore[arg-type]  # checked against MODES by the entry
        settings=wandb.Settings(
            init_timeout=settings.start_timeout_s, finish_timeout=settings.finish_timeout_s, silent=True
        ),
    )
