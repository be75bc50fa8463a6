"""Resume: the configuration of the old run, with the few changes that may be made on the way, and where to go on."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from seglab.errors import CheckpointError, ConfigError
from seglab.run.build import Config
from seglab.run.checkpoints.checkpoint_io import LAST, PREVIOUS
from seglab.run.checkpoints.manifest import find_fault
from seglab.run.checkpoints.plain import UNREADABLE
from seglab.run.record import read_run

log = logging.getLogger("seglab")

CHANGEABLE = ("trainer", "logger", "callbacks", "resume", "test", "paths", "data.num_workers")
DERIVED = ("data.cache_dir", "data.split_file")
"""Keys that a resume sets itself."""


def resumed_config(run_dir: Path, overrides: list[str], composed: DictConfig) -> Config:
    """The configuration in run.json, changed by the overrides that were typed with resume=...

    Args:
        run_dir: the old run.
        overrides: as typed; one that says what the run has already changes nothing and is welcome.
        composed: what Hydra made of them; the changed values are taken from there.

    Raises:
        CheckpointError: no run there.
        ConfigError: overrides that would make it another run, with every difference they make.
    """
    known: Config = read_run(run_dir)["config"]
    config, given, differing = OmegaConf.create(known), [], []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        wanted = OmegaConf.select(composed, key)
        if _is_below(key, CHANGEABLE):
            OmegaConf.update(config, key, wanted, merge=False)  # a removed key becomes null
            if key == "paths.cache_dir":
                config.data.cache_dir = config.paths.cache_dir
        elif changes := list(changes_of(key, config, composed)):
            given.append(override.input_line or key)
            differing += changes
    if differing:
        raise ConfigError(
            "a resumed run keeps its configuration",
            given=f"{', '.join(given)}, which changes {'; '.join(differing)}",
            allowed=", ".join(CHANGEABLE),
            fix=f"leave {', '.join(given)} out, or start a new run without resume=...",
        )
    config.data.split_file = str(run_dir / "split.json")
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]  # keys are strings


def changes_of(key: str, config: DictConfig, composed: DictConfig) -> Iterator[str]:
    """What an override that may not change anything does change.

    Args:
        key: that was typed; one that is no key, such as experiment, stands for the whole configuration.
        config: of the run.
        composed: with the override.
    """
    is_key = OmegaConf.select(composed, key) is not None or OmegaConf.select(config, key) is not None
    for name in [key] if is_key else [str(name) for name in composed if name not in CHANGEABLE]:
        for change in differences(OmegaConf.select(config, name), OmegaConf.select(composed, name), name):
            if not _is_below(change.partition(":")[0], (*CHANGEABLE, *DERIVED)):
                yield change


def differences(old: Any, new: Any, key: str) -> Iterator[str]:
    """Where two pieces of a configuration differ: "key: old -> new".

    Args:
        old: plain or of omegaconf.
        new: the same.
        key: of both.
    """
    one, two = ({} if part is None else part for part in (old, new))
    if isinstance(one, Mapping) and isinstance(two, Mapping) and (one or two):
        for name in dict.fromkeys([*one, *two]):
            yield from differences(one.get(name), two.get(name), f"{key}.{name}")
    elif old != new:
        yield f"{key}: {old} -> {new}"


def check_same_data(run_dir: Path, facts: Mapping[str, Any]) -> None:
    """Refuse data of which cases came or went since the run began; warn when files have changed.

    Args:
        run_dir: the old run.
        facts: what run.json would say of the data now.

    Raises:
        ConfigError: the splits that differ.
    """
    record = read_run(run_dir)
    changed = list(differences(record["n_cases"], facts["n_cases"], "n_cases"))
    if "split_hash" in record:  # runs of older versions have none
        changed += differences(record["split_hash"], facts["split_hash"], "split_hash")
    if changed:
        raise ConfigError(
            "the data is not what the run was started on",
            given="; ".join(changed),
            allowed="the cases in run.json and split.json",
            fix="bring the data back as it was, or start a new run without resume=...",
        )
    for change in differences(record["data_hash"], facts["data_hash"], "data_hash"):
        log.warning(f"the data has been moved or written anew since the run began, {change}")


def resume_point(run_dir: Path) -> Path:
    """The newest sound checkpoint; says so when it is not last.ckpt, and why.

    Raises:
        CheckpointError: the run has none, or none that is sound.
    """
    folder = run_dir / "checkpoints"
    steps, faults = steps_of(folder)
    for file in sorted(steps, key=lambda file: steps[file], reverse=True):  # last first among equals
        fault = find_fault(file)
        if fault is None:
            if file.name != LAST or faults:
                skipped = "; ".join(f"{name} {reason}" for name, reason in faults.items()) or f"{LAST} is older"
                log.warning(f"going on from {file.name}, step {steps[file]}, the newest sound checkpoint: {skipped}")
            return file
        faults[file.name] = fault
    raise _nothing(run_dir, faults)


def steps_of(folder: Path) -> tuple[dict[Path, int], dict[str, str]]:
    """Optimizer steps behind each checkpoint that opens, and what is wrong with the others."""
    names = dict.fromkeys([LAST, PREVIOUS, *sorted(file.name for file in folder.glob("*.ckpt"))])
    steps, faults = {}, {}
    for file in (folder / name for name in names):
        try:
            steps[file] = int(torch.load(file, map_location="cpu", weights_only=True, mmap=True)["global_step"])
        except FileNotFoundError:
            if file.name == LAST:
                faults[file.name] = "is missing"
        except UNREADABLE as error:
            faults[file.name] = find_fault(file) or str(error).partition("\n")[0]
    return steps, faults


def _is_below(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _nothing(run_dir: Path, faults: Mapping[str, str]) -> CheckpointError:
    first, found = run_dir / "first", {name: fault for name, fault in faults.items() if fault != "is missing"}
    kept = f", but with first.run={first} to keep its first stage" if first.is_dir() else ""
    return CheckpointError(
        "no checkpoint of the run is sound" if found else "there is nothing to resume from",
        given="; ".join(f"{run_dir / 'checkpoints' / name} {fault}" for name, fault in faults.items()),
        allowed="a run with one checkpoint that is as it was written",
        fix=f"start it again without resume=...{kept}",
    )
