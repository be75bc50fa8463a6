"""Files that go along with a W&B run as artifacts: code, split, scores, pictures, and the best checkpoint."""

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wandb

from seglab.run.catalogue import CONF
from seglab.run.record import ROOT, read_json, read_run
from seglab.run.tracking.wandb_settings import WandbSettings

log = logging.getLogger("seglab")

KINDS = {
    "split": ("split.json",),
    "report": ("run.json", "metrics.json", "cases.csv", "subgroups.json", "report.html", "result.json", "git.diff"),
    "pictures": ("images/*.png", "cases/*.jpg"),
}
"""Artifact types and their files, seen from the folder of a run or of an evaluation."""
MB = 10**6


def send_code(run: Any) -> None:
    """Send the configuration files and the source, and nothing else that lies in the checkout."""
    source = ROOT / "src" if (ROOT / "src").is_dir() else Path(__file__).resolve().parents[2]
    for root, suffix in ((CONF, ".yaml"), (source, ".py")):
        run.log_code(str(root), name=artifact_name(f"source-{root.name}", run), include_fn=_ending(suffix))


def send_files(run: Any, folder: Path, settings: WandbSettings, run_dir: Path) -> None:
    """Send what a finished run or its evaluation has left behind, as configured.

    Args:
        run: of W&B.
        folder: with the files.
        settings: which files, and how large a checkpoint may be.
        run_dir: folder of the run that they are of; its checkpoint goes along when it is the folder.
    """
    facts = facts_of(run_dir)
    for kind, patterns in KINDS.items() if settings.files else ():
        files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
        if files:
            artifact = wandb.Artifact(artifact_name(kind, run), kind, metadata=facts)
            for file in files:
                artifact.add_file(str(file), name=file.name)  # copied into the run folder's wandb/artifacts/staging
            run.log_artifact(artifact)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if checkpoint.is_file() and settings.checkpoint_mb > 0:
        run.log_artifact(_model(run, checkpoint, facts, settings), aliases=["best"])


def facts_of(run_dir: Path) -> dict[str, Any]:
    """What belongs to every artifact of a run: hashes of configuration and data, commit, the score, best/..."""
    record, result = read_run(run_dir), run_dir / "result.json"
    scores = read_json(result) if result.is_file() else {}
    facts = {name: record.get(name) for name in ("run_id", "config_hash", "data_hash", "git_commit")}
    return facts | {"score": scores.get("value")} | {k: v for k, v in scores.items() if k.startswith("best/")}


def artifact_name(kind: str, run: Any) -> str:
    """Kind and run, of the characters that W&B allows."""
    return re.sub(r"[^\w.-]", "-", f"{kind}-{run.id}")[:128]


def _model(run: Any, checkpoint: Path, facts: Mapping[str, Any], settings: WandbSettings) -> wandb.Artifact:
    """The checkpoint itself, or where it lies when it is too large."""
    size = checkpoint.stat().st_size / MB
    config = read_run(checkpoint.parents[1])["config"]
    monitored = {"monitor": (config.get("callbacks") or {}).get("checkpoint", {}).get("monitor"), "megabytes": size}
    artifact = wandb.Artifact(artifact_name("model", run), "model", metadata={**facts, **monitored})
    if size <= settings.checkpoint_mb:
        kept = _linked(checkpoint, Path(run.settings.wandb_dir) / "artifacts")
        artifact.add_file(str(kept), name="best.ckpt", policy="immutable")
    else:
        artifact.add_reference(checkpoint.resolve().as_uri(), name="best.ckpt")
        enough = f"logger.wandb.checkpoint_mb={size + 1:.0f}"
        log.info(f"W&B gets the place of best.ckpt and not its {size:.0f} MB, which {enough} would send")
    return artifact


def _linked(file: Path, folder: Path) -> Path:
    """A file under a second name, which stays as it is when a resumed run replaces the first; costs no space."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{file.stem}-{file.stat().st_mtime_ns}{file.suffix}"
    if not place.exists():
        try:
            os.link(file, place)
        except OSError:  # a file system without links
            shutil.copy2(file, place)
    return place


def _ending(suffix: str) -> Callable[[str], bool]:
    return lambda path: path.endswith(suffix)
