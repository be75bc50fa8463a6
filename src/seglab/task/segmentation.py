"""SegmentationTask: what a training, validation and test step of semantic segmentation does."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from seglab.inference.cases import CasePredictor, Part
from seglab.inference.labels import labels_from_logits
from seglab.inference.network import Predict, WindowNetwork, unchanged
from seglab.inference.postprocess import Postprocess, label_case
from seglab.inference.windows import SlidingWindow
from seglab.losses.composite import CompositeLoss
from seglab.metrics.cases import case_scores, summarise
from seglab.metrics.confusion import ConfusionMatrix, count
from seglab.metrics.mean import ExactMean
from seglab.metrics.report import metric_names, scores
from seglab.nets.base import SegmentationNet
from seglab.spec import DataSpec
from seglab.task.ranks import average_buffers, derive_seed, gather, seed_chance
from seglab.task.sizes import crop_to, memory_layout, pad_to

WINDOW_2D = (1024, 1024)


@dataclass(frozen=True, kw_only=True)
class TaskParts:
    """What every task is made of.

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

    net: SegmentationNet
    loss: CompositeLoss
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    sliding_window: SlidingWindow
    spec: DataSpec
    seed: int = 0
    channels_last: bool = True
    config: str = "{}"


class SegmentationTask(LightningModule):
    """Semantic segmentation: one label per pixel, trained on patches, scored on whole cases.

    A way of training is a subclass. Most override `training_losses` only; the way from image to labels stays the same.

    Args:
        parts: network, loss, optimizer and what they need.
    """

    first_stage: ClassVar[str] = ""
    """What must be trained before, and how to ask for it; empty for tasks of one stage. See `use_first`."""

    first_labels_images: ClassVar[bool] = True
    """Whether the network of the first stage is given images; if not, label maps."""

    labels_images: ClassVar[bool] = True
    """Whether the trained network takes images, so that it can label files."""

    def __init__(self, parts: TaskParts) -> None:
        super().__init__()
        self.spec, self.seed, self.config = parts.spec, parts.seed, parts.config
        self.layout = memory_layout(parts.spec.spatial_dims) if parts.channels_last else torch.contiguous_format
        self.net = parts.net.to(memory_format=self.layout)
        self.loss, self.make_optimizer, self.make_scheduler = parts.loss, parts.optimizer, parts.scheduler
        self.sliding_window = parts.sliding_window
        self.train_loss, self.val_loss = MeanMetric(), ExactMean()
        names = parts.spec.class_names
        self.val_matrix, self.test_matrix = ConfusionMatrix(names), ConfusionMatrix(names)
        self.case_rows: list[dict[str, Any]] = []
        self.counts: dict[str, list[list[int]]] = {}  # the last confusion matrix of each split, rows are the truth
        self.on_part: Callable[[Part], None] | None = None  # sees each part of a case with its probabilities
        self.postprocess: Postprocess | None = None  # of a run, where it was chosen
        self.compute: Predict | None = None  # in prediction: gives the logits of padded images in place of the network
        self.test_scores: dict[str, float] = {}  # in full precision; Lightning's own log is float32
        self.check_net()

    @classmethod
    def net_arguments(cls, spec: DataSpec) -> dict[str, int]:
        """The arguments of the network that the data decides."""
        return {
            "in_channels": spec.in_channels,
            "num_classes": spec.num_classes,
            "spatial_dims": spec.spatial_dims,
        }

    def check_net(self) -> None:
        """Refuse a network that cannot be trained this way; every network can be trained as plain segmentation.

        Raises:
            ConfigError: names networks that can.
        """

    def use_first(self, net: SegmentationNet) -> None:
        """Take the network of the first stage, trained and in eval mode; only tasks with a `first_stage` get one."""

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the network sees of a batch of training, validation or test: here all of it, with labels as int64.

        Loaders send labels as uint8, an eighth of the bytes; a subclass starts with this.
        """
        return {**batch, "mask": batch["mask"].long()}

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of a batch of patches under "loss", and its parts under their names."""
        return self.loss(self(batch["image"]), batch["mask"], batch.get("maps"))  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image of any size: mirrored up to what the network takes, cropped back.

        Shape:
            image (N, C, *spatial) -> logits (N, K, *spatial).
        """
        return crop_to(self.logits(self.padded(image)), image.shape[2:])

    def logits(self, image: Tensor) -> Tensor:
        """Logits of an image of a size that the network takes; of its centre where the network shrinks it."""
        return self.net(image.contiguous(memory_format=self.layout))  # type: ignore[no-any-return]

    def padded(self, image: Tensor) -> Tensor:
        """An image mirrored up to what the network takes, in its memory layout; `crop_to` is the way back."""
        return pad_to(image, self.net.input_size_for(image.shape[2:])).contiguous(memory_format=self.layout)

    def on_train_epoch_start(self) -> None:
        """Start a new mean; an epoch that is resumed within goes on with its own."""
        self.train_loss.reset()

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Draw the noise of a step (dropout) from its place in the training, whatever was drawn before."""
        seed_chance(derive_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch of patches."""
        parts = self.training_losses(self.prepare(batch))
        n = len(batch["image"])
        self.train_loss.update(parts["loss"].detach(), n)
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # a row follows
            self.log_dict({f"train/step_{name}": value.detach() for name, value in parts.items()}, batch_size=n)
        return parts["loss"]

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
        batch = self.prepare(batch)
        if self.spec.spatial_dims == 3:
            pred = self.predict_labels(batch["image"])
        else:
            logits, parts = self.validation_losses(batch)
            self.val_loss.update(parts["loss"], len(logits))
            pred = labels_from_logits(logits)
        self.val_matrix.update(pred, batch["mask"])
        return {"pred": pred}

    def validation_losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, K, H, W) of a batch of slices, photos or tiles, and the loss of the final output."""
        logits = self(batch["image"])
        return logits, self.loss(logits, batch["mask"], batch.get("maps"))

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
        batch = self.prepare(batch)
        pred = self.predict_labels(batch["image"], batch["spacing"])
        self.test_matrix.update(pred, batch["mask"])
        counts = count(pred, batch["mask"], self.spec.num_classes)
        names, background, regions = self.spec.class_names, self.spec.has_background, self.spec.regions
        row = case_scores(counts, names, has_background=background, regions=regions)
        self.case_rows.append({"case": batch["case"], "group": batch["group"], **row})
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

    def predict_labels(self, image: Tensor, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
        """Labels of a whole case, the one way from image to labels in test and prediction.

        Args:
            image: (C, D, H, W), normalised.
            spacing: distance of neighbouring pixels along (D, H, W); the postprocessing of volumes asks for it.

        Returns:
            (D, H, W) uint8.
        """
        pixel_size = math.prod(spacing) if self.spec.kind == "volume" else 1.0
        return label_case(self.predictor(), image, self.postprocess, pixel_size, self.on_part)

    def predictor(self, prepare: Predict = unchanged) -> CasePredictor:
        """What labels whole cases, also part by part.

        Args:
            prepare: from the values of the case, cut into windows, to network input on the task's device.
        """
        compute = self.compute or self.logits

        def any_size(image: Tensor) -> Tensor:
            """Logits of images of any size: padded, computed, cropped."""
            return crop_to(compute(self.padded(image)), image.shape[2:])

        return CasePredictor(
            WindowNetwork(compute, any_size=any_size, input_size=self.net.input_size_for, prepare=prepare),
            spatial_dims=self.spec.spatial_dims,
            n_slices=self.spec.n_slices,
            sliding_window=self.sliding_window,
            window=self.window,
        )

    @property
    def window(self) -> Sequence[int]:
        """Size of the windows that cover a case: a patch in 3-D, a large tile in 2-D."""
        return self.spec.patch_size if self.spec.spatial_dims == 3 else WINDOW_2D

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule; the schedule spans all steps of the training."""
        optimizer = self.make_optimizer(self.parameter_groups())
        scheduler = self.make_scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def parameter_groups(self) -> Iterable[Any]:
        """What the optimizer gets: parameters, or groups of them with settings of their own."""
        return self.parameters()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what opens the checkpoint without anything else: configuration and data spec, as plain data.

        And the sums of the losses within the epoch, of which each process has its own.
        """
        sums = {name: cast(Tensor, value).cpu() for name, value in self.train_loss.metric_state.items()}
        checkpoint["seglab"] = {"config": self.config, "spec": self.spec.to_dict(), "train_loss": gather([sums])}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the sums of this process, unless the number of processes is another."""
        by_rank = checkpoint["seglab"].get("train_loss", [])
        if len(by_rank) == self.trainer.world_size:
            for name, value in by_rank[self.global_rank].items():
                setattr(self.train_loss, name, value.to(self.device))  # FSDP loads when the task is on the GPU

    def metric_names(self) -> list[str]:
        """Every name that validation logs, known before training."""
        names = metric_names(self.spec.class_names, has_background=self.spec.has_background)
        loss = ["val/loss"] if self.spec.spatial_dims == 2 else []
        return [f"val/{name}" for name in names] + loss

    def _log_scores(self, split: str, matrix: ConfusionMatrix) -> dict[str, float]:
        counts = matrix.compute()
        self.counts[split] = counts.tolist()
        names, background, regions = self.spec.class_names, self.spec.has_background, self.spec.regions
        values = scores(counts, names, has_background=background, regions=regions)
        named = {f"{split}/{name}": float(value) for name, value in values.items()}
        self.log_dict(named)
        matrix.reset()
        return named

    def _log_mean(self, name: str, mean: MeanMetric | ExactMean) -> None:
        self.log(name, mean.compute(), prog_bar=True)
        mean.reset()
