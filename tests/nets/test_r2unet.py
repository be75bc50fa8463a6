"""R2U-Net and R2AttU-Net: counts of the widely used form, and what recurrent steps and gates do."""

import pytest
import torch
from torch import nn

from seglab.nets.blocks import AttentionGate
from seglab.nets.r2unet import R2Block, R2UNet, RecurrentUnit


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("in_channels", "attention", "count"), [(3, False, 39_091_393), (1, False, 39_091_265), (3, True, 39_442_925)]
)
def test_count_is_that_of_the_widely_used_form(in_channels: int, attention: bool, count: int) -> None:
    with torch.device("meta"):
        assert n_parameters(R2UNet(in_channels=in_channels, num_classes=1, attention=attention)) == count


def test_steps_cost_no_parameters() -> None:
    with torch.device("meta"):
        counts = {n_parameters(R2UNet(in_channels=3, num_classes=1, n_steps=n_steps)) for n_steps in (0, 1, 2, 3)}
    assert counts == {39_091_393}


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_one_convolution_and_one_norm_serve_all_steps(n_steps: int) -> None:
    unit = RecurrentUnit(2, 4, n_steps=n_steps).train()
    assert [type(module) for module in unit.step] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert len(list(unit.parameters())) == 4
    unit(torch.rand(2, 4, 8, 8))
    assert unit.step.norm.num_batches_tracked == n_steps + 1


@pytest.mark.parametrize(("per_step", "is_close"), [(True, True), (False, False)])
def test_statistics_of_each_step_make_eval_equal_training(per_step: bool, is_close: bool) -> None:
    torch.manual_seed(0)
    unit, x = RecurrentUnit(2, 4, n_steps=2, per_step=per_step).train(), torch.rand(2, 4, 32, 32)
    for norm in (unit.step.norm, *unit.later_norms):
        norm.momentum = 1.0  # the running statistics are those of the last pass
    with torch.no_grad():
        assert torch.allclose(unit(x), unit.eval()(x), atol=0.01) is is_close


def test_statistics_per_step_cost_no_parameters_and_change_no_training() -> None:
    torch.manual_seed(0)
    shared = RecurrentUnit(2, 4, n_steps=2)
    apart, x = RecurrentUnit(2, 4, n_steps=2, per_step=True), torch.rand(2, 4, 8, 8)
    apart.load_state_dict(shared.state_dict(), strict=False)
    assert n_parameters(shared) == n_parameters(apart)
    assert torch.equal(shared(x), apart(x))
    assert [norm.num_batches_tracked for norm in (apart.step.norm, *apart.later_norms)] == [1, 1, 1]
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(apart)
    assert all(norm.weight is synced.step.norm.weight for norm in synced.later_norms)


def make_identity(layer: nn.Module) -> None:
    """A convolution or an evaluated batch norm that hands its input on."""
    if isinstance(layer, nn.Conv2d):
        nn.init.dirac_(layer.weight)
    else:
        nn.init.constant_(layer.weight, (1 + layer.eps) ** 0.5)
    nn.init.zeros_(layer.bias)


@pytest.mark.parametrize("n_steps", [0, 1, 2, 3])
def test_each_step_adds_the_input_to_the_last_output(n_steps: int) -> None:
    unit, x = RecurrentUnit(2, 4, n_steps=n_steps).eval(), torch.rand(1, 4, 8, 8)
    for layer in (unit.step.conv, unit.step.norm):
        make_identity(layer)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), (n_steps + 1) * x)


def test_a_block_adds_both_units_to_its_projected_input() -> None:
    block, x = R2Block(2, 4, 4, n_steps=2).eval(), torch.rand(1, 4, 8, 8)
    make_identity(block.project)
    for unit in block.units:
        for layer in (unit.step.conv, unit.step.norm):
            make_identity(layer)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + 3 * 3 * x)
        nn.init.zeros_(block.units[1].step.norm.weight)
        torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("n_steps", "field"), [(0, 3), (1, 5), (2, 7)])
def test_each_step_widens_the_field_by_two_pixels(n_steps: int, field: int) -> None:
    unit = RecurrentUnit(2, 1, n_steps=n_steps).eval()
    nn.init.ones_(unit.step.conv.weight)
    nn.init.zeros_(unit.step.conv.bias)
    image = torch.ones(1, 1, 15, 15, requires_grad=True)
    unit(image)[0, 0, 7, 7].backward()
    rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max()) == (7 - field // 2, 7 + field // 2)
    assert (columns.min(), columns.max()) == (7 - field // 2, 7 + field // 2)


def test_gates_stand_on_all_levels_with_half_the_channels_inside() -> None:
    with torch.device("meta"):
        net = R2UNet(in_channels=1, num_classes=1, attention=True)
    assert [level.gate.score[0].in_channels for level in net.decoder] == [256, 128, 64, 32]


def test_open_gates_give_the_ungated_twin() -> None:
    torch.manual_seed(0)
    gated = R2UNet(in_channels=1, num_classes=3, base_channels=4, attention=True).eval()
    twin = R2UNet(in_channels=1, num_classes=3, base_channels=4).eval()
    missing, _ = twin.load_state_dict(gated.state_dict(), strict=False)
    assert not missing
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(gated(image), twin(image), atol=1e-3)
        for gate in (module for module in gated.modules() if isinstance(module, AttentionGate)):
            nn.init.zeros_(gate.score[1].weight)
            nn.init.constant_(gate.score[1].bias, 100.0)
        torch.testing.assert_close(gated(image), twin(image), rtol=1e-4, atol=1e-5)
