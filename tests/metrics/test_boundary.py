"""Boundary IoU by hand."""

import numpy as np
import pytest

from seglab.metrics.boundary import boundary_iou

DISC = np.hypot(*np.mgrid[-50:50, -50:50]) < 30  # the band is 2 % of 141 wide: 2.8 pixels


def test_equal_masks_have_one_and_apart_masks_zero() -> None:
    assert boundary_iou(DISC, DISC, (1.0, 1.0)) == 1
    assert boundary_iou(np.roll(DISC, 5, axis=0)[:40], np.zeros((40, 100), bool), (1.0, 1.0)) == 0


def test_a_wrong_edge_costs_more_than_in_the_iou() -> None:
    wide = np.hypot(*np.mgrid[-50:50, -50:50]) < 32
    iou = (wide & DISC).sum() / (wide | DISC).sum()
    assert boundary_iou(wide, DISC, (1.0, 1.0)) < 0.4 < 0.85 < iou


def test_bands_are_counted_by_hand() -> None:
    truth, pred = np.zeros((10, 20), bool), np.zeros((10, 20), bool)
    truth[:, :10], pred[:, :11] = True, True  # the band is one pixel wide: columns 9 and 10
    assert boundary_iou(pred, truth, (1.0, 1.0)) == 0
    assert boundary_iou(pred, truth, (1.0, 30.0)) == 0
    truth[0, 19] = pred[0, 19] = True
    assert boundary_iou(pred, truth, (1.0, 1.0)) == pytest.approx(1 / 21)


def test_without_contours_nothing_is_wrong() -> None:
    full = np.ones((5, 5), bool)
    assert boundary_iou(full, full, (1.0, 1.0)) == 1


def test_a_cut_around_the_masks_changes_nothing() -> None:
    pred, farthest = np.roll(DISC, 3, axis=0), float(np.hypot(100, 100))
    cut = np.s_[15:85, 15:85]  # the discs reach from 20 to 83
    assert boundary_iou(pred[cut], DISC[cut], (1.0, 1.0), farthest) == boundary_iou(pred, DISC, (1.0, 1.0)) < 1
