"""Shared parts of the networks."""

import math

import pytest
import torch
from torch import nn

from seglab.errors import ConfigError
from seglab.nets.blocks import ConvNormAct, DoubleConv, check_choice, check_range, init_he, make_norm


def test_valid_padding_cuts_two_pixels_per_convolution() -> None:
    image = torch.rand(1, 1, 9, 10)
    assert ConvNormAct(2, 1, 3, padding="valid")(image).shape == (1, 3, 7, 8)
    assert DoubleConv(2, 1, 3, padding="valid")(image).shape == (1, 3, 5, 6)
    assert DoubleConv(2, 1, 3)(image).shape == (1, 3, 9, 10)


@pytest.mark.parametrize(("channels", "n_groups"), [(16, 8), (12, 4), (7, 1)])
def test_group_norm_takes_eight_groups_or_fewer_where_eight_does_not_divide(channels: int, n_groups: int) -> None:
    norm = make_norm("group", 2, channels)
    assert isinstance(norm, nn.GroupNorm) and norm.num_groups == n_groups


def test_he_initialisation_counts_the_inputs_of_one_output() -> None:
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Conv2d(32, 64, 3), nn.ConvTranspose2d(64, 32, 2, stride=2), nn.Conv3d(32, 64, 1)])
    init_he(net)
    for module, n_inputs in zip(net, (32 * 9, 64, 32), strict=True):
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / n_inputs), rel=0.05)
        assert module.bias.abs().max() == 0


def test_a_wrong_word_names_the_nearest_and_null() -> None:
    with pytest.raises(ConfigError) as caught:
        check_choice("Net", "norm", "bacth", (None, "batch", "instance"))
    assert caught.value.allowed == "null, batch, instance" and caught.value.fix == "set model.norm=batch"
    check_choice("Net", "norm", None, (None, "batch"))


def test_a_range_includes_its_lower_end_only() -> None:
    check_range("Net", "dropout", 0.0, at_least=0.0, below=1.0)
    for given in (-0.1, 1.0, math.nan):
        with pytest.raises(ConfigError, match="dropout"):
            check_range("Net", "dropout", given, at_least=0.0, below=1.0)
