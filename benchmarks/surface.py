"""Surface metrics and the largest component beside MONAI, surface-distance and scipy.

pip install monai surface-distance
python benchmarks/surface.py

HD95, mean surface distance and surface Dice at 2 mm of two classes at 200x512x512, one thread. The ways take turns;
each measurement is a process of its own, which tells its CPU time and the growth of its peak memory; ours is what
evaluate does, from labels to scores. Masks lie off the border, where MONAI takes cut faces for surface.
surface-distance weighs surfaces by their area, so only its time is compared. The noisy prediction is that of an
untrained network: salt all over the volume. The last line is {name: {value, goal, ok}}.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

SHAPE = (200, 512, 512)
SPACING = (1.0, 0.8, 0.8)
TOLERANCE = 2.0
NAMES = ("background", "liver", "tumour")
CLASSES = (1, 2)
NOISE = 0.02
"""Share of voxels that the noisy prediction has at random."""

Labels = NDArray[np.uint8]


def main() -> None:
    """Measure in turns, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--noisy", type=float, default=NOISE, help="share of voxels; 0 leaves the noisy part out")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        measure(given.way, given.noisy)
        return
    ways = ["seglab", "monai", "surface-distance", "seglab-largest", "scipy-largest"]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way in ways:
            found[way].append(run(way, given.noisy))
    if given.noisy:
        for way in ("seglab-noisy", "surface-distance-noisy"):
            found[way] = [run(way, given.noisy)]
    for way, runs in found.items():
        seconds, peak = median(one["seconds"] for one in runs), median(one["peak_mb"] for one in runs)
        print(f"{way:24} {seconds:8.2f} s CPU  +{peak:6.0f} MB  {runs[0]['values']}")
    report(found)


def report(found: dict[str, list[dict[str, Any]]]) -> None:
    """The figures and their goals."""
    from runs import finish

    def ratio(peer: str, own: str, what: str = "seconds") -> float:
        return round(median(a[what] / b[what] for a, b in zip(found[peer], found[own], strict=True)), 2)

    pairs = zip(found["seglab"][0]["values"], found["monai"][0]["values"], strict=True)
    apart = max(abs(own - theirs) for own, theirs in pairs)
    unchanged = all(one["values"] == [1.0, 1.0] for one in found["seglab-largest"])  # same, and input as before
    figures = {
        "times_monai": (ratio("monai", "seglab"), ">= 8", ratio("monai", "seglab") >= 8),
        "times_surface_distance": (r := ratio("surface-distance", "seglab"), ">= 10", r >= 10),
        "memory_of_monai": (m := round(1 / ratio("monai", "seglab", "peak_mb"), 3), "<= 0.125", m <= 0.125),
        "memory_of_surface_distance": (
            m := round(1 / ratio("surface-distance", "seglab", "peak_mb"), 3),
            "<= 0.125",
            m <= 0.125,
        ),
        "apart_from_monai": (apart, "<= 0.001", apart <= 1e-3),
        "largest_times_scipy": (r := ratio("scipy-largest", "seglab-largest"), ">= 10", r >= 10),
        "largest_same_and_input_unchanged": (float(unchanged), "1", unchanged),
    }
    if "seglab-noisy" in found:
        r = ratio("surface-distance-noisy", "seglab-noisy")
        figures["noisy_times_surface_distance"] = (r, ">= 1", r >= 1)
    finish(figures)


def run(way: str, noisy: float) -> dict[str, Any]:
    """One measurement in a process of its own, on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--way", way, "--noisy", str(noisy)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **threads})
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure(way: str, noisy: float) -> None:
    """Print what one way takes and finds."""
    ways: dict[str, Callable[[Labels, Labels], Any]] = {
        "seglab": seglab,
        "monai": monai,
        "surface-distance": surface_distance,
        "seglab-largest": seglab_largest,
        "scipy-largest": scipy_largest,
    }
    pred, truth = case(noisy if way.endswith("-noisy") else 0.0)
    if way.endswith("-largest"):
        pred = with_strays(pred)
        truth = pred.copy()
    chosen = ways[way.removesuffix("-noisy")]
    small = np.zeros((6, 8, 8), np.uint8)
    small[1:3, 1:3, 1:3], small[3:5, 3:5, 3:5] = 1, 1 if way.endswith("-largest") else 2
    chosen(small, small)  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    values = chosen(pred, truth)
    seconds = time.process_time() - start
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 1) / 1024
    if way == "seglab-largest":
        values = [float(np.array_equal(values, scipy_largest(pred, truth))), float(np.array_equal(pred, truth))]
    elif way == "scipy-largest":
        values = []
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "values": values}))


def case(noise: float) -> tuple[Labels, Labels]:
    """A liver with a tumour and what a network might make of them; made slice by slice, so that no peak is left."""
    rng = np.random.default_rng(0)
    pred, truth = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    shapes = {
        1: (((100, 250, 200), (60, 110, 120)), ((102, 253, 204), (60, 108, 122))),
        2: (((95, 230, 190), (12, 20, 20)), ((96, 231, 193), (11, 21, 19))),
    }
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    for z in range(SHAPE[0]):
        for index, both in shapes.items():
            for labels, (centre, radii) in zip((truth, pred), both, strict=True):
                flat = ((y - centre[1]) / radii[1]) ** 2 + ((x - centre[2]) / radii[2]) ** 2
                labels[z][flat + ((z - centre[0]) / radii[0]) ** 2 < 1] = index
        if noise:
            salt = rng.random(SHAPE[1:]) < noise
            pred[z][salt] = rng.integers(1, 3, int(salt.sum()))
    return pred, truth


def with_strays(pred: Labels, n_strays: int = 50) -> Labels:
    """Foreground, 0 or 1, with small boxes of it all over the volume."""
    rng, mask = np.random.default_rng(1), (pred > 0).view(np.uint8)
    for place in rng.integers(0, np.array(SHAPE) - 8, (n_strays, len(SHAPE))):
        mask[
            tuple(slice(start, start + int(size)) for start, size in zip(place, rng.integers(2, 8, 3), strict=True))
        ] = 1
    return mask


def seglab(pred: Labels, truth: Labels) -> list[float]:
    """Ours, as a case is evaluated."""
    from seglab.metrics.families import CaseMetrics

    measures = CaseMetrics(("surface",), "volume", NAMES, has_background=True, tolerance=TOLERANCE)
    row = measures(pred, truth, SPACING)
    return [row[f"{metric}/{NAMES[index]}"] for index in CLASSES for metric in ("hd95", "assd", "nsd")]


def monai(pred: Labels, truth: Labels) -> list[float]:
    """MONAI's three functions."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    torch.set_num_threads(1)
    own, true = (torch.from_numpy(np.stack([labels == n for n in (0, *CLASSES)]))[None] for labels in (pred, truth))
    hd95 = compute_hausdorff_distance(own, true, percentile=95, spacing=SPACING)
    assd = compute_average_surface_distance(own, true, symmetric=True, spacing=SPACING)
    nsd = compute_surface_dice(own, true, class_thresholds=[TOLERANCE] * len(CLASSES), spacing=SPACING)
    return [float(value) for index in range(len(CLASSES)) for value in (hd95[0, index], assd[0, index], nsd[0, index])]


def surface_distance(pred: Labels, truth: Labels) -> list[float]:
    """The surface-distance package."""
    import surface_distance as package

    values = []
    for index in CLASSES:
        found = package.compute_surface_distances(truth == index, pred == index, SPACING)
        both = package.compute_average_surface_distance(found)
        values += [
            float(package.compute_robust_hausdorff(found, 95)),
            float(sum(both) / 2),
            float(package.compute_surface_dice_at_tolerance(found, TOLERANCE)),
        ]
    return values


def seglab_largest(pred: Labels, truth: Labels) -> NDArray[np.bool_]:
    """The largest component by ours."""
    from seglab.components import components

    return components(pred.view(np.bool_), "faces").largest()


def scipy_largest(pred: Labels, truth: Labels) -> NDArray[np.bool_]:
    """The same by scipy."""
    from scipy import ndimage

    labels, _ = ndimage.label(pred)
    kept: NDArray[np.bool_] = labels == np.bincount(labels.reshape(-1))[1:].argmax() + 1
    return kept


if __name__ == "__main__":
    main()
