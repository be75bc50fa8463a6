"""One matrix of counts from which every pixel score follows."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from seglab.errors import ConfigError, DataError, ShapeError
from seglab.spec import IGNORE_INDEX

SIDE = 256
"""Rows and columns of the working table: every uint8 value has its own cell, the ignore index included."""

CHUNK = 2**18
"""Pixels counted at once: temporary memory stays in the cache."""


class ConfusionMatrix(Metric):
    """Counts of (true class, predicted class) over all pixels of a split, summed over batches and ranks.

    Args:
        class_names: index is the class.

    Raises:
        ConfigError: no class or more than 255.
    """

    is_differentiable: bool | None = False
    higher_is_better: bool | None = None
    full_state_update: bool | None = False

    counts: Tensor

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        if not 1 <= len(class_names) < SIDE:
            raise ConfigError(
                "a confusion matrix cannot have this many classes",
                given=f"{len(class_names)} class names",
                allowed=f"1 to {SIDE - 1}: {IGNORE_INDEX} marks ignored pixels",
                fix="list the classes in data.class_names",
            )
        self.class_names = tuple(class_names)
        size = len(self.class_names)
        self.add_state("counts", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, pred: Tensor, mask: Tensor) -> None:
        """Add a batch.

        Args:
            pred: predicted classes, any shape; uint8 is the fastest.
            mask: true classes, the same shape; 255 counts nowhere.

        Raises:
            ShapeError: shapes that differ.
            DataError: values that are neither a class nor, in the mask, 255.
        """
        self.counts += count(pred, mask, len(self.class_names))

    def compute(self) -> Tensor:
        """The (K, K) int64 matrix: rows are the truth, columns the prediction."""
        return self.counts


def count(pred: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Count pairs of true and predicted class by one bincount; ignored pixels fall into a row that is dropped.

    Args:
        pred: predicted classes, any shape and integer type.
        mask: true classes, the same shape; 255 counts nowhere.
        num_classes: K, below 256.

    Returns:
        (K, K) int64 on the device of `mask`: rows are the truth, columns the prediction.

    Raises:
        ShapeError: shapes that differ.
        DataError: values that are neither a class nor, in the mask, 255.
    """
    if pred.shape != mask.shape:
        raise ShapeError(
            "prediction and mask do not fit",
            given=f"prediction {tuple(pred.shape)}, mask {tuple(mask.shape)}",
            allowed="two tensors of one shape",
            fix="compare labels (N, *spatial) with the mask of the same grid",
        )
    _check_range("prediction", pred, num_classes)
    _check_range("mask", mask, num_classes)
    table = torch.zeros(SIDE * SIDE, dtype=torch.int64, device=mask.device)
    wide = pred if pred.dtype == torch.uint8 else pred.to(torch.int32)
    for pred_part, mask_part in zip(_chunks(wide), _chunks(mask), strict=True):
        cell = torch.add(pred_part, mask_part.to(torch.int32), alpha=SIDE)
        table += torch.bincount(cell, minlength=SIDE * SIDE)
    return _classes_only(table.view(SIDE, SIDE), num_classes)


def _chunks(labels: Tensor) -> Iterator[Tensor]:
    flat = labels.flatten()
    return (flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK))


def _check_range(name: str, labels: Tensor, num_classes: int) -> None:
    """Wider integers must fit into a byte; what is inside a byte but no class is found in the table."""
    if labels.dtype == torch.uint8 or labels.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= SIDE:
        raise _unknown_class(f"the {name} holds values from {low} to {high}", num_classes)


def _classes_only(table: Tensor, num_classes: int) -> Tensor:
    counts = table[:num_classes, :num_classes].contiguous()
    judged = table[:IGNORE_INDEX]
    if int(judged.sum() - counts.sum()):
        true, pred = judged.sum(dim=1).nonzero().flatten(), judged.sum(dim=0).nonzero().flatten()
        raise _unknown_class(f"mask values {true.tolist()}, predicted values {pred.tolist()}", num_classes)
    return counts


def _unknown_class(given: str, num_classes: int) -> DataError:
    return DataError(
        "labels hold values that are no class",
        given=given,
        allowed=f"0 to {num_classes - 1}, and {IGNORE_INDEX} for ignored pixels in the mask",
        fix="list all classes in data.class_names, or map the values of the masks to them",
    )
