from pathlib import Path
from typing import Any

import pytest

from seglab.data.crack import CrackData
from seglab.nets.unet import UNet
from seglab.run.planning import GIB, fit_memory, step_bytes, with_depth

MIB = 2**20


@pytest.fixture(scope="module")
def net() -> UNet:
    return UNet(in_channels=3, num_classes=2, spatial_dims=2, base_channels=4, n_poolings=2)


def planned(root: Path, cache: Path, net: UNet, room: float, **node: Any) -> tuple[CrackData, dict[str, Any]]:
    given = {"patch_size": None, "batch_size": None, "plan": "auto", **node}
    data = CrackData(root=str(root), cache_dir=str(cache), num_workers=0, **given).load()
    return data, fit_memory({"data": given}, data, net, room)["data"]


def test_a_step_takes_memory_in_proportion_to_its_pixels(net: UNet) -> None:
    one, two, four = (step_bytes(net, (64, side), n) for side, n in ((64, 1), (64, 2), (128, 2)))
    weights = 16 * sum(parameter.numel() for parameter in net.parameters())
    assert two - weights == pytest.approx(2 * (one - weights), rel=0.01)
    assert four - weights == pytest.approx(4 * (one - weights), rel=0.01)
    image = 4 * 3 * 64 * 64
    assert 20 * image < one < 100 * image


def test_with_room_what_was_left_open_gets_its_default(net: UNet, crack_root: Path, cache_dir: Path) -> None:
    data, node = planned(crack_root, cache_dir, net, 10 * GIB)
    assert node["batch_size"] == data.n_per_batch == 8 and node["patch_size"] == list(data.spec.patch_size)


def test_without_room_the_batch_shrinks_then_the_patch(net: UNet, crack_root: Path, cache_dir: Path) -> None:
    whole, _ = planned(crack_root, cache_dir, net, 10 * GIB)
    patch = whole.spec.patch_size
    data, node = planned(crack_root, cache_dir, net, step_bytes(net, patch, 2))
    assert (node["batch_size"], data.spec.patch_size) == (2, patch)
    data, node = planned(crack_root, cache_dir, net, step_bytes(net, patch, 1) - 1)
    assert node["batch_size"] == 1 and sum(data.spec.patch_size) < sum(patch)
    assert next(iter(data.train_dataloader()))["image"].shape == (1, 3, *data.spec.patch_size)


def test_what_the_user_has_set_stays_and_is_warned_of(
    net: UNet, crack_root: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, node = planned(crack_root, cache_dir, net, MIB, batch_size=5, patch_size=[64, 48])
    assert node["batch_size"] == data.n_per_batch == 5 and data.spec.patch_size == (64, 48)
    assert "may not fit" in caplog.text


def test_without_a_plan_the_memory_is_left_out_of_account(net: UNet, crack_root: Path, cache_dir: Path) -> None:
    _, node = planned(crack_root, cache_dir, net, MIB, plan="none")
    assert node["batch_size"] == 8 and node["patch_size"] is None


def test_a_plan_stops_before_a_step_on_which_the_network_cannot_train(crack_root: Path, cache_dir: Path) -> None:
    deep = UNet(in_channels=3, num_classes=2, spatial_dims=2, base_channels=2, n_poolings=4, norm="batch")
    assert step_bytes(deep, (16, 16), 1) is None, "batch norm has one pixel at the lowest level"
    data, node = planned(crack_root, cache_dir, deep, 1)
    assert (node["batch_size"], node["patch_size"]) == (1, [16, 48]) == (data.n_per_batch, list(data.spec.patch_size))
    data, node = planned(crack_root, cache_dir, deep, 1, patch_size=[16, 16])
    assert node["batch_size"] == data.n_per_batch == 2
    _, node = planned(crack_root, cache_dir, deep, 1, patch_size=[16, 16], batch_size=1)
    assert (node["batch_size"], node["patch_size"]) == (1, [16, 16]), "which the checks before a training refuse"


def test_only_an_open_depth_is_filled_in() -> None:
    assert with_depth({"model": {"n_poolings": 3}}, (16, 16)) == {"model": {"n_poolings": 3}}
    assert with_depth({"model": {}}, (16, 16)) == {"model": {}}
    assert with_depth({"model": {"n_poolings": None}}, (32, 64)) == {"model": {"n_poolings": 3}}
