"""Jobs in this process: compose as the command line does, then call the job."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.fit import fit

HARDWARE = ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.threads=1"]
SMALL = [*HARDWARE, "trainer.precision=32-true", "data.num_workers=0", "callbacks.progress=null"]
TINY_CRACK = [*SMALL, "model.base_channels=4", "data.batch_size=2", "data.patch_size=[64,64]"]
FOREIGN = ("WANDB_", "SEGLAB_", "TORCHELASTIC_", "SLURM_", "PL_", "RUN_ID", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_")


@contextmanager
def clean_environment() -> Iterator[None]:
    """Without what a shell or an earlier run may have set: no W&B key, no rank, no run id, no Hydra state."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        patch.setenv("NETRC", os.devnull)
        yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    for name in ("RUN_ID", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)


def composed(job: str, overrides: list[str], run_dir: Path | None = None, mode: RunMode = RunMode.RUN) -> DictConfig:
    """What `python src/<job>.py <overrides>` hands to its job; Hydra's own part is set as it would be."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(job, overrides=overrides, return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(run_dir)
        cfg.hydra.mode = mode
        HydraConfig.instance().set_config(OmegaConf.create(cfg))
        del cfg["hydra"]
    return cfg


def train_in(run_dir: Path, *overrides: str) -> dict[str, float]:
    """Train into `run_dir`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return fit(composed("train", list(overrides), run_dir))


def read(file: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Equal to the last digit; NaN equals NaN and the null of a JSON file."""
    plain = [{k: None if v is None or math.isnan(v) else v for k, v in scores.items()} for scores in (one, two)]
    return plain[0] == plain[1]
