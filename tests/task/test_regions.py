"""RegionsTask: each region has a loss, a decoder and a share of the mask of its own."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from parts import gradients_of, make_batch, make_parts, make_spec, small_unet
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.losses.composite import CompositeLoss
from seglab.losses.region import RegionLoss
from seglab.nets.e1d3 import E1D3UNet
from seglab.spec import IGNORE_INDEX
from seglab.task.regions import RegionsTask, region_mask


def make_task(num_classes: int = 4, dims: int = 2) -> RegionsTask:
    torch.manual_seed(0)
    spec = make_spec(dims, num_classes=num_classes)
    net = E1D3UNet(in_channels=1, num_classes=num_classes, spatial_dims=dims, base_channels=2)
    return RegionsTask(make_parts(net, spec, CompositeLoss({"region": RegionLoss()}, {"region": 1.0}))).train()


def test_a_region_holds_all_classes_from_its_own_up() -> None:
    mask = torch.tensor([[0, 1, 2, 3, IGNORE_INDEX]])
    assert region_mask(mask, 1).tolist() == [[0, 1, 1, 1, IGNORE_INDEX]]
    assert region_mask(mask, 2).tolist() == [[0, 0, 1, 1, IGNORE_INDEX]]
    assert region_mask(mask, 3).tolist() == [[0, 0, 0, 1, IGNORE_INDEX]]


def test_hand_case() -> None:
    """Zero logits, four pixels of which one is inside: ln 2 - (0.6 + 1 / 3) / 2, in every region."""
    task = make_task()
    for decoder in task.net.decoders:
        nn.init.zeros_(decoder.head.weight)
        nn.init.zeros_(decoder.head.bias)
    batch = {"image": torch.rand(1, 1, 2, 2), "mask": torch.tensor([[[3, 0], [0, 0]]])}
    losses = task.training_losses(batch)
    assert math.log(2) - (0.6 + 1 / 3) / 2 == pytest.approx(0.226481, abs=1e-6)
    assert list(losses) == ["loss", "region_thing", "region_other", "region_core"]
    assert all(value.item() == pytest.approx(0.226481, abs=1e-6) for value in losses.values())


@pytest.mark.parametrize(("region", "index"), [("thing", 0), ("other", 1), ("core", 2)])
def test_the_loss_of_a_region_teaches_the_encoder_and_its_own_decoder_only(region: str, index: int) -> None:
    task = make_task()
    found = gradients_of(task.training_losses(make_batch(task.spec))[f"region_{region}"], task.net)
    taught = {".".join(name.split(".")[:2]) for name in found if name.startswith("decoders.")}
    assert taught == {f"decoders.{index}"}
    encoder = {name for name, _ in task.net.named_parameters() if name.startswith("encoder.")}
    assert encoder <= found.keys()
    assert all(gradient.any() for name, gradient in found.items() if name.endswith("conv.weight"))


@pytest.mark.parametrize("order", permutations(range(3)))
def test_swapped_decoders_swap_the_losses_of_regions_that_are_equal(order: tuple[int, ...]) -> None:
    task, batch = make_task(), make_batch(make_spec(num_classes=4))
    batch["mask"][batch["mask"] > 0] = 3  # inside every region
    with torch.no_grad():
        before = list(task.training_losses(batch).values())[1:]
        task.net.decoders = nn.ModuleList(task.net.decoders[place] for place in order)
        after = list(task.training_losses(batch).values())[1:]
    assert len({value.item() for value in before}) == 3
    torch.testing.assert_close(after, [before[place] for place in order])


@pytest.mark.parametrize("size", [(32, 32), (37, 20)])
def test_the_loss_of_the_validation_is_that_of_the_training(size: tuple[int, int]) -> None:
    task, batch = make_task(), make_batch(make_spec(num_classes=4), size)
    batch["mask"][:, :5] = IGNORE_INDEX
    with torch.no_grad():
        trained = task.training_losses(batch)
        logits, validated = task.eval().validation_losses(batch)
        assert torch.equal(logits, task(batch["image"])) and logits.shape == (2, 4, *size)
    torch.testing.assert_close(validated, trained)
    torch.testing.assert_close(trained["loss"], sum(list(trained.values())[1:]) / 3)


def test_ignored_pixels_change_no_loss() -> None:
    task, batch = make_task(), make_batch(make_spec(num_classes=4))
    batch["mask"][:, :9] = IGNORE_INDEX

    def changed(logits: Tensor) -> Tensor:
        changed = logits.clone()
        changed[:, :, :9] = 50.0
        return changed

    with torch.no_grad():
        regions = task.region_logits(batch["image"])
        first = task.region_losses(regions, batch["mask"])
        assert first == task.region_losses([changed(logits) for logits in regions], batch["mask"])


def test_labels_of_a_volume_are_the_nested_regions() -> None:
    task, image = make_task(num_classes=3, dims=3).eval(), torch.rand(1, 20, 31, 16)
    with torch.no_grad():
        thing, other = (logits.argmax(1)[0] for logits in task.region_logits(image[None]))
    assert torch.equal(task.predict_labels(image).long(), thing + thing * other)


def test_regions_that_overlap_in_part_are_refused() -> None:
    nested = replace(make_spec(num_classes=4), regions=((0,), (1, 2, 3), (2, 3), (3,)))
    net = E1D3UNet(in_channels=1, num_classes=4, spatial_dims=2, base_channels=2)
    RegionsTask(make_parts(net, nested))
    with pytest.raises(ConfigError, match=r"other: not all later classes[\s\S]*task=segmentation"):
        RegionsTask(make_parts(net, replace(nested, regions=((0,), (1, 2, 3), (2,), (3,)))))


def test_a_network_without_a_decoder_for_each_region_is_refused() -> None:
    with pytest.raises(ConfigError, match="set model=e1d3"):
        RegionsTask(make_parts(small_unet(make_spec()), make_spec()))
