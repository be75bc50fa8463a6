"""Tanimoto: the hand case, its meaning for binary maps, empty maps and ignored pixels."""

import pytest
import torch

from seglab.metrics.tanimoto import tanimoto
from seglab.spec import IGNORE_INDEX


def maps(foreground: list[float]) -> torch.Tensor:
    probs = torch.tensor(foreground)
    return torch.stack([1 - probs, probs])[None]


def test_the_hand_case() -> None:
    mask = torch.tensor([[1, 1, 0, 0]])
    assert tanimoto(maps([0.9, 0.8, 0.2, 0.1]), mask, 1) == pytest.approx(0.944444, abs=1e-6)


def test_of_binary_maps_it_is_the_iou() -> None:
    assert tanimoto(maps([1.0, 1.0, 1.0, 0.0]), torch.tensor([[1, 0, 1, 1]]), 1) == pytest.approx(2 / 4)


def test_empty_and_empty_is_one_and_a_missed_object_zero() -> None:
    assert tanimoto(maps([0.0, 0.0]), torch.tensor([[0, 0]]), 1) == 1.0
    assert tanimoto(maps([0.0, 0.0]), torch.tensor([[0, 1]]), 1) == 0.0


def test_ignored_pixels_change_nothing() -> None:
    mask = torch.tensor([[1, 1, 0, 0, IGNORE_INDEX]])
    assert tanimoto(maps([0.9, 0.8, 0.2, 0.1, 0.7]), mask, 1) == pytest.approx(0.944444, abs=1e-6)
