"""The W&B run of an evaluation: beside that of the training, in its group and with its settings."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from seglab.run.ids import is_main_process, run_name, sweep_of
from seglab.run.tracking.loggers import guarded, unfailing
from seglab.run.tracking.wandb_run import close_wandb, open_wandb
from seglab.run.tracking.wandb_settings import WandbSettings


@contextmanager
def evaluation_board(run_dir: Path, record: Mapping[str, Any], output: Path) -> Iterator[list[Logger]]:
    """Loggers of an evaluation, on the main process; W&B ends with the block, and as failed when the block fails.

    Args:
        run_dir: folder of the run or ensemble that is scored.
        record: content of its run.json; of an ensemble that of the first member.
        output: folder of the evaluation; everything W&B writes lies below it.
    """
    if not is_main_process():
        yield []
        return
    name = f"evaluate-{output.name}"
    settings = settings_of(record)
    settings = replace(
        settings,
        group=settings.group or sweep_of(run_dir),
        name=settings.name and f"{settings.name}-{name}",
        tags=[*(settings.tags or []), "evaluate"],
    )
    own = {**record, "run_id": re.sub(r"[^\w.-]", "-", f"{run_name(run_dir)}-{name}")}
    exit_code, cause = 1, None
    try:
        yield [guarded(open_wandb(settings, output, own, "evaluate"))]
        exit_code = 0
    except BaseException as error:
        cause = error
        raise
    finally:
        unfailing(close_wandb, "W&B", [])(exit_code, cause)


def settings_of(record: Mapping[str, Any]) -> WandbSettings:
    """The settings of the training's W&B run; the defaults where it had none.

    Args:
        record: content of run.json.
    """
    node = (record["config"].get("logger") or {}).get("wandb") or {}
    return WandbSettings(**{key: value for key, value in node.items() if key != "_target_"})
