"""Ensemble: the mean of probabilities, of members that know the image by another normalisation."""

import pytest
import torch

from seglab.errors import ConfigError
from seglab.nets.dcunet import DCUNet
from seglab.nets.ensemble import Ensemble
from seglab.nets.unet import UNet

KIND = {"in_channels": 2, "num_classes": 3, "spatial_dims": 2}
PLAIN = ((1.0, 1.0), (0.0, 0.0))


def members() -> list[UNet]:
    torch.manual_seed(0)
    return [UNet(**KIND, base_channels=2, n_poolings=n).eval() for n in (2, 4)]


@torch.no_grad()
def test_softmax_of_the_logits_is_the_mean_of_the_members_softmaxes() -> None:
    nets, image = members(), torch.rand(2, 2, 32, 48)
    ensemble = Ensemble(nets, scales=[PLAIN[0]] * 2, shifts=[PLAIN[1]] * 2).eval()
    mean = sum(net(image).softmax(dim=1) for net in nets) / 2
    torch.testing.assert_close(ensemble(image).softmax(dim=1), mean)


@torch.no_grad()
def test_each_member_sees_the_image_by_its_own_normalisation() -> None:
    (net, _), image = members(), torch.rand(1, 2, 32, 32)
    ensemble = Ensemble([net], scales=[(2.0, 0.5)], shifts=[(-1.0, 3.0)]).eval()
    seen = torch.stack([image[:, 0] * 2 - 1, image[:, 1] * 0.5 + 3], dim=1)
    torch.testing.assert_close(ensemble(image).softmax(dim=1), net(seen).softmax(dim=1))


def test_the_size_is_one_that_all_members_take() -> None:
    nets = members()
    assert Ensemble(nets, scales=[PLAIN[0]] * 2, shifts=[PLAIN[1]] * 2).input_size_for((20, 33)) == (32, 48)


@pytest.mark.parametrize("others", [[], [UNet(**{**KIND, "num_classes": 2}, base_channels=2), *members()]])
def test_networks_that_do_not_fit_together_are_refused(others: list[UNet]) -> None:
    with pytest.raises(ConfigError, match="cannot label together"):
        Ensemble(others, scales=[PLAIN[0]] * len(others), shifts=[PLAIN[1]] * len(others))


def test_networks_of_other_kinds_can_be_members() -> None:
    nets = [*members(), DCUNet(**KIND, base_channels=4).eval()]
    ensemble = Ensemble(nets, scales=[PLAIN[0]] * 3, shifts=[PLAIN[1]] * 3).eval()
    with torch.no_grad():
        assert ensemble(torch.rand(1, 2, 32, 32)).shape == (1, 3, 32, 32)
