"""Label encoding: a network learns to reproduce label maps, so that its bottleneck describes their shape."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from seglab.spec import IGNORE_INDEX, DataSpec
from seglab.task.segmentation import SegmentationTask


class LabelEncodingTask(SegmentationTask):
    """Label encoding: the input is the mask itself, one channel per foreground class; the first stage of BS U-Net.

    Ignored pixels enter as background and count in no loss. Such a run can be evaluated, on masks, but it labels no
    images. Source: Li and Tso 2018 (https://arxiv.org/abs/1810.10331).

    Args:
        parts: network, loss, optimizer and what they need; loss=dice is the paper's.
    """

    labels_images: ClassVar[bool] = False

    @classmethod
    def net_arguments(cls, spec: DataSpec) -> dict[str, int]:
        """One input channel per foreground class, whatever the images are."""
        return {**super().net_arguments(spec), "in_channels": spec.num_classes - 1}

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The mask in place of the image."""
        batch = super().prepare(batch)
        class_axis = 0 if isinstance(batch["case"], str) else 1  # a whole case has no batch axis
        encoded = encode_labels(batch["mask"], self.spec.num_classes, class_axis)
        return {**batch, "image": encoded.to(batch["image"].dtype)}


def encode_labels(mask: Tensor, num_classes: int, class_axis: int) -> Tensor:
    """A label map as an image: one channel for each class but the first, 1 where it is and 0 elsewhere.

    Args:
        mask: (N, *spatial), or (D, H, W) of a whole case.
        num_classes: classes of the mask.
        class_axis: where the channels go, 1 for a batch and 0 for a whole case.

    Returns:
        int64, (N, K - 1, *spatial), or (K - 1, D, H, W).
    """
    labels = mask.masked_fill(mask == IGNORE_INDEX, 0)
    return F.one_hot(labels, num_classes)[..., 1:].movedim(-1, class_axis)
