"""Surface metrics equal a brute-force twin on 200 masks of all kinds, and cases counted by hand."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from seglab.errors import ShapeError
from seglab.metrics import surface as module
from seglab.metrics.boundary import boundary_iou
from seglab.metrics.cases import case_scores
from seglab.metrics.confusion import count
from seglab.metrics.families import CaseMetrics
from seglab.metrics.surface import diagonal, surface, surface_distances

Kind = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    centre, radius = rng.uniform(0, shape), rng.uniform(1, 1 + max(shape) / 2)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.linalg.norm(grid - centre, axis=-1) < radius


def voxel(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(int(rng.integers(n)) for n in shape)] = True
    return mask


def slab(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[: int(rng.integers(1, shape[0] + 1))] = True  # touches the border on all other sides
    return mask


KINDS: dict[str, Kind] = {
    "empty": lambda rng, shape: np.zeros(shape, bool),
    "full": lambda rng, shape: np.ones(shape, bool),
    "voxel": voxel,
    "slab": slab,
    "blob": blob,
    "several": lambda rng, shape: blob(rng, shape) | blob(rng, shape) | voxel(rng, shape),
    "noise": lambda rng, shape: rng.random(shape) < 0.3,
}


def brute(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> list[float]:
    """HD, HD95, ASSD and NSD by every pair of surface pixels, erosion by scipy."""
    points = [np.argwhere(m & ~binary_erosion(m, border_value=1)) * spacing for m in (pred, truth)]
    if pred.any() == truth.any() and not len(points[0]) and not len(points[1]):
        return [0.0, 0.0, 0.0, 1.0]
    if not len(points[0]) or not len(points[1]):
        far = math.sqrt(sum((n * s) ** 2 for n, s in zip(pred.shape, spacing, strict=True)))
        return [far, far, far, 0.0]
    table = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(axis=-1))
    a, b = table.min(axis=1), table.min(axis=0)
    both = np.concatenate([a, b])
    hd95 = max(np.percentile(a, 95), np.percentile(b, 95))
    return [both.max(), hd95, both.mean(), (both <= tolerance).mean()]


def overlap(pred: np.ndarray, truth: np.ndarray) -> list[float]:
    """Dice and IoU of sets of places."""
    own, true = ({tuple(place) for place in np.argwhere(mask).tolist()} for mask in (pred, truth))
    if not own | true:
        return [math.nan, math.nan]
    return [2 * len(own & true) / (len(own) + len(true)), len(own & true) / len(own | true)]


def drawn(n: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two masks of the kinds that number `n` of all pairs has, and a spacing; images and volumes take turns."""
    kinds = list(product(KINDS, repeat=2))[n // 2 % len(KINDS) ** 2]
    shape = tuple(int(rng.integers(1, 8)) for _ in range(2 + n % 2))
    spacing = tuple(float(rng.choice([0.5, 0.7, 1.0, 2.5])) for _ in shape)
    return list(kinds), KINDS[kinds[0]](rng, shape), KINDS[kinds[1]](rng, shape), spacing


@pytest.mark.parametrize(("near", "most_far"), [(6.0, 10**6), (0.0, 10**6), (0.0, 0)], ids=["near", "tree", "map"])
def test_surface_metrics_equal_brute_force_on_random_masks_of_all_kinds(
    near: float, most_far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEAR", near)
    monkeypatch.setattr(module, "MOST_FAR", most_far)
    rng = np.random.default_rng(7)
    for n in range(200):
        kinds, pred, truth, spacing = drawn(n, rng)
        copies = pred.copy(), truth.copy()
        found = surface_distances(pred, truth, spacing)
        values = [found.hd, found.hd95, found.assd, found.nsd(1.0)]
        assert values == pytest.approx(brute(pred, truth, spacing, 1.0), abs=1e-9), (n, kinds, pred.shape, spacing)
        assert np.array_equal(pred, copies[0]) and np.array_equal(truth, copies[1])


def test_scores_of_whole_cases_equal_brute_force_on_random_masks_of_all_kinds() -> None:
    rng = np.random.default_rng(8)
    names = ("background", "lesion")
    measures = CaseMetrics(("surface",), "volume", names, has_background=True, tolerance=1.0)
    for n in range(1, 400, 2):
        kinds, pred, truth, spacing = drawn(n, rng)
        labels = [mask.astype(np.uint8) for mask in (pred, truth)]
        counts = count(*(torch.from_numpy(one) for one in labels), len(names))
        row = case_scores(counts, names, has_background=True) | measures(*labels, spacing)
        scores = [row[f"{name}/lesion"] for name in ("dice", "iou")]
        assert scores == pytest.approx(overlap(pred, truth), nan_ok=True), (n, kinds)
        if not (pred.any() or truth.any()):
            assert "hd/lesion" not in row
            continue
        distances = [row[f"{name}/lesion"] for name in ("hd", "hd95", "assd", "nsd")]
        assert distances == pytest.approx(brute(pred, truth, spacing, 1.0), abs=1e-9), (n, kinds, spacing)


def test_a_mask_of_everything_where_there_is_nothing_is_as_wrong_as_can_be() -> None:
    full, empty = np.ones((3, 4), bool), np.zeros((3, 4), bool)
    for pred, truth in ((full, empty), (empty, full)):
        found = surface_distances(pred, truth, (1.0, 1.0))
        assert (found.hd, found.hd95, found.assd, found.nsd(99.0)) == (5.0, 5.0, 5.0, 0.0)
        assert boundary_iou(pred, truth, (1.0, 1.0)) == 0
    assert surface_distances(full, full, (1.0, 1.0)).nsd(0.0) == boundary_iou(full, full, (1.0, 1.0)) == 1


def test_two_bars_three_pixels_apart_by_hand() -> None:
    pred, truth = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
    pred[0, 2], truth[0, 5] = True, True
    found = surface_distances(pred, truth, (1.0, 2.0))
    assert (found.hd, found.hd95, found.assd) == (6.0, 6.0, 6.0)
    assert (found.nsd(6.0), found.nsd(5.9)) == (1.0, 0.0)


def test_one_stray_voxel_is_the_hausdorff_distance_but_not_its_95th_percentile() -> None:
    truth = np.zeros((40, 40), bool)
    truth[5:35, 5:35] = True
    pred = truth.copy()
    pred[5, 38] = True  # 4 pixels from the square's edge, one of 117 surface pixels
    found = surface_distances(pred, truth, (1.0, 1.0))
    assert (found.hd, found.hd95) == (4.0, 0.0)
    assert found.assd == pytest.approx(4 / (117 + 116)) and found.nsd(3.0) == pytest.approx(1 - 1 / 233)


def test_the_cut_face_of_a_mask_at_the_border_is_no_surface() -> None:
    half = np.zeros((4, 6), bool)
    half[:, :3] = True
    assert np.argwhere(surface(half)).tolist() == [[row, 2] for row in range(4)]
    assert not surface(np.ones((3, 3), bool)).any()


def test_surfaces_are_connected_by_faces() -> None:
    corner = np.ones((5, 5), bool)
    corner[0, 0] = False
    assert np.argwhere(surface(corner)).tolist() == [[0, 1], [1, 0]]  # not [1, 1], which touches by its corner


def test_nothing_to_measure_against_is_as_far_as_the_diagonal() -> None:
    empty, mask = np.zeros((3, 4), bool), np.eye(3, 4, dtype=bool)
    found = surface_distances(empty, mask, (1.0, 1.0))
    assert found.hd == found.hd95 == found.assd == 5.0 == diagonal((3, 4), (1.0, 1.0))
    assert found.nsd(1.0) == 0


@pytest.mark.parametrize(("shape", "spacing"), [((3, 4), (1.0, 1.0)), ((4, 3), (1.0, 1.0, 1.0))])
def test_masks_that_do_not_fit_are_refused(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    with pytest.raises(ShapeError, match="same grid"):
        surface_distances(np.zeros((4, 3), bool), np.zeros(shape, bool), spacing)
