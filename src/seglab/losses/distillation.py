"""What a student network learns from a teacher's soft labels."""

from typing import Literal

from torch import Tensor, nn

from seglab.errors import ShapeError
from seglab.losses.inputs import full_precision, require, valid_pixels


class DistillationLoss(nn.Module):
    """T^2 times the cross-entropy of student and teacher, both softened by the temperature T.

    Source: Mangalam and Salzmann 2018 (https://arxiv.org/abs/1812.00249), after Hinton et al. 2015. The factor T^2
    keeps the slope as large as that of the hard loss: T (p_student - p_teacher) per pixel. The mean is over the pixels
    that are not ignored. No gradient reaches the teacher.

    Args:
        temperature: T; both logits are divided by it.
        kind: "ce" as in the paper, "kl" subtracts the teacher's entropy, so that equal logits give 0; the slope of the
            student is the same.

    Shape:
        student_logits and teacher_logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: temperature not positive, or another kind.
        ShapeError: student, teacher and mask do not fit.
    """

    def __init__(self, *, temperature: float = 5.0, kind: Literal["ce", "kl"] = "ce") -> None:
        super().__init__()
        require(temperature > 0, "temperature", temperature, "numbers above 0")
        require(kind in ("ce", "kl"), "kind", kind, "ce or kl")
        self.temperature, self.kind = temperature, kind

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
        """Compare the student with the teacher where the mask names a class."""
        if student_logits.shape != teacher_logits.shape:
            raise ShapeError(
                "student and teacher do not fit",
                given=f"student {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)}",
                allowed="logits of one size with the same classes",
                fix="give both networks the same image and the same number of classes",
            )
        student = (full_precision(student_logits, mask) / self.temperature).log_softmax(dim=1)
        teacher = (full_precision(teacher_logits.detach(), mask) / self.temperature).log_softmax(dim=1)
        truth = teacher.exp()
        difference = teacher - student if self.kind == "kl" else -student
        per_pixel = (truth * difference).sum(dim=1)  # (N, *spatial)
        valid = valid_pixels(mask)
        mean = per_pixel.masked_fill(~valid, 0.0).sum() / valid.sum().clamp_min(1)
        return self.temperature**2 * mean
