"""Families of metrics on whole cases: which classes, which unit, which columns."""

import numpy as np
import pytest

from seglab.errors import ConfigError
from seglab.metrics.families import DEFAULTS, CaseMetrics
from seglab.spec import Kind

NAMES = ("background", "liver", "tumour")


def metrics(kind: Kind = "volume", *families: str, regions: tuple[tuple[int, ...], ...] = ()) -> CaseMetrics:
    return CaseMetrics(families or DEFAULTS[kind], kind, NAMES, has_background=True, regions=regions)


def case() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((6, 20, 20), np.uint8)
    truth[1:5, 4:16, 4:16] = 1
    truth[2:4, 6:9, 6:9] = 2
    return np.roll(truth, 1, axis=2), truth


def test_volumes_are_measured_in_mm_and_photos_in_pixels() -> None:
    pred, truth = case()
    assert metrics("volume", "surface")(pred, truth, (5.0, 0.5, 0.7))["hd/tumour"] == pytest.approx(0.7)
    photo = metrics("photo", "surface")(pred[2:3], truth[2:3], (5.0, 0.5, 0.7))
    assert photo["hd/tumour"] == 1


def test_defaults_of_each_kind_give_its_columns() -> None:
    pred, truth = case()
    volume, photo = metrics("volume")(pred, truth, (1, 1, 1)), metrics("photo")(pred[2:3], truth[2:3], (1, 1, 1))
    assert {"hd95/liver", "nsd/tumour", "lesion_f1/tumour"} <= set(volume)
    assert {"cldice/liver", "f1_2px/tumour", "boundary_iou/liver", "hd95/liver"} <= set(photo)


def test_a_class_in_neither_has_no_column_and_one_in_one_the_worst_values() -> None:
    _, truth = case()
    only_liver = np.minimum(truth, 1)
    row = metrics("volume", "surface", "lesions")(only_liver, truth, (1.0, 1.0, 1.0))
    assert row["hd95/tumour"] == row["assd/tumour"] == pytest.approx((36 + 400 + 400) ** 0.5)
    assert row["nsd/tumour"] == row["lesion_f1/tumour"] == 0
    assert not any(key.endswith("/tumour") for key in metrics()(only_liver, only_liver, (1, 1, 1)))


def test_ignored_pixels_change_nothing() -> None:
    pred, truth = case()
    truth[:, :, 18:] = 255
    noisy = pred.copy()
    noisy[:, ::2, 18:] = 2
    assert metrics()(noisy, truth, (1, 1, 1)) == metrics()(pred, truth, (1, 1, 1))


def test_a_region_holds_the_classes_within_it() -> None:
    _, truth = case()
    holes = np.where(truth == 2, 1, truth).astype(np.uint8)
    row = metrics("volume", "surface", regions=((0,), (1, 2), (2,)))(holes, truth, (1, 1, 1))
    assert row["hd/liver"] == 0 and row["nsd/tumour"] == 0


def test_unknown_families_are_refused_with_the_names() -> None:
    with pytest.raises(ConfigError) as caught:
        metrics("volume", "surfaces")
    assert "surface, boundary" in caught.value.allowed
