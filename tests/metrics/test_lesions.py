"""Lesions by hand: found, missed, invented, joined; equal to a brute-force matching."""

import math

import numpy as np
import pytest
from scipy import ndimage

from seglab.metrics.lesions import lesions

SQUARE = np.zeros((20, 20), bool)
SQUARE[2:6, 2:6] = True


def moved(*steps: tuple[int, int]) -> np.ndarray:
    return np.logical_or.reduce([np.roll(SQUARE, step, axis=(0, 1)) for step in steps])


def test_one_found_one_missed_one_invented() -> None:
    found = lesions(moved((0, 1), (0, 10)), moved((0, 0), (10, 0)), (1.0, 1.0)).scores
    assert (found["n_lesions"], found["n_lesions_pred"], found["n_lesions_found"]) == (2, 2, 1)
    assert found["lesion_f1"] == 0.5
    assert found["lesion_dice"] == pytest.approx((2 * 12 / 32 + 0) / 2)


def test_one_prediction_over_two_lesions_finds_one_of_them() -> None:
    truth = moved((0, 0), (0, 6))
    bridge = truth.copy()
    bridge[2:6, 6:8] = True
    found = lesions(bridge, truth, (1.0, 1.0)).scores
    assert (found["n_lesions_found"], found["n_lesions"], found["n_lesions_pred"]) == (1, 2, 1)
    assert found["lesion_f1"] == pytest.approx(2 / 3)


def test_a_touch_below_the_iou_finds_nothing() -> None:
    pred = moved((3, 3))  # one pixel of 16 in common: IoU 1 / 31
    assert lesions(pred, SQUARE, (1.0, 1.0)).scores["lesion_f1"] == 0
    assert lesions(pred, SQUARE, (1.0, 1.0), found_at_iou=0.03).scores["lesion_f1"] == 1


def test_size_is_the_diameter_in_the_unit_of_the_spacing() -> None:
    cube = np.zeros((12, 12, 12), bool)
    cube[1:5, 1:5, 1:5] = True
    for spacing, size in ((1.0, "small"), (2.5, "medium"), (5.0, "large")):
        found = lesions(cube, cube, (spacing,) * 3)
        assert found.diameters[0] == pytest.approx(2 * (3 * (4 * spacing) ** 3 / (4 * math.pi)) ** (1 / 3))
        assert found.scores[f"n_lesions_{size}"] == found.scores[f"n_lesions_found_{size}"] == 1


def test_only_invented_lesions_have_no_dice() -> None:
    found = lesions(SQUARE, np.zeros_like(SQUARE), (1.0, 1.0)).scores
    assert found["lesion_f1"] == 0 and math.isnan(found["lesion_dice"])


def test_counts_equal_a_matching_pixel_by_pixel() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        pred, truth = rng.random((2, 4, 9, 9)) < 0.25
        label = [ndimage.label(mask, np.ones((3, 3, 3))) for mask in (truth, pred)]
        pairs = []
        for t in range(1, label[0][1] + 1):
            for p in range(1, label[1][1] + 1):
                one, two = label[0][0] == t, label[1][0] == p
                pairs.append(((one & two).sum() / (one | two).sum(), t, p))
        used_t, used_p = set(), set()
        for iou, t, p in sorted(pairs, reverse=True):
            if iou >= 0.1 and t not in used_t and p not in used_p:
                used_t.add(t), used_p.add(p)
        found = lesions(pred, truth, (1.0, 1.0, 1.0)).scores
        assert found["n_lesions"] == label[0][1] and found["n_lesions_pred"] == label[1][1]
        assert found["n_lesions_found"] == len(used_t)
