"""Classes that have moved: a configuration that an older version wrote finds them where they stand now."""

from typing import Any

TRACKED = "seglab.run.tracking.wandb_settings.WandbSettings"
MOVED = {
    "seglab.run.crossval.FoldSummary": "seglab.run.sweeps.crossval.FoldSummary",
    "seglab.run.wandb_run.WandbSettings": TRACKED,
    "seglab.run.wandb_settings.WandbSettings": TRACKED,
}
"""Names of old, with those of now: a class that a file of conf/ names and that moves gets a line here."""


def at_present(node: Any) -> Any:
    """The same configuration, or part of one, with the present name of each class that has moved."""
    if isinstance(node, dict):
        return {
            name: MOVED.get(value, value) if name == "_target_" else at_present(value) for name, value in node.items()
        }
    return [at_present(item) for item in node] if isinstance(node, list) else node
