"""PatchGAN: published count, patches of 70 pixels, 2-D and 3-D."""

import pytest
import torch
from torch import nn

from seglab.errors import ConfigError
from seglab.nets.patchgan import PatchDiscriminator


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def field(n_layers: int) -> int:
    """Pixels along an axis that one logit in the middle depends on; norms, which see all of the image, left out."""
    net = PatchDiscriminator(in_channels=1, base_channels=1, n_layers=n_layers).double()
    for name, module in list(net.layers.named_children()):
        if isinstance(module, nn.InstanceNorm2d):
            net.layers[int(name)] = nn.Identity()
    for parameter in net.parameters():
        parameter.data = torch.rand_like(parameter) + 0.5
    image = torch.ones(1, 1, 192, 192, dtype=torch.float64, requires_grad=True)
    logits = net(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = (image.grad[0, 0].nonzero()[:, axis] for axis in (0, 1))
    extents = {int(places.max() - places.min()) + 1 for places in (rows, columns)}
    assert len(extents) == 1 and rows.min() > 0 and rows.max() < 191
    return extents.pop()


@pytest.mark.parametrize(("n_layers", "width"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_patch_is_as_wide_as_published(n_layers: int, width: int) -> None:
    assert field(n_layers) == width


def test_the_paper_s_discriminator_has_the_published_count_and_map() -> None:
    with torch.device("meta"):
        net = PatchDiscriminator(in_channels=6)
        assert net(torch.empty(1, 6, 256, 256)).shape == (1, 1, 30, 30)
    biases_before_a_norm = 128 + 256 + 512  # the published network has none
    assert n_parameters(net) - biases_before_a_norm == 2_768_705


def test_channels_double_up_to_eightfold() -> None:
    with torch.device("meta"):
        net = PatchDiscriminator(in_channels=3, base_channels=2, n_layers=5)
    convs = [module for module in net.layers if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [2, 4, 8, 16, 16, 16, 1]
    assert [conv.stride[0] for conv in convs] == [2, 2, 2, 2, 2, 1, 1]
    assert {conv.kernel_size for conv in convs} == {(4, 4)}
    assert {act.negative_slope for act in net.layers if isinstance(act, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("dims", [2, 3])
def test_every_parameter_learns_in_two_and_three_dimensions(dims: int) -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator(in_channels=2, spatial_dims=dims, base_channels=2, n_layers=2)
    logits = net(torch.rand(2, 2, *(16, 24, 32)[:dims]))
    assert logits.shape == (2, 1, *(2, 4, 6)[:dims])
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    assert all(p.grad.any() for name, p in net.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize(("argument", "value"), [("base_channels", 0), ("n_layers", 0)])
def test_ill_arguments_are_refused(argument: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{argument}={value}"):
        PatchDiscriminator(in_channels=1, **{argument: value})
