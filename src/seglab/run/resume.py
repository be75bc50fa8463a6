"""Resume: the configuration of the old run, with the few changes that may be made on the way."""

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from seglab.errors import CheckpointError, ConfigError
from seglab.run.build import Config
from seglab.run.record import read_run

CHANGEABLE = ("trainer", "logger", "callbacks", "resume", "test", "paths.cache_dir", "data.num_workers")


def resumed_config(run_dir: Path, overrides: list[str], composed: DictConfig) -> Config:
    """The configuration in run.json, changed by the overrides that were typed with resume=...

    Args:
        run_dir: the old run.
        overrides: as typed.
        composed: what Hydra made of them; the changed values are taken from there.

    Raises:
        CheckpointError: no run there.
        ConfigError: an override that would make it another run.
    """
    config = OmegaConf.create(read_run(run_dir)["config"])
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if not any(key == name or key.startswith(f"{name}.") for name in CHANGEABLE):
            raise ConfigError(
                "a resumed run keeps its configuration",
                given=override.input_line or key,
                allowed=", ".join(CHANGEABLE),
                fix=f"leave {key} out, or start a new run without resume=...",
            )
        OmegaConf.update(config, key, OmegaConf.select(composed, key), merge=False)  # a removed key becomes null
        if key == "paths.cache_dir":
            config.data.cache_dir = config.paths.cache_dir
    config.data.split_file = str(run_dir / "split.json")
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]  # keys are strings


def resume_point(run_dir: Path) -> Path:
    """The checkpoint to go on from.

    Raises:
        CheckpointError: when the run has none.
    """
    file, first = run_dir / "checkpoints" / "last.ckpt", run_dir / "first"
    if not file.is_file():
        kept = f", but with first.run={first} to keep its first stage" if first.is_dir() else ""
        raise CheckpointError(
            "there is nothing to resume from",
            given=f"{file} does not exist",
            allowed="a run that finished at least one epoch",
            fix=f"start it again without resume=...{kept}",
        )
    return file
