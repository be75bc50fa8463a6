"""What can be set about W&B, and whether a run is online."""

import netrc
import os
from dataclasses import dataclass
from urllib.parse import urlparse

import wandb

from seglab.errors import ConfigError

MODES = ("auto", "online", "offline", "disabled")
WATCHED = (None, "gradients", "all")
ALERTS = ("diverged", "crash", "finished")
FORMER_URL = "https://api.wandb.ai"
"""Under this address older versions of wandb stored the key, and newer ones still find it."""


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """W&B: project, run identity, mode, and what is sent beside the metrics.

    Args:
        project: W&B project.
        entity: user or team, None for the default one.
        mode: auto (online with a key, else offline), online, offline or disabled.
        name: shown in lists, None for model, data and run id.
        group: joins runs; None for the sweep that the run is a job of, if it is one.
        tags: labels, beside those of model and data.
        notes: a remark on the run.
        watch: histograms of gradients, or all: of weights too; None for neither, as they cost time.
        watch_every: batches between two of them.
        code: whether the source and the configuration files go along.
        files: whether the split, the scores, the pictures and the uncommitted changes go along.
        checkpoint_mb: largest best checkpoint that is sent, in MB; of a larger one W&B gets the place and the scores.
        alerts: what W&B tells its user of, among diverged (NaN), crash and finished; runs of a group finish quietly.
        start_timeout_s: seconds to wait for the server before the run goes on offline.
        finish_timeout_s: seconds to wait for the upload at the end; the rest can be sent by `wandb sync`.

    Raises:
        ConfigError: an unknown mode, alert or thing to watch.
    """

    project: str = "seglab"
    entity: str | None = None
    mode: str = "auto"
    name: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    watch: str | None = None
    watch_every: int = 100
    code: bool = True
    files: bool = True
    checkpoint_mb: float = 100.0
    alerts: list[str] | None = None
    start_timeout_s: int = 20
    finish_timeout_s: int = 60

    def __post_init__(self) -> None:
        unknown = [str(alert) for alert in self.alerts or [] if alert not in ALERTS]
        if self.mode not in MODES:
            raise ConfigError(
                "W&B has no such mode",
                given=f"logger.wandb.mode={self.mode}",
                allowed=", ".join(MODES),
                fix="set logger.wandb.mode=auto, or logger=csv for none",
            )
        if self.watch not in WATCHED or self.watch_every < 1:
            raise ConfigError(
                "W&B cannot watch this",
                given=f"logger.wandb.watch={self.watch}, watch_every={self.watch_every}",
                allowed="watch null, gradients or all, watch_every from 1 up",
                fix="set logger.wandb.watch=gradients logger.wandb.watch_every=100",
            )
        if unknown:
            raise ConfigError(
                "there is no such alert",
                given=f"logger.wandb.alerts=[{','.join(unknown)}]",
                allowed=", ".join(ALERTS),
                fix=f"set logger.wandb.alerts=[{','.join(ALERTS)}], or [] for none",
            )


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
