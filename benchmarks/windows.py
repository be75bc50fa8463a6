"""Sliding windows beside MONAI's and nnU-Net's: time over the network alone, peak memory, equal labels.

python benchmarks/windows.py --rounds 3

Every way labels the same random image with the same network, one 1x1 convolution, which costs so little that the rest
can be seen; each in a process of its own on one thread, in turn A B C A B C. One case has logits whose classes lie last
in memory, as a network in that layout gives them. What the network takes is measured within the same pass. Memory is
the growth of the resident set over that before the prediction, input and network excluded.
With nnunetv2 installed beside seglab[monai] (pip install nnunetv2) its predictor takes part; else it is left out.

Goals: overhead over the network at most 1/4 of MONAI's, peak growth at most 1/3 of MONAI's at 3 classes and at most
1.2 times as much when the volume is twice as long, labels equal to MONAI's for 99.99 % of the voxels.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from runs import finish  # noqa: E402

CASES = {
    "3-D": {"spatial": (200, 512, 512), "window": (64, 128, 128), "channels": 1, "classes": 3},
    "3-D, channels last": {
        "spatial": (200, 512, 512),
        "window": (64, 128, 128),
        "channels": 1,
        "classes": 3,
        "layout": torch.channels_last_3d,
    },
    "3-D, twice as long": {"spatial": (400, 512, 512), "window": (64, 128, 128), "channels": 1, "classes": 3},
    "2-D": {"spatial": (4096, 4096), "window": (512, 512), "channels": 3, "classes": 6},
}
WAYS = ("seglab", "monai", "nnunet")


def main() -> None:
    """Run all ways in turn, print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "CASE", "LABELS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], given.one[1], Path(given.one[2]))))
        return
    has_nnunet = importlib.util.find_spec("nnunetv2") is not None
    ways = [way for way in WAYS if way != "nnunet" or has_nnunet]
    print("nnU-Net takes part" if has_nnunet else "nnunetv2 is not installed: nnU-Net is left out")
    with tempfile.TemporaryDirectory() as folder:
        found = {case: in_turn(case, ways, given.rounds, Path(folder)) for case in CASES}
    print("| case | way | overhead | peak growth, MB | labels equal to MONAI's |\n|---|---|---|---|---|")
    for case, by_way in found.items():
        for way, result in by_way.items():
            print(f"| {case} | {way} | {result['overhead']:.2f} | {result['peak_mb']:.0f} | {result['equal']:.6f} |")
    finish(figures(found))


def figures(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, tuple[float, str, bool]]:
    """The figures and whether each meets its goal."""
    rows: dict[str, tuple[float, str, bool]] = {}
    for case, by_way in found.items():
        ours, theirs = by_way["seglab"], by_way["monai"]
        overhead = ours["overhead"] / theirs["overhead"]
        memory = ours["peak_mb"] / theirs["peak_mb"]
        rows[f"overhead / MONAI's, {case}"] = (round(overhead, 3), "<= 0.25", overhead <= 0.25)
        rows[f"peak growth / MONAI's, {case}"] = (round(memory, 3), "<= 0.333", memory <= 1 / 3)
        rows[f"labels equal, {case}"] = (round(ours["equal"], 6), ">= 0.9999", ours["equal"] >= 0.9999)
    longer = found["3-D, twice as long"]["seglab"]["peak_mb"] / found["3-D"]["seglab"]["peak_mb"]
    rows["peak growth, volume twice as long / once"] = (round(longer, 3), "<= 1.2", longer <= 1.2)
    return rows


def in_turn(case: str, ways: list[str], n_rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """Medians of each way, and the share of voxels with MONAI's label."""
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(n_rounds):
        for way in ways:
            command = [sys.executable, __file__, "--one", way, case, str(folder / way)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            results[way].append(json.loads(done.stdout.splitlines()[-1]))
    labels = {way: np.fromfile(folder / way, np.uint8) for way in ways}
    return {
        way: {
            "overhead": median(row["seconds"] / row["network_seconds"] - 1 for row in rows),
            "peak_mb": median(row["peak_mb"] for row in rows),
            "equal": float((labels[way] == labels["monai"]).mean()),
        }
        for way, rows in results.items()
    }


def measure(way: str, case: str, labels: Path) -> dict[str, float]:
    """One pass of one way over one case; writes its labels."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    facts: dict[str, Any] = CASES[case]
    spatial: Any = facts["spatial"]
    net = (nn.Conv3d if len(spatial) == 3 else nn.Conv2d)(facts["channels"], facts["classes"], 1).requires_grad_(False)
    image = torch.randn(facts["channels"], *spatial)
    network = Timed(net, facts.get("layout", torch.contiguous_format))
    label: dict[str, Callable[..., None]] = {"seglab": by_seglab, "monai": by_monai, "nnunet": by_nnunet}
    run = prepared(label[way], network, facts)
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = time.thread_time()
    run(image, labels)
    seconds = time.thread_time() - start
    return {"seconds": seconds, "network_seconds": network.seconds, "peak_mb": resident_mb("VmHWM") - before}


def prepared(way: Callable[..., None], network: "Timed", facts: dict[str, Any]) -> Callable[..., None]:
    """A way that has run once on a small image, so that what it imports and caches is there."""
    small = torch.zeros(facts["channels"], *facts["window"])
    with tempfile.TemporaryDirectory() as folder:
        way(network, facts, small, Path(folder) / "small")
    network.seconds = 0.0
    return lambda image, labels: way(network, facts, image, labels)


class Timed(nn.Module):
    """A network that knows how long it took."""

    def __init__(self, net: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self.net, self.layout, self.seconds = net, layout, 0.0

    def forward(self, batch: Tensor) -> Tensor:
        """The network's logits."""
        start = time.thread_time()
        logits: Tensor = self.net(batch).contiguous(memory_format=self.layout)
        self.seconds += time.thread_time() - start
        return logits


def by_seglab(network: Timed, facts: dict[str, Any], image: Tensor, labels: Path) -> None:
    """Labels go to the file as their planes are finished."""
    from seglab.inference.labels import labels_from_logits
    from seglab.inference.windows import SlidingWindow, TensorRows

    with labels.open("wb") as stream:
        for slab in SlidingWindow().slabs(TensorRows(image), network, window=facts["window"], weighted=True):
            stream.write(labels_from_logits(slab[None])[0].numpy().tobytes())


def by_monai(network: Timed, facts: dict[str, Any], image: Tensor, labels: Path) -> None:
    """MONAI's function with the same overlap and batch, and its argmax."""
    from monai.inferers import sliding_window_inference

    logits = sliding_window_inference(image[None], facts["window"], 4, network, overlap=0.5, mode="gaussian")
    logits.argmax(dim=1).to(torch.uint8).numpy().tofile(labels)


def by_nnunet(network: Timed, facts: dict[str, Any], image: Tensor, labels: Path) -> None:
    """nnU-Net's predictor without mirroring, and its argmax."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=facts["window"])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=facts["classes"])
    is_flat = image.ndim == 3
    logits = predictor.predict_sliding_window_return_logits(image[:, None] if is_flat else image)
    logits.argmax(dim=0).to(torch.uint8).numpy().tofile(labels)


def resident_mb(name: str) -> float:
    """VmRSS, the memory that is resident now, or VmHWM, the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


if __name__ == "__main__":
    main()
