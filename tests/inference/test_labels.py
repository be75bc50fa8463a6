"""Labels from logits are those of argmax."""

import pytest
import torch

from seglab.errors import ShapeError
from seglab.inference.labels import labels_from_logits


@pytest.mark.parametrize("num_classes", [1, 2, 3, 19, 255])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_labels_equal_argmax(num_classes: int, dtype: torch.dtype) -> None:
    logits = torch.randn(2, num_classes, 6, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = labels_from_logits(logits)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), logits.argmax(dim=1))


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_ties_go_to_the_lowest_class_as_in_argmax(num_classes: int) -> None:
    logits = torch.randint(0, 2, (1, num_classes, 8, 8, 3), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(labels_from_logits(logits).long(), logits.argmax(dim=1))


def test_logits_are_left_as_they_were() -> None:
    logits = torch.randn(1, 3, 4, 4)
    before = logits.clone()
    labels_from_logits(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("shape", [(4,), (1, 0, 2), (1, 256, 2)])
def test_logits_without_a_usable_class_axis_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="1 to 255 classes"):
        labels_from_logits(torch.zeros(shape))
