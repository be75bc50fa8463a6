"""Whole cases: slices, neighbouring slices, volumes; the same labels whichever way a case is cut."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.inference.cases import CasePredictor, slice_indices, stack_slices
from seglab.inference.windows import SlidingWindow


def largest_channel(batch: Tensor) -> Tensor:
    return batch


def predict_case(image: Tensor, predict: Any, **how: Any) -> Tensor:
    return CasePredictor(predict, **how).labels(image)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("depth", [1, 3, 4, 9])
@pytest.mark.parametrize(("dims", "window"), [(2, (64, 64)), (2, (8, 8)), (3, (64, 64, 64)), (3, (4, 8, 8))])
def test_labels_are_those_of_each_pixel_whichever_way_a_case_is_cut(depth: int, dims: int, window: tuple) -> None:
    image = seeded(3, depth, 20, 13)
    labels = predict_case(
        image, largest_channel, spatial_dims=dims, n_slices=1, sliding_window=SlidingWindow(), window=window
    )
    assert labels.dtype == torch.uint8 and labels.shape == image.shape[1:]
    assert torch.equal(labels.long(), image.argmax(dim=0))


def test_slices_come_in_batches_of_one_size_that_cover_the_case() -> None:
    seen: list[int] = []

    def record(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return batch

    image = seeded(2, 9, 6, 6)
    labels = predict_case(
        image, record, spatial_dims=2, n_slices=1, sliding_window=SlidingWindow(batch_size=4), window=(6, 6)
    )
    assert seen == [4, 4, 4]
    assert torch.equal(labels.long(), image.argmax(dim=0))


@pytest.mark.parametrize("window", [(8, 8), (4, 4)])
def test_neighbouring_slices_reach_the_network_as_channels(window: tuple[int, int]) -> None:
    image = torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 8, 8)

    def next_minus_previous_is_two(batch: Tensor) -> Tensor:
        inner = batch[:, 2:] - batch[:, :1] == 2  # the ends are repeated: 1 there
        return torch.cat([torch.full_like(batch[:, :1], 0.5), inner.float()], dim=1)

    labels = predict_case(
        image,
        next_minus_previous_is_two,
        spatial_dims=2,
        n_slices=3,
        sliding_window=SlidingWindow(batch_size=2),
        window=window,
    )
    assert labels[:, 0, 0].tolist() == [0, 1, 1, 1, 0]
    assert torch.equal(labels, labels[:, :1, :1].expand_as(labels))


def test_stacked_channels_go_slice_by_slice_for_tensors_and_arrays() -> None:
    image = torch.tensor([[0, 1, 2], [10, 11, 12]]).view(2, 3, 1, 1)
    assert stack_slices(image, 1, 3).flatten().tolist() == [0, 10, 1, 11, 2, 12]
    assert stack_slices(image, 0, 3).flatten().tolist() == [0, 10, 0, 10, 1, 11]
    as_array = stack_slices(image.numpy(), 2, 5)
    assert isinstance(as_array, np.ndarray)
    assert np.array_equal(as_array, stack_slices(image, 2, 5).numpy())


def test_one_slice_is_itself() -> None:
    image = seeded(2, 4, 3, 3)
    assert torch.equal(stack_slices(image, 2, 1), image[:, 2])


@pytest.mark.parametrize("n_slices", [0, 2, -1])
def test_an_even_number_of_slices_is_refused(n_slices: int) -> None:
    with pytest.raises(ConfigError, match="odd"):
        slice_indices(0, 5, n_slices)


def test_a_volume_takes_no_neighbouring_slices() -> None:
    with pytest.raises(ConfigError, match="n_slices=1"):
        predict_case(
            seeded(1, 4, 4, 4),
            largest_channel,
            spatial_dims=3,
            n_slices=3,
            sliding_window=SlidingWindow(),
            window=(4, 4, 4),
        )


def test_an_image_without_a_depth_axis_is_refused() -> None:
    with pytest.raises(ShapeError, match="D=1"):
        predict_case(
            seeded(1, 4, 4), largest_channel, spatial_dims=2, n_slices=1, sliding_window=SlidingWindow(), window=(4, 4)
        )
