"""Resume: the configuration of the old run, with the few changes that may be made on the way."""

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from seglab.errors import ConfigError
from seglab.run.build import Config
from seglab.run.record import read_run

CHANGEABLE = ("trainer.", "logger.", "logger", "callbacks.", "resume", "test", "paths.", "data.num_workers")


def resumed_config(run_dir: Path, overrides: list[str]) -> Config:
    """The configuration in run.json, changed by the overrides that were typed with resume=...

    Args:
        run_dir: the old run.
        overrides: as typed.

    Raises:
        CheckpointError: no run there.
        ConfigError: an override that would make it another run.
    """
    config = OmegaConf.create(read_run(run_dir)["config"])
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if not any(key == name or (name.endswith(".") and key.startswith(name)) for name in CHANGEABLE):
            raise ConfigError(
                "a resumed run keeps its configuration",
                given=override.input_line or key,
                allowed=", ".join(f"{name}*" if name.endswith(".") else name for name in CHANGEABLE),
                fix=f"leave {key} out, or start a new run without resume=...",
            )
        if "." in key or key in ("resume", "test"):
            OmegaConf.update(config, key, override.value())
    return _plain(config)


def _plain(config: DictConfig) -> Config:
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]  # keys are strings
