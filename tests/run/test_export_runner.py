"""The script of a bundle, without onnxruntime: its windows, intensities and postprocessing are those of prediction."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seglab.data.intensity import normalise
from seglab.inference.backend_onnx import SizeRule
from seglab.inference.cases import CasePredictor
from seglab.inference.network import WindowNetwork
from seglab.inference.postprocess import Postprocess, Steps, label_case
from seglab.inference.windows import SlidingWindow
from seglab.nets.unet import UNet
from seglab.run.exports import export_runner
from seglab.spec import Intensity

CASES = {
    "photo": {"image": (3, 1, 57, 75), "window": (32, 32)},
    "photo-in-one-window": {"image": (3, 1, 21, 30), "window": (64, 64)},
    "photo-in-context": {"image": (3, 1, 57, 75), "window": (32, 32), "padding": "valid"},
    "slices": {"image": (1, 4, 41, 30), "window": (24, 24), "n_slices": 3, "overlap": 0.3},
    "volume": {"image": (1, 21, 24, 21), "window": (8, 16, 16), "dims": 3},
    "volume-flat": {"image": (2, 9, 17, 30), "window": (8, 16, 16), "dims": 3, "blending": "flat"},
    "thin-volume": {"image": (1, 3, 20, 20), "window": (8, 16, 16), "dims": 3},
}
INTENSITY = Intensity(mean=(10.0,), std=(60.0,), low=-100.0, high=120.0)


def network(case: dict[str, Any], *, num_classes: int) -> UNet:
    torch.manual_seed(1)
    dims, n_slices = case.get("dims", 2), case.get("n_slices", 1)
    net = UNet(
        in_channels=case["image"][0] * n_slices,
        num_classes=num_classes,
        spatial_dims=dims,
        base_channels=2,
        n_poolings=2,
        padding=case.get("padding", "same"),
        norm=None,
    ).eval()
    with torch.no_grad():  # all classes are found
        logits = net(torch.randn(1, net.in_channels, *net.input_size_for([8] * dims)))
        net.head.bias -= logits.mean(dim=(0, *range(2, 2 + dims)))
    return net


def settings_of(case: dict[str, Any], net: UNet, post: Postprocess | None = None) -> dict[str, Any]:
    """What bundle.json says of it."""
    dims, channels = case.get("dims", 2), case["image"][0]
    intensity = {**asdict(INTENSITY), "mean": INTENSITY.mean * channels, "std": INTENSITY.std * channels}
    tiling = {
        "window": case["window"],
        "overlap": case.get("overlap", 0.5),
        "blending": case.get("blending", "gaussian"),
    }
    return {
        "kind": "photo" if case["image"][1] == 1 else "volume",
        "spatial_dims": dims,
        "n_slices": case.get("n_slices", 1),
        "in_channels": net.in_channels,
        "class_names": ["background", *"abc"[: net.num_classes - 1]],
        "intensity": intensity,
        "spacing": [3.0, 0.5, 2.0],
        "tiling": tiling,
        "sizes": asdict(SizeRule.of(net.input_size_for, dims)),
        "postprocess": None if post is None else post.to_dict(),
    }


def predictor(case: dict[str, Any], net: UNet) -> CasePredictor:
    windows = SlidingWindow(overlap=case.get("overlap", 0.5), blending=case.get("blending", "gaussian"))
    seen = WindowNetwork(net, input_size=net.input_size_for)
    return CasePredictor(seen, case.get("dims", 2), case.get("n_slices", 1), windows, case["window"])


def computing(net: UNet) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def compute(image: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(np.ascontiguousarray(image))).numpy()

    return compute


def stored(case: dict[str, Any]) -> np.ndarray:
    return np.random.default_rng(0).integers(-300, 300, case["image"]).astype(np.int16)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threshold", [None, 0.45])
def test_the_script_gives_the_labels_of_prediction(name: str, threshold: float | None) -> None:
    case = CASES[name]
    net = network(case, num_classes=3 if threshold is None else 2)
    image, settings = stored(case), settings_of(case, net, Postprocess(threshold))
    given = export_runner.label(image, settings, computing(net))
    intensity = Intensity(**settings["intensity"])
    wanted = label_case(predictor(case, net), normalise(image, intensity), Postprocess(threshold)).numpy()
    assert given.dtype == np.uint8 and given.shape == wanted.shape == image.shape[1:]
    assert len(np.unique(wanted)) > 1, "one class proves little"
    assert (given == wanted).mean() >= 0.9999


def test_the_intensity_window_is_that_of_the_training() -> None:
    image = stored(CASES["slices"])
    given = export_runner.normalise(image, asdict(INTENSITY))
    assert np.allclose(given, normalise(image, INTENSITY).numpy(), atol=1e-6)
    assert given.min() == pytest.approx((-100 - 10) / 60) and given.max() == pytest.approx((120 - 10) / 60)


@pytest.mark.parametrize("shape", [(1, 40, 50), (9, 30, 30)], ids=["photo", "volume"])
@pytest.mark.parametrize(
    "steps", [Steps(fill_holes=True), Steps(min_size=12.0), Steps(fill_holes=True, min_size=6.0, largest=True)]
)
def test_postprocessing_is_that_of_prediction(shape: tuple[int, ...], steps: Steps) -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(shape) < 0.5).astype(np.uint8) + (rng.random(shape) < 0.2).astype(np.uint8)
    post = Postprocess(None, {1: steps, 2: Steps(largest=True)})
    given = export_runner.postprocess(labels, {"postprocess": post.to_dict()}, 3.0)
    wanted = post(labels, 3.0)
    assert np.array_equal(given, wanted) and not np.array_equal(given, labels)


def test_a_file_with_other_channels_is_refused_by_name(tmp_path: Path) -> None:
    case = CASES["photo"]
    settings = settings_of(case, network(case, num_classes=2))
    np.save(tmp_path / "four.npy", np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(SystemExit, match=r"four\.npy.*3 channel"):
        export_runner.read(tmp_path / "four.npy", settings)
