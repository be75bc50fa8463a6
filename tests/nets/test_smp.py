"""Networks of segmentation_models_pytorch behind one class."""

import time

import pytest
import torch

from seglab.errors import ConfigError, ShapeError
from seglab.nets.smp import SMP

ARCHS = {  # architecture: (encoder, multiple, smallest)
    "Unet": ("resnet18", 32, 32),
    "UnetPlusPlus": ("resnet18", 32, 32),
    "MAnet": ("resnet18", 32, 32),
    "Linknet": ("resnet18", 32, 32),
    "FPN": ("resnet18", 32, 32),
    "UPerNet": ("resnet18", 32, 32),
    "PSPNet": ("resnet18", 8, 8),
    "DeepLabV3": ("resnet18", 8, 8),
    "DeepLabV3Plus": ("resnet18", 16, 16),
    "PAN": ("resnet18", 16, 128),
    "Segformer": ("mit_b0", 32, 32),
    "DPT": ("tu-vit_tiny_patch16_224", 32, 32),
}


@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_takes_its_smallest_size_and_multiples(arch: str) -> None:
    encoder, multiple, smallest = ARCHS[arch]
    net = SMP(in_channels=1, num_classes=2, arch=arch, encoder=encoder).eval()
    assert net.size_multiple == multiple
    assert net.input_size_for((1, smallest + 1)) == (smallest, smallest + multiple)
    with torch.no_grad():
        assert net(torch.rand(1, 1, smallest, smallest + multiple)).shape == (1, 2, smallest, smallest + multiple)
    with pytest.raises(ShapeError, match=f"pad to {smallest}x{smallest + multiple}"):
        net(torch.rand(1, 1, smallest - 1, smallest + 1))


def test_all_architectures_of_the_library_are_in_this_table() -> None:
    with pytest.raises(ConfigError) as caught:
        SMP(in_channels=1, num_classes=2, arch="Unett")
    assert sorted(caught.value.allowed.split(", ")) == sorted(ARCHS)


def test_a_timm_encoder_is_named_with_its_prefix() -> None:
    with torch.device("meta"):
        net = SMP(in_channels=3, num_classes=1, encoder="tu-resnet18")
    assert net.size_multiple == 32


@pytest.mark.parametrize(("encoder", "weights"), [("dpn131", "imagenet"), ("tu-regnety_008", "pycls_in1k")])
def test_weights_out_of_reach_are_told_at_once(encoder: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(ConfigError, match="could not be fetched") as caught:
        SMP(in_channels=3, num_classes=2, encoder=encoder, weights=weights)
    assert time.monotonic() - start < 5
    assert f"weights={weights}" in caught.value.given and f"encoder={encoder}" in caught.value.given
    assert "model.weights=null" in caught.value.fix


def test_a_vision_transformer_whose_patches_do_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="patches of 14 px do not divide 32"), torch.device("meta"):
        SMP(in_channels=1, num_classes=2, arch="DPT", encoder="tu-vit_small_patch14_dinov2")
