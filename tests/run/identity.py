"""A run whose network is known: a U-Net whose weights make its labels the values of its input."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from run_jobs import SMALL, composed
from torch import Tensor

from seglab.run.build import build_task
from seglab.run.record import write_json
from seglab.spec import DataSpec, Intensity, Kind


def write_run(run_dir: Path, data: str, values: tuple[int, ...], *, channels: int = 1, dims: int = 2) -> Path:
    """Write a run folder as training leaves it.

    Args:
        run_dir: made.
        data: photos, rasters or volumes.
        values: of the image, one for each class; in masks they stand for it too.
        channels: of the image; the first one counts.
        dims: 2 or 3.
    """
    window = ",".join(["8"] * dims)  # small, so that even small images take several
    how = [f"data={data}", f"data.dims={dims}", f"inference.window=[{window}]", "model.norm=null"]
    cfg = composed("train", [*SMALL, *how, "model.base_channels=1", "model.n_poolings=1"], run_dir)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    kind: dict[str, Kind] = {"photos": "photo", "rasters": "raster", "volumes": "volume"}
    spec = DataSpec(
        name=data,
        kind=kind[data],
        spatial_dims=3 if dims == 3 else 2,
        in_channels=channels,
        class_names=tuple(f"class {value}" for value in values),
        class_colors=tuple((value, 255 - value, 128) for value in values),
        mask_values=values,
        has_background=True,
        patch_size=(8,) * dims,
        intensity=Intensity((0.0,) * channels, (1.0,) * channels),
    )
    task = build_task(config, spec)
    _make_identity(task.net, values)
    content = {"state_dict": task.state_dict(), "seglab": {"config": task.config, "spec": spec.to_dict()}}
    (run_dir / "checkpoints").mkdir(parents=True)
    torch.save(content, run_dir / "checkpoints" / "best.ckpt")
    write_json(run_dir / "run.json", {"config": config, "precision": "32-true"})
    return run_dir


@torch.no_grad()
def _make_identity(net: Any, values: tuple[int, ...]) -> None:
    """The way over the skip hands the first channel on; of the lines 2 v x - v * v the one of v = x is the highest."""
    for parameter in net.parameters():
        parameter.zero_()
    for level in (net.encoder[0], net.decoder[0].conv):
        for layer in (level.first.conv, level.second.conv):
            _centre(layer.weight[0, 0]).fill_(1)
    for index, value in enumerate(values):
        net.head.weight[index] = 2 * value
        net.head.bias[index] = -value * value


def _centre(kernel: Tensor) -> Tensor:
    return kernel[(1,) * kernel.ndim]
