"""Every network and every way of training learns two phantom images by heart: cracks in 2-D, CT in 3-D."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

from seglab.data.crack import CrackData
from seglab.data.lits import LitsData
from seglab.metrics.confusion import count
from seglab.metrics.report import scores
from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.build import build_task
from seglab.run.catalogue import CONF, names
from seglab.spec import DataSpec
from seglab.task.segmentation import SegmentationTask

WANTED = 0.95
MOST_STEPS = 400
LOOK_EVERY = 10
BASE_8 = ("model.base_channels=8",)
ENCODING = ("model@first.model=encoding_unet", "first.model.base_channels=4", "task@first.task=label_encoding")

# what makes a network small, where it is not `model.base_channels=8`
SMALL = {
    "bsunet": ("model.base_channels=4",),
    "encoding_unet": ("model.base_channels=4", "task=label_encoding"),
    "cascade": ("model.first.base_channels=8", "model.second.base_channels=8"),
    "orthogonal": ("model.plane.base_channels=8",),
    "sdunet": ("model.base_channels=16",),
    "smp": (),
    "monai": ("model.base_channels=16",),
    "unetpp": (*BASE_8, "model.deep_supervision=true"),
    "dense_unet": (*BASE_8, "model.growth=4"),
}
TASKS = {
    "deep_supervision-unetpp": ("model=unetpp", *SMALL["unetpp"]),
    "regions-e1d3": ("model=e1d3", *BASE_8, "loss=ce"),
    "bottleneck_head-bottleneck_head_unet": ("model=bottleneck_head_unet", *BASE_8),
    "bottleneck_supervision-bsunet": ("model=bsunet", *SMALL["bsunet"], *ENCODING),
    "distillation-unet": ("model=unet", *BASE_8, "model@first.model=unet", "first.model.base_channels=8"),
    "adversarial-unet": ("model=unet", *BASE_8, "task.base_channels=4", "task.n_layers=2"),
    "implicit-implicit_unet": ("model=implicit_unet", *BASE_8, "task.n_points=2048"),
}
ONLY_2D, ONLY_3D, THREE_CLASSES = {"smp"}, {"orthogonal"}, {"cascade"}
# a network without norm, or one whose last layer is a norm, wants another learning rate than 3e-3
LEARNING_RATES = {"vnet": 1e-3}

MODELS_2D = [name for name in names("model") if name not in ONLY_3D | THREE_CLASSES]
MODELS_3D = [name for name in names("model") if name not in ONLY_2D]


def composed(*overrides: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    os.environ.setdefault("RUN_ID", "test")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["trainer.channels_last=false", *overrides])
    GlobalHydra.instance().clear()
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def cracks(crack_root: Path, cache_dir: Path) -> tuple[DataSpec, dict[str, Any]]:
    data = CrackData(root=str(crack_root), cache_dir=str(cache_dir), patch_size=[64, 64], num_workers=0, batch_size=2)
    data.foreground_fraction = 1.0
    return data.load().spec, next(iter(data.train_dataloader()))


@pytest.fixture(scope="module")
def ct(ct_root: Path, cache_dir: Path) -> tuple[DataSpec, dict[str, Any]]:
    data = LitsData(
        root=str(ct_root), cache_dir=str(cache_dir), dims=3, patch_size=[32, 32, 32], num_workers=0, batch_size=2
    )
    data.foreground_fraction = 1.0
    return data.load().spec, next(iter(data.train_dataloader()))


def narrower(override: str) -> str:
    """Half the width, which in 3-D saves most of the time; SDU-Net and SegResNet stay at 16."""
    key, _, value = override.partition("=")
    is_width = key.endswith("base_channels") and value != "16"
    return f"{key}={int(value) // 2}" if is_width else override


def steps_to_learn(task: SegmentationTask, batch: dict[str, Any], lr: float) -> int | None:
    """Steps until the first foreground class is right, judged with the statistics of the batch; None if never."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=lr)
    batch = task.prepare(batch)
    task._trainer = None
    for step in range(MOST_STEPS):
        optimizer.zero_grad()
        loss = task.training_losses(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        if step % LOOK_EVERY == LOOK_EVERY - 1 and dice(task, batch) > WANTED:
            return step + 1
    return None


@torch.no_grad()
def dice(task: SegmentationTask, batch: dict[str, Any]) -> float:
    logits: Tensor = task(batch["image"])
    names, has_background = task.spec.class_names, task.spec.has_background
    values = scores(count(logits.argmax(1), batch["mask"], len(names)), names, has_background=has_background)
    return float(values[f"dice/{names[1]}"])


def learns(setting: tuple[DataSpec, dict[str, Any]], *overrides: str, lr: float = 3e-3) -> int | None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec, batch = setting
    if spec.spatial_dims == 3:
        overrides = tuple(narrower(override) for override in overrides)
    config = composed(*overrides)
    task = build_task(config, spec).train()
    if task.first_stage:
        first = {**config, "model": config["first"]["model"], "task": config["first"].get("task")}
        task.use_first(build_task(first, spec).net)
    return steps_to_learn(task, batch, lr)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS_2D)
def test_every_network_learns_two_crack_images_by_heart(model: str, cracks: tuple[DataSpec, dict[str, Any]]) -> None:
    assert learns(cracks, f"model={model}", *SMALL.get(model, BASE_8), lr=LEARNING_RATES.get(model, 3e-3)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS_3D)
def test_every_network_learns_two_ct_patches_by_heart(model: str, ct: tuple[DataSpec, dict[str, Any]]) -> None:
    assert learns(ct, f"model={model}", *SMALL.get(model, BASE_8), lr=LEARNING_RATES.get(model, 3e-3)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("way", TASKS)
@pytest.mark.parametrize("data", ["cracks", "ct"])
def test_every_way_of_training_learns_two_images_by_heart(way: str, data: str, request: pytest.FixtureRequest) -> None:
    setting = request.getfixturevalue(data)
    assert learns(setting, f"task={way.partition('-')[0]}", *TASKS[way]) is not None
