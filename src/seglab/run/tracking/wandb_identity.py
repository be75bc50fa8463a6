"""What a W&B run is called and found by: id, name, group, tags and configuration, all from run.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seglab.run.ids import sweep_of
from seglab.run.secrets import scrub
from seglab.run.tracking.wandb_settings import WandbSettings

FACTS = ("config_hash", "data_hash", "git_commit", "n_cases", "n_parameters", "precision", "world_size", "versions")
LONGEST_TAG = 64


def identity(settings: WandbSettings, run_dir: Path, record: Mapping[str, Any], job_type: str) -> dict[str, Any]:
    """Arguments of `wandb.init` that say which run this is.

    Args:
        settings: from the configuration; what is given there counts.
        run_dir: folder of the run; its sweep is the group.
        record: content of run.json, free of secrets.
        job_type: train or evaluate.
    """
    config, run_id = record.get("config", {}), record["run_id"]
    kinds = [kind for kind in (_model(config), record.get("spec", {}).get("name")) if kind]
    facts = {name: record[name] for name in FACTS if name in record}
    return {
        "id": run_id,
        "name": scrub(settings.name or "-".join([*kinds, run_id])),
        "group": settings.group or sweep_of(run_dir),
        "job_type": job_type,
        "tags": [scrub(tag)[:LONGEST_TAG] for tag in dict.fromkeys([*kinds, *(settings.tags or [])])],
        "notes": settings.notes and scrub(settings.notes),
        "config": {**config, **({"facts": facts} if facts else {})},
    }


def _model(config: Mapping[str, Any]) -> str | None:
    """Name of the network's class; of a foreign one its architecture."""
    node = config.get("model") or {}
    return node.get("arch") or str(node.get("_target_", "")).rpartition(".")[2] or None
