"""Folding batch norm: which pairs are folded, and that every network of the zoo gives the same logits afterwards."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seglab.inference.folding import fold_batch_norm

sys.path.append(str(Path(__file__).parents[1] / "nets"))
from table import TABLE, build, images

NOT_FOLDED = {  # how many batch norms do not follow one convolution directly: after a sum, on joined features
    "dcunet-2d": 37,
    "dcunet-3d": 37,
    "multiresunet-2d": 28,
    "multiresunet-3d": 28,
    "r2unet-per-step-2d": 54,  # one convolution, a norm for each step
}
FAST = ("unet-batch-2d", "dcunet-2d", "sdunet-3d-batch", "bsunet-3d", "r2unet-per-step-2d", "unet-instance-3d")
rows = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in TABLE]


def trained(net: nn.Module) -> nn.Module:
    """With statistics and scales as a training might leave them."""
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            if module.affine:
                with torch.no_grad():
                    module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                    module.bias.copy_(torch.randn(module.num_features, generator=generator))
    return net.eval()


def n_norms(net: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in net.modules())


@pytest.mark.parametrize("name", rows)
def test_folded_networks_give_the_same_logits(name: str) -> None:
    net = trained(build(name, num_classes=3)).double()
    image = images(name).double()
    keys = list(net.state_dict())
    folded, n_folded = fold_batch_norm(net, image[:1])
    with torch.no_grad():
        wanted, given = net(image), folded(image)
    assert (given - wanted).abs().max() <= 1e-9 * wanted.abs().max()
    assert n_folded == n_norms(net) - NOT_FOLDED.get(name, 0)
    assert n_norms(folded) == NOT_FOLDED.get(name, 0) and list(net.state_dict()) == keys


class Forked(nn.Module):
    """The output of the convolution goes to the norm and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image)
        return self.norm(features) + features


class Changed(nn.Module):
    """The output of the convolution is changed in place before the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image)
        torch.relu_(features)
        return self.norm(features)


@pytest.mark.parametrize("net", [Forked(), Changed()], ids=["forked", "changed"])
def test_a_convolution_that_others_see_is_left_alone(net: nn.Module) -> None:
    image = torch.randn(1, 1, 8, 8)
    assert fold_batch_norm(trained(net), image) == (net, 0)


def test_transposed_and_grouped_convolutions_are_folded_where_the_rule_holds() -> None:
    net = trained(
        nn.Sequential(
            nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 3, groups=3),
            nn.BatchNorm2d(6, affine=False),
            nn.ConvTranspose2d(6, 4, 2, groups=2),
            nn.BatchNorm2d(4),
        )
    ).double()
    image = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    folded, n_folded = fold_batch_norm(net, image)
    assert n_folded == 2 and n_norms(folded) == 1
    assert torch.allclose(folded(image), net(image), rtol=1e-10)
