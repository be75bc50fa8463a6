"""Confusion matrix: a brute-force twin, ignored pixels, values that are no class, sums over batches."""

import numpy as np
import pytest
import torch
from torch import Tensor

from seglab.errors import ConfigError, DataError, ShapeError
from seglab.metrics.confusion import ConfusionMatrix, count
from seglab.spec import IGNORE_INDEX


def random_labels(num_classes: int, shape: tuple[int, ...] = (6, 7, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_classes)
    pred = torch.randint(0, num_classes, shape, generator=generator).to(torch.uint8)
    mask = torch.randint(0, num_classes, shape, generator=generator)
    mask[torch.rand(shape, generator=generator) < 0.2] = IGNORE_INDEX
    return pred, mask


def names(num_classes: int) -> list[str]:
    return [f"class_{index}" for index in range(num_classes)]


@pytest.mark.parametrize("num_classes", [1, 2, 3, 19, 254, 255])
def test_counts_equal_a_loop_over_pixels(num_classes: int) -> None:
    pred, mask = random_labels(num_classes)
    expected = np.zeros((num_classes, num_classes), dtype=np.int64)
    for true, predicted in zip(mask.flatten().tolist(), pred.flatten().tolist(), strict=True):
        if true != IGNORE_INDEX:
            expected[true, predicted] += 1
    counts = count(pred, mask, num_classes)
    assert counts.dtype == torch.int64
    assert np.array_equal(counts.numpy(), expected)


def test_rows_are_the_truth() -> None:
    counts = count(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 0]), 2)
    assert counts.tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize("pred_type", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("mask_type", [torch.uint8, torch.int16, torch.int64])
def test_integer_types_do_not_matter(pred_type: torch.dtype, mask_type: torch.dtype) -> None:
    pred, mask = random_labels(4)
    assert torch.equal(count(pred.to(pred_type), mask.to(mask_type), 4), count(pred, mask, 4))


def test_more_pixels_than_one_chunk_are_all_counted() -> None:
    pred = torch.zeros(3, 512, 400, dtype=torch.uint8)
    assert count(pred, pred, 2).tolist() == [[3 * 512 * 400, 0], [0, 0]]


def test_views_that_are_not_contiguous_are_counted_in_place() -> None:
    pred, mask = random_labels(3)
    assert torch.equal(count(pred.mT, mask.mT, 3), count(pred, mask, 3))


def test_predictions_at_ignored_pixels_change_nothing() -> None:
    pred, mask = random_labels(3)
    other = torch.where(mask == IGNORE_INDEX, torch.tensor(77, dtype=torch.uint8), pred)
    assert torch.equal(count(other, mask, 3), count(pred, mask, 3))


def test_no_pixels_count_nothing() -> None:
    assert count(torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.int64), 2).sum() == 0
    assert count(torch.zeros(4).byte(), torch.full((4,), IGNORE_INDEX), 2).sum() == 0


def test_batches_of_any_size_and_merged_shards_give_one_matrix() -> None:
    pred, mask = random_labels(3)
    whole = ConfusionMatrix(names(3))
    whole.update(pred, mask)
    for sizes in ([1] * 6, [4, 2], [3, 3]):
        shards = [ConfusionMatrix(names(3)) for _ in sizes]
        for shard, p, m in zip(shards, torch.split(pred, sizes), torch.split(mask, sizes), strict=True):
            shard.update(p, m)
        for shard in shards[1:]:
            shards[0].merge_state(shard)
        assert torch.equal(shards[0].compute(), whole.compute())


def test_state_stays_int64_through_casts_and_is_emptied_by_reset() -> None:
    matrix = ConfusionMatrix(names(2)).half().to(torch.bfloat16).double()
    matrix.update(torch.ones(300, 300).byte(), torch.ones(300, 300).long())
    assert matrix.compute().dtype == torch.int64
    assert matrix.compute()[1, 1] == 90_000
    matrix.reset()
    assert matrix.counts.sum() == 0


@pytest.mark.parametrize(
    ("pred", "mask"),
    [
        ([3], [0]),
        ([0], [3]),
        ([0], [254]),
        ([255], [0]),
        ([-1], [1]),
        ([0], [-1]),
        ([256], [0]),
        ([0], [256]),
        ([0], [511]),
    ],
)
def test_values_that_are_no_class_are_refused(pred: list[int], mask: list[int]) -> None:
    with pytest.raises(DataError, match="no class"):
        count(torch.tensor(pred), torch.tensor(mask), 3)


def test_an_error_names_the_values_it_met() -> None:
    with pytest.raises(DataError, match=r"mask values \[0, 7\]"):
        count(torch.zeros(2).byte(), torch.tensor([0, 7]), 3)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        ConfusionMatrix(names(2)).update(torch.zeros(2, 3).byte(), torch.zeros(3, 2).long())


@pytest.mark.parametrize("size", [0, 256])
def test_numbers_of_classes_that_a_mask_cannot_name_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"{size} class names"):
        ConfusionMatrix(names(size))
