"""A made-up data set, the parts of a task on it, and a training of a few steps."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seglab.inference.windows import SlidingWindow
from seglab.losses.composite import CompositeLoss
from seglab.losses.overlap import DiceLoss
from seglab.losses.pixelwise import CrossEntropyLoss
from seglab.nets.base import SegmentationNet
from seglab.nets.unet import UNet
from seglab.spec import DataSpec, Intensity
from seglab.task.schedules import constant
from seglab.task.segmentation import TaskParts

CLASS_NAMES = ("background", "thing", "other", "core")
CLASS_COLORS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))


def make_spec(
    dims: int = 2, channels: int = 1, *, num_classes: int = 3, patch: int = 32, has_background: bool = True
) -> DataSpec:
    return DataSpec(
        name="made_up",
        kind="photo" if dims == 2 else "volume",
        spatial_dims=dims,  # type: ignore[arg-type]
        in_channels=channels,
        class_names=CLASS_NAMES[:num_classes],
        class_colors=CLASS_COLORS[:num_classes],
        mask_values=tuple(range(num_classes)),
        has_background=has_background,
        patch_size=(patch,) * dims,
        intensity=Intensity(mean=(0.0,) * channels, std=(1.0,) * channels),
    )


def make_parts(net: SegmentationNet, spec: DataSpec, loss: CompositeLoss | None = None, **options: Any) -> TaskParts:
    return TaskParts(
        net=net,
        loss=dice_ce() if loss is None else loss,
        optimizer=options.pop("optimizer", torch.optim.AdamW),
        scheduler=constant,
        sliding_window=SlidingWindow(),
        spec=spec,
        **options,
    )


def dice_ce() -> CompositeLoss:
    terms = {"dice": DiceLoss(include_background=False), "ce": CrossEntropyLoss()}
    return CompositeLoss(terms, {"dice": 1.0, "ce": 1.0})


def cross_entropy() -> CompositeLoss:
    return CompositeLoss({"ce": CrossEntropyLoss()}, {"ce": 1.0})


def small_unet(spec: DataSpec, base_channels: int = 4, **options: Any) -> UNet:
    return UNet(
        in_channels=spec.in_channels,
        num_classes=spec.num_classes,
        spatial_dims=spec.spatial_dims,
        base_channels=base_channels,
        **options,
    )


def make_batch(spec: DataSpec, size: Iterable[int] | None = None, n: int = 2, seed: int = 0) -> dict[str, Any]:
    """Noisy images of boxes inside each other, one for each class, the deepest inside."""
    generator, size = torch.Generator().manual_seed(seed), tuple(spec.patch_size if size is None else size)
    mask = torch.zeros(n, *size, dtype=torch.int64)
    for label in range(1, spec.num_classes):
        for image in mask:
            image[tuple(slice(length * label // 8 + 1, length - length * label // 8) for length in size)] = label
    noise = 0.1 * torch.randn(n, spec.in_channels, *size, generator=generator)
    return {"image": mask.unsqueeze(1) + noise, "mask": mask, "case": [f"case_{number}" for number in range(n)]}


def train(task: LightningModule, batch: dict[str, Any], n_steps: int) -> None:
    """Train on one batch again and again, with Lightning's loop."""
    trainer = Trainer(
        accelerator="cpu",
        max_steps=n_steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning: no validation, few workers
        trainer.fit(task, DataLoader([batch] * n_steps, batch_size=None))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradients by name, copied; parameters without one are left out."""
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def gradients_of(loss: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """Gradients that a loss alone gives."""
    module.zero_grad()
    loss.backward()
    return gradients(module)


def convolutions(module: nn.Module) -> dict[str, Tensor]:
    """Weights of the convolutions and linear layers by name."""
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    return {name: each.weight for name, each in module.named_modules() if isinstance(each, kinds)}


def constant_logits(net: UNet, logits: Iterable[float]) -> UNet:
    """The network with a head that gives these logits everywhere."""
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.tensor(list(logits))
    return net
