import math

import pytest

from seglab.data.plan import check_plan, cube, plan_depth, plan_patch, smaller
from seglab.errors import ConfigError

THIN = (5.0, 0.8, 0.8)


@pytest.mark.parametrize(
    ("shapes", "dims", "patch"),
    [
        ([(1, 224, 224)] * 3, 2, (224, 224)),
        ([(1, 500, 333)] * 3, 2, (496, 320)),
        ([(1, 3000, 100), (1, 4000, 110), (1, 900, 120)], 2, (512, 96)),
        ([(7, 40, 40)], 3, (16, 32, 32)),
        ([(1, 5, 9)], 2, (16, 16)),
    ],
)
def test_without_a_wish_the_patch_is_the_median_case_up_to_a_limit(
    shapes: list[tuple[int, ...]], dims: int, patch: tuple[int, ...]
) -> None:
    assert plan_patch(None, shapes, dims, [(1.0, 1.0, 1.0)]) == patch


@pytest.mark.parametrize(
    ("shape", "spacing", "patch"),
    [
        ((300, 512, 512), (1.0, 1.0, 1.0), (96, 96, 96)),
        ((300, 512, 512), (2.0, 0.8, 0.8), (48, 128, 128)),
        ((300, 512, 512), THIN, (16, 176, 176)),
        ((20, 512, 512), (1.0, 1.0, 1.0), (16, 224, 224)),
        ((20, 100, 512), (1.0, 1.0, 1.0), (16, 96, 512)),
    ],
)
def test_a_volume_patch_is_about_as_long_in_mm_along_every_axis_as_the_case_lets_it(
    shape: tuple[int, ...], spacing: tuple[float, ...], patch: tuple[int, ...]
) -> None:
    assert plan_patch(None, [shape], 3, [spacing]) == patch


@pytest.mark.parametrize("shape", [(300, 512, 512), (20, 512, 512), (20, 100, 4000), (3000, 16, 16)])
def test_what_a_thin_axis_cannot_take_goes_to_the_others(shape: tuple[int, ...]) -> None:
    for spacing in ((1.0, 1.0, 1.0), THIN):
        lengths = cube(shape, spacing)
        assert all(length <= most + 1e-6 for length, most in zip(lengths, shape, strict=True))
        assert math.prod(lengths) == pytest.approx(min(64 * 128 * 128, math.prod(shape)))


def test_a_given_patch_is_kept() -> None:
    assert plan_patch([100, 16], [(1, 50, 50)], 2, [THIN]) == (100, 16)


@pytest.mark.parametrize(("wanted", "dims"), [([64], 2), ([64, 64, 64], 2), ([64, 64], 3), ([64, 15], 2), ([], 2)])
def test_a_patch_with_other_axes_or_below_16_is_refused(wanted: list[int], dims: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.patch_size=.* with data\.dims={dims}[\s\S]*set data\.patch_size="):
        plan_patch(wanted, [(1, 64, 64)], dims, [THIN])


@pytest.mark.parametrize(
    ("patch", "n_poolings"), [((512, 512), 4), ((64, 128, 128), 4), ((16, 176, 176), 2), ((48, 32), 3)]
)
def test_poolings_leave_four_pixels_of_the_shortest_axis(patch: tuple[int, ...], n_poolings: int) -> None:
    assert plan_depth(patch) == n_poolings


def test_first_the_batch_gets_smaller_then_the_longest_axis_and_nothing_that_was_set() -> None:
    steps, both = [((48, 128), 4)], {"may_cut": True, "may_share": True}
    while (less := smaller(*steps[-1], **both)) is not None:
        steps.append(less)
    assert steps[1:] == [((48, 128), 2), ((48, 128), 1), ((48, 64), 1), ((48, 32), 1), ((16, 32), 1), ((16, 16), 1)]
    assert smaller((48, 128), 1, may_cut=False, may_share=True) is None
    assert smaller((48, 128), 4, may_cut=True, may_share=False) == ((48, 64), 4)
    assert smaller((48, 128), 4, may_cut=False, may_share=False) is None


def test_an_unknown_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.plan=big[\s\S]*auto, none"):
        check_plan("big")
