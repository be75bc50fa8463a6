"""What a network cannot do, or not with this patch, is refused before the training; automatic choices avoid it."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import pytest
from omegaconf import OmegaConf
from run_jobs import SMALL, composed
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.nets.unet import UNet
from seglab.run.build import build
from seglab.run.engine import Engine, computes_in_bf16
from seglab.run.fit import fit
from seglab.run.preflight import check_patch, check_supported, sound_precision

PLAIN = {"accelerator": "cpu", "precision": "32-true", "channels_last": False}


class Limited(SegmentationNet):
    """A network with limits."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "compile": "its lists change their length",
        "bf16": "its sums overflow",
        "channels_last": "its kernels are flat",
    }

    def __init__(self) -> None:
        super().__init__(in_channels=1, num_classes=2, spatial_dims=2)
        self.conv = nn.Conv2d(1, 2, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image)


class Wrapping(SegmentationNet):
    """Has such a network inside."""

    def __init__(self) -> None:
        super().__init__(in_channels=1, num_classes=2, spatial_dims=2)
        self.inner = Limited()


@pytest.mark.parametrize(
    ("settings", "fix", "reason"),
    [
        ({"compile": True}, "set trainer.compile=false", "its lists change their length"),
        ({"precision": "bf16-mixed"}, "set trainer.precision=auto", "its sums overflow"),
        ({"channels_last": True}, "set trainer.channels_last=false", "its kernels are flat"),
    ],
)
@pytest.mark.parametrize("cls", [Limited, Wrapping])
def test_a_setting_that_the_network_does_not_support_is_refused(
    cls: type[SegmentationNet], settings: dict[str, object], fix: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_supported(Engine(**{**PLAIN, **settings}), cls())  # type: ignore[arg-type]
    assert caught.value.fix == fix and f"Limited: {reason}" in caught.value.given
    assert cls.__name__ in caught.value.what and caught.value.allowed


def test_other_networks_and_other_settings_pass() -> None:
    unet = UNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=1)
    for net, engine in [(Limited(), Engine(**PLAIN)), (unet, Engine(compile=True, precision="bf16-mixed"))]:
        assert check_supported(engine, net) == engine


def test_automatic_precision_leaves_bfloat16_to_networks_that_support_it() -> None:
    engine = check_supported(Engine(accelerator="cpu", channels_last=False), Limited())
    assert engine.resolved_precision == "32-true"
    unet = UNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=1)
    auto = check_supported(Engine(accelerator="cpu"), unet)
    assert auto.resolved_precision == ("bf16-mixed" if computes_in_bf16(gpu=False) else "32-true")


def test_a_run_asks_its_network(
    crack_root: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UNet, "unsupported", {"compile": "its lists change their length"})
    overrides = [*SMALL, f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", "trainer.compile=true"]
    with pytest.raises(ConfigError, match="UNet: its lists change their length"):
        fit(composed("train", overrides, tmp_path))
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("model", "depth", "is_thin"),
    [("unet", 16, True), ("unet", 48, False), ("vnet", 48, True), ("vnet", 80, False)],
)
def test_a_level_with_fewer_slices_than_a_kernel_has_no_bfloat16_on_a_cpu(
    ct_root: Path, cache_dir: Path, tmp_path: Path, model: str, depth: int, is_thin: bool
) -> None:
    data = ["data=lits", "data.dims=3", f"data.root={ct_root}", f"paths.cache_dir={cache_dir}"]
    size = [f"data.patch_size=[{depth},32,32]", f"model={model}", "model.base_channels=2"]
    overrides = [*SMALL, *data, *size, "trainer.precision=bf16-mixed"]
    config = OmegaConf.to_container(composed("train", overrides, tmp_path), resolve=True)
    with pytest.raises(ConfigError, match="fewer slices") if is_thin else nullcontext():
        assert build(config, tmp_path).trainer.precision == "bf16-mixed"  # type: ignore[arg-type]


def test_the_precision_of_a_thin_level_is_left_only_on_cpus_and_refused_only_by_name() -> None:
    half = Engine(accelerator="cpu", precision="bf16-mixed")
    assert sound_precision(half, has_thin_level=False) == half
    assert sound_precision(Engine(accelerator="gpu", precision="bf16-mixed"), has_thin_level=True).uses_gpu
    auto = sound_precision(Engine(accelerator="cpu", precision="auto"), has_thin_level=True)
    assert auto.resolved_precision == "32-true"
    with pytest.raises(ConfigError, match=r"trainer\.precision=auto"):
        sound_precision(half, has_thin_level=True)


@pytest.mark.parametrize(("model", "has_some"), [("bottleneck_head_unet", True), ("unet", False)])
def test_ddp_looks_for_parameters_that_a_step_leaves_aside_only_where_there_are_some(
    crack_root: Path, cache_dir: Path, tmp_path: Path, model: str, has_some: bool
) -> None:
    size = ["data.patch_size=[64,64]", f"model={model}", "model.base_channels=2", "trainer.devices=2"]
    overrides = [*SMALL, f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", *size]
    config = OmegaConf.to_container(composed("train", overrides, tmp_path), resolve=True)
    run = build(config, tmp_path)  # type: ignore[arg-type]
    assert check_patch(run.task, 2).leaves_unused == has_some
    assert run.trainer.strategy._ddp_kwargs["find_unused_parameters"] == has_some
