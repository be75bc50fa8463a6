"""dashboard: a saved W&B workspace for runs like a given one, or its specification as a file where no key is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from omegaconf import DictConfig
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from seglab.errors import ConfigError
from seglab.extras import require
from seglab.files import write_text
from seglab.run.console import plain_console
from seglab.run.record import read_run
from seglab.run.tracking.wandb_settings import WandbSettings, choose_mode

PICTURE = re.compile(r"(.+)_\d+_[0-9a-f]+\.png")
"""File name of a picture of W&B: case, step and hash."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a workspace shows.

    Args:
        entity: user or team, empty for the default one.
        project: of the runs.
        name: of the workspace.
        classes: foreground classes.
        pictures: keys of pictures by split.
    """

    entity: str
    project: str
    name: str
    classes: tuple[str, ...]
    pictures: Mapping[str, list[str]]


def dashboard(cfg: DictConfig) -> None:
    """Save a workspace at W&B, or write its specification and say what to type.

    Args:
        cfg: composed by Hydra from conf/dashboard.yaml.

    Raises:
        SeglabError: no such run, no package wandb-workspaces, or a server that does not take it.
    """
    require("wandb_workspaces", "dashboard", "a W&B workspace")
    run_dir = Path(cfg.run)
    workspace = workspace_of(shown_of(run_dir, cfg))
    is_online = choose_mode("auto") == "online"
    console = plain_console(soft_wrap=True)
    if cfg.output or not is_online:
        file = Path(cfg.output or run_dir / "dashboard.json")
        write_text(file, specification(workspace) + "\n")
        console.print(f"written to  {file}")
    if is_online:
        console.print(f"saved at    {save(workspace)}")
    else:
        again = f"type `wandb login`, then python src/dashboard.py run={cfg.run}"
        console.print(f"not saved at W&B, for there is no API key: {again}")


def shown_of(run_dir: Path, cfg: DictConfig) -> Shown:
    """What a run has logged, and where.

    Args:
        run_dir: folder of the run.
        cfg: what was typed goes first.
    """
    record = read_run(run_dir)
    known = (record["config"].get("logger") or {}).get("wandb") or {}
    names, has_background = record["spec"]["class_names"], record["spec"]["has_background"]
    return Shown(
        entity=cfg.entity or known.get("entity") or "",
        project=cfg.project or known.get("project") or WandbSettings().project,
        name=cfg.name,
        classes=tuple(names[1:] if has_background else names),
        pictures={split: pictures_of(run_dir, split) for split in ("val", "test")},
    )


def pictures_of(run_dir: Path, split: str) -> list[str]:
    """Keys of the pictures that a run has sent."""
    names = [file.name for file in run_dir.glob(f"wandb/*run-*/files/media/images/{split}_images/*.png")]
    return sorted({f"{split}_images/{found[1]}" for name in names if (found := PICTURE.fullmatch(name))})


def specification(workspace: Any) -> str:
    """A workspace as the JSON that W&B keeps of it."""
    text: str = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    return text


def save(workspace: Any) -> str:
    """Save a workspace at W&B and give its address.

    Raises:
        ConfigError: the server does not take it.
    """
    try:
        workspace.entity = workspace.entity or wandb.Api().default_entity
        workspace.save()
    except (wandb.errors.Error, WandbApiFailedError, ValueError, OSError) as error:
        raise ConfigError(
            "W&B does not take the workspace",
            given=f"entity={workspace.entity or 'the default one'} project={workspace.project}: {error}",
            allowed="a project that exists and an API key that may change it",
            fix="type `wandb login`, or entity=<team> project=<project>, or WANDB_MODE=offline for a file",
        ) from error
    return str(workspace.url)


def workspace_of(shown: Shown) -> Any:
    """Sections for training, validation by class, test, cases, pictures and the machine.

    Args:
        shown: names of what the runs have logged.
    """
    import wandb_workspaces.workspaces as ws

    from seglab.run.tracking import dashboard_panels as parts

    panels = {
        "Training": parts.training(),
        "Validation by class": parts.validation(shown.classes),
        "Test": parts.test(shown.classes),
        "Cases": parts.cases(),
        "Images": parts.images(shown.pictures),
        "System": parts.system(),
    }
    sections = [
        ws.Section(name=name, panels=found, is_open=name != "System") for name, found in panels.items() if found
    ]
    return ws.Workspace(entity=shown.entity, project=shown.project, name=shown.name, sections=sections)
