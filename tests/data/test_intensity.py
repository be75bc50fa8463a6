import numpy as np
import pytest
import torch

from seglab.data import intensity
from seglab.data.intensity import combine, measure, normalise
from seglab.spec import Intensity

ALL = np.ones((1, 1, 4), bool)


def image(*channels: list[float]) -> np.ndarray:
    return np.array(channels)[:, None, None, :]  # (C, 1, 1, 4)


def test_mean_and_std_are_those_of_all_pixels_of_all_cases() -> None:
    cases = [image([1, 2, 3, 4], [10, 10, 10, 50]), image([5, 5, 5, 7], [0, 0, 0, 80])]
    found = combine([measure(case, ALL, None, None) for case in cases], low=None, high=None)
    pixels = np.concatenate([case.reshape(2, 4) for case in cases], axis=1)
    assert found.mean == pytest.approx(pixels.mean(axis=1)) and found.std == pytest.approx(pixels.std(axis=1))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (1, 3, 5, 7)).astype(np.int16)
    whole = measure(volume, np.ones((3, 5, 7), bool), -200, 250)
    monkeypatch.setattr(intensity, "BLOCK", 10)
    assert measure(volume, np.ones((3, 5, 7), bool), -200, 250) == whole


def test_values_are_clipped_before_they_are_measured_and_when_they_are_applied() -> None:
    stored = image([-1000, -200, 250, 3000])
    found = combine([measure(stored, ALL, -200, 250)], low=-200, high=250)
    assert found == Intensity((25.0,), (225.0,), -200, 250)
    assert normalise(stored, found).flatten().tolist() == pytest.approx([-1, -1, 1, 1])


def test_nodata_is_not_measured() -> None:
    valid = np.array([[[True, True, False, False]]])
    found = measure(image([4, 6, 0, 0]), valid, None, None)
    assert (found.n, found.total, found.squares) == (2, (10.0,), (52.0,))


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 1e6, 1e-4])
def test_a_constant_channel_gets_std_1(value: float) -> None:
    found = combine([measure(image([value] * 4), ALL, None, None)], low=None, high=None)
    assert found.std == (1.0,)
    assert normalise(image([value] * 4), found).abs().max() < 1e-5 + 1e-6 * abs(value)


def test_a_case_of_nodata_only_is_no_division_by_zero() -> None:
    found = combine([measure(image([0] * 4), ~ALL, None, None)], low=None, high=None)
    assert found == Intensity((0.0,), (1.0,))


def test_small_deviations_on_a_large_mean_are_kept() -> None:
    found = combine([measure(image([10_000, 10_001, 10_002, 10_003]), ALL, None, None)], low=None, high=None)
    assert found.std == pytest.approx([np.std([0, 1, 2, 3])])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_normalise_gives_float32_and_leaves_the_stored_values_alone(dtype: type) -> None:
    stored = image([0, 10, 20, 30], [0, 100, 100, 200]).astype(dtype)
    before = stored.copy()
    values = normalise(stored, Intensity((15.0, 100.0), (5.0, 50.0)))
    assert values.dtype == torch.float32 and values.shape == (2, 1, 1, 4)
    assert values.flatten().tolist() == pytest.approx([-3, -1, 1, 3, -2, 0, 0, 2], abs=1e-6)
    assert np.array_equal(stored, before)


@pytest.mark.parametrize("shape", [(1, 1, 700, 300), (2, 9, 150, 170), (1, 3, 5, 70_000), (3, 1, 1, 1)])
def test_normalise_in_pieces_equals_all_at_once(shape: tuple[int, ...]) -> None:
    stored = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    intensity = Intensity((11.7,) * shape[0], (83.1,) * shape[0], -200.0, 250.0)
    values = torch.from_numpy(stored.astype(np.float32)).clamp_(-200, 250)
    wanted = torch.add(torch.tensor(-11.7 / 83.1), values, alpha=1 / 83.1)
    assert torch.equal(normalise(stored, intensity), wanted)
    assert torch.equal(normalise(stored[..., ::-1], intensity), wanted.flip(-1))


@pytest.mark.parametrize(("smallest", "largest"), [(-200, 250), (-201, 250), (-200, 251), (-1024, 3000), (np.nan, 0)])
def test_limits_are_left_out_only_where_they_cannot_matter(smallest: float, largest: float) -> None:
    window = Intensity((10.0,), (60.0,), -200.0, 250.0)
    stored = image([smallest, 0, 40, largest])
    known = window.of_values(smallest, largest)
    torch.testing.assert_close(normalise(stored, known), normalise(stored, window), rtol=0, atol=0, equal_nan=True)
    assert (known.low is None) == ((smallest, largest) == (-200, 250))
