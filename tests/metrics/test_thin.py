"""Thin structures by hand: lines moved, widened, broken."""

import math

import numpy as np
import pytest

from seglab.metrics.thin import centre_line, cldice, measure, thin_scores, tolerance_f1


def line(row: int, width: int = 1, *, shape: tuple[int, int] = (40, 60), start: int = 5, end: int = 55) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[row : row + width, start:end] = True
    return mask


@pytest.mark.parametrize(("shift", "expected"), [(0, (1, 1, 1)), (1, (0, 1, 1)), (3, (0, 0, 1)), (6, (0, 0, 0))])
def test_tolerance_f1_of_a_shifted_line(shift: int, expected: tuple[int, ...]) -> None:
    assert tuple(tolerance_f1(line(10 + shift), line(10)).values()) == expected


def test_tolerance_f1_at_zero_is_the_dice() -> None:
    rng = np.random.default_rng(3)
    pred, truth = rng.random((2, 30, 30)) < 0.3
    assert tolerance_f1(pred, truth)[0] == pytest.approx(2 * (pred & truth).sum() / (pred.sum() + truth.sum()))


def test_cldice_forgives_width_and_punishes_a_gap() -> None:
    truth = line(10, 3)
    assert cldice(line(9, 5), truth) == 1.0
    broken = truth.copy()
    broken[:, 20:30] = False  # of 50
    share = broken[centre_line(truth)].mean()
    assert cldice(broken, truth) == pytest.approx(2 * share / (1 + share)) and share == pytest.approx(0.8, abs=0.02)


def test_a_straight_line_is_as_long_as_its_pixels_and_as_wide_as_it_is() -> None:
    for width in (1, 3, 5):
        mask = line(10, width)
        crack = measure(mask, centre_line(mask))
        assert crack.length == pytest.approx(50, abs=width)
        assert crack.width == pytest.approx(width, rel=0.1)


@pytest.mark.parametrize(
    ("pixels", "length"),
    [
        ([(0, 0)], 1),
        ([(0, 0), (0, 1), (0, 2)], 3),
        ([(0, 0), (1, 1), (2, 2)], 2 * math.sqrt(2) + 1),
        ([(0, 0), (0, 1), (1, 1)], 3),  # an angle is two steps, not three
        ([(0, 0), (2, 2)], 2),  # two single pixels
    ],
)
def test_length_is_counted_step_by_step(pixels: list[tuple[int, int]], length: float) -> None:
    mask = np.zeros((4, 4), bool)
    mask[tuple(zip(*pixels, strict=True))] = True
    assert measure(mask, mask).length == pytest.approx(length)


def test_a_missed_crack_scores_zero_and_lacks_its_whole_length() -> None:
    truth = line(10)
    found = thin_scores(np.zeros_like(truth), truth, (1.0, 1.0))
    assert [found[name] for name in ("cldice", "f1_0px", "f1_5px", "length_pred", "width_pred")] == [0] * 5
    assert found["length_difference"] == -50 == -found["length_true"]


def test_vessels_in_volumes_have_scores_and_no_width() -> None:
    truth = np.zeros((5, 8, 30), bool)
    truth[2, 4, 3:27] = True
    found = thin_scores(np.roll(truth, 1, axis=1), truth, (1.0, 1.0, 1.0))
    assert found == {"cldice": 0.0, "f1_0px": 0.0, "f1_2px": 1.0, "f1_5px": 1.0}
