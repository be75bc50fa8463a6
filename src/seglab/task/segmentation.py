"""SegmentationTask: what a training, validation and test step of semantic segmentation does."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from seglab.inference.cases import predict_case
from seglab.inference.labels import labels_from_logits
from seglab.inference.windows import SlidingWindow
from seglab.losses.composite import CompositeLoss
from seglab.metrics.cases import case_scores, summarise
from seglab.metrics.confusion import ConfusionMatrix, count
from seglab.metrics.report import metric_names, scores
from seglab.nets.base import SegmentationNet
from seglab.spec import DataSpec

WINDOW_2D = (1024, 1024)


class SegmentationTask(LightningModule):
    """Semantic segmentation: one label per pixel, trained on patches, scored on whole cases.

    Args:
        net: gives logits.
        loss: named terms and weights.
        optimizer: makes the optimizer from parameters.
        scheduler: makes the schedule from the optimizer and `total_steps`.
        sliding_window: how windows cover a large case.
        spec: of the data.
        seed: of the randomness inside the network (dropout), drawn anew for each step.
        channels_last: memory layout of network and images, faster on most hardware.
        config: plain configuration, kept in checkpoints so that they can be opened alone.
    """

    def __init__(
        self,
        *,
        net: SegmentationNet,
        loss: CompositeLoss,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        sliding_window: SlidingWindow,
        spec: DataSpec,
        seed: int = 0,
        channels_last: bool = True,
        config: str = "{}",
    ) -> None:
        super().__init__()
        self.layout = memory_layout(spec.spatial_dims) if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self.layout)
        self.loss, self.make_optimizer, self.make_scheduler = loss, optimizer, scheduler
        self.sliding_window, self.spec, self.seed, self.config = sliding_window, spec, seed, config
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.val_matrix, self.test_matrix = ConfusionMatrix(spec.class_names), ConfusionMatrix(spec.class_names)
        self.case_rows: list[dict[str, Any]] = []
        self.test_scores: dict[str, float] = {}  # in full precision; Lightning's own log is float32

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image of any size: mirrored up to what the network takes, cropped back.

        Shape:
            image (N, C, *spatial) -> logits (N, K, *spatial).
        """
        size = image.shape[2:]
        wanted = self.net.input_size_for(size)
        logits: Tensor = self.net(pad_to(image, wanted).contiguous(memory_format=self.layout))
        return crop_to(logits, size)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch of patches."""
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        parts = self.loss(self(batch["image"]), batch["mask"])
        n = len(batch["image"])
        self.train_loss.update(parts["loss"].detach(), n)
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_dict({f"train/step_{name}": value.detach() for name, value in parts.items()}, batch_size=n)
        return cast(Tensor, parts["loss"])

    def on_train_epoch_end(self) -> None:
        """Log the mean training loss and the learning rate; rank 0 saves what all ranks have seen."""
        average_buffers(self.net)
        self._log_mean("train/loss", self.train_loss)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self) -> None:
        """Let all ranks score the same network."""
        average_buffers(self.net)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Score a batch of whole slices, photos or tiles; in 3-D a whole case."""
        if self.spec.spatial_dims == 3:
            pred = self.predict_labels(batch["image"])
        else:
            logits = self(batch["image"])
            self.val_loss.update(self.loss(logits, batch["mask"])["loss"], len(logits))
            pred = labels_from_logits(logits)
        self.val_matrix.update(pred, batch["mask"])
        return {"pred": pred}

    def on_validation_epoch_end(self) -> None:
        """Log pooled scores by class."""
        if self.spec.spatial_dims == 2:
            self._log_mean("val/loss", self.val_loss)
        self._log_scores("val", self.val_matrix)

    def on_test_start(self) -> None:
        """Start with an empty list of cases."""
        average_buffers(self.net)
        self.case_rows = []

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Predict and score one whole case in its own grid."""
        pred = self.predict_labels(batch["image"])
        self.test_matrix.update(pred, batch["mask"])
        counts = count(pred, batch["mask"], self.spec.num_classes)
        names, background = self.spec.class_names, self.spec.has_background
        row = {"case": batch["case"], **case_scores(counts, names, has_background=background)}
        self.case_rows.append(row)
        return {"pred": pred}

    def on_test_epoch_end(self) -> None:
        """Gather the cases of all ranks; log scores pooled and per case."""
        self.case_rows = sorted(gather(self.case_rows), key=lambda row: str(row["case"]))
        pooled = self._log_scores("test", self.test_matrix)
        names, background = self.spec.class_names, self.spec.has_background
        summary = summarise(self.case_rows, names, has_background=background)
        per_case = {f"test/{name}": float(value) for name, value in summary.items()}
        self.log_dict(per_case)
        self.test_scores = pooled | per_case

    def predict_labels(self, image: Tensor) -> Tensor:
        """Labels of a whole case, the one way from image to labels in test and prediction.

        Shape:
            image (C, D, H, W), normalised -> labels (D, H, W) uint8.
        """
        window = self.spec.patch_size if self.spec.spatial_dims == 3 else WINDOW_2D
        return predict_case(
            image,
            self,
            spatial_dims=self.spec.spatial_dims,
            n_slices=self.spec.n_slices,
            sliding_window=self.sliding_window,
            window=window,
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule; the schedule spans all steps of the training."""
        optimizer = self.make_optimizer(self.parameters())
        scheduler = self.make_scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what opens the checkpoint without anything else: configuration and data spec, as plain data."""
        checkpoint["seglab"] = {"config": self.config, "spec": self.spec.to_dict()}

    def metric_names(self) -> list[str]:
        """Every name that validation logs, known before training."""
        names = metric_names(self.spec.class_names, has_background=self.spec.has_background)
        loss = ["val/loss"] if self.spec.spatial_dims == 2 else []
        return [f"val/{name}" for name in names] + loss

    def _log_scores(self, split: str, matrix: ConfusionMatrix) -> dict[str, float]:
        values = scores(matrix.compute(), self.spec.class_names, has_background=self.spec.has_background)
        named = {f"{split}/{name}": float(value) for name, value in values.items()}
        self.log_dict(named)
        matrix.reset()
        return named

    def _log_mean(self, name: str, mean: MeanMetric) -> None:
        self.log(name, mean.compute(), prog_bar=True)
        mean.reset()


def memory_layout(spatial_dims: int) -> torch.memory_format:
    """The channels-last layout of 2-D or 3-D images."""
    return torch.channels_last_3d if spatial_dims == 3 else torch.channels_last


def pad_to(image: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge to `size` evenly on both sides by mirroring; where the image is too short to mirror, by its border.

    Shape:
        (N, C, *spatial) -> (N, C, *size).
    """
    margins = [wanted - length for wanted, length in zip(size, image.shape[2:], strict=True)]
    if not any(margins):
        return image
    pad = [part for margin in reversed(margins) for part in (margin // 2, margin - margin // 2)]
    fits = all(margin - margin // 2 < length for margin, length in zip(margins, image.shape[2:], strict=True))
    return F.pad(image, pad, mode="reflect" if fits else "replicate")


def crop_to(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the centre of `size` out of (N, K, *spatial), the counterpart of `pad_to`."""
    for axis, length in enumerate(size, start=2):
        logits = logits.narrow(axis, (logits.shape[axis] - length) // 2, length)
    return logits


def average_buffers(module: nn.Module) -> None:
    """Average the running statistics over ranks, so that every rank scores, and rank 0 saves, the same network."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer.div_(dist.get_world_size())


def gather(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the rows of all ranks on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts: list[list[dict[str, Any]]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def derive_seed(*key: int) -> int:
    """A 63-bit seed from integers, alike on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1
