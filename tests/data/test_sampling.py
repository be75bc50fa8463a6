import itertools

import numpy as np
import pytest

from seglab.data.sampling import Aim, CaseSampler, EpochSampler, ShapeBatchSampler, generator, patch_start

WORLDS = (1, 2, 3)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n", [1, 5, 12])
def test_every_case_is_tested_exactly_once_over_all_ranks(n: int, world: int) -> None:
    samplers = [CaseSampler(n, rank=rank, world=world) for rank in range(world)]
    assert sorted(itertools.chain(*samplers)) == list(range(n))
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


SHAPES = [(1, 8, 8)] * 5 + [(1, 8, 4)] * 3 + [(1, 8, 8)] * 4 + [(1, 2, 2)]


@pytest.mark.parametrize("world", WORLDS)
def test_evaluation_batches_hold_each_item_once_and_one_shape(world: int) -> None:
    samplers = [ShapeBatchSampler(SHAPES, batch_size=4, rank=rank, world=world) for rank in range(world)]
    batches = list(itertools.chain(*samplers))
    assert sorted(itertools.chain(*batches)) == list(range(len(SHAPES)))
    assert all(len(batch) <= 4 and len({SHAPES[item] for item in batch}) == 1 for batch in batches)
    assert sum(len(sampler) for sampler in samplers) == len(batches) == 5


@pytest.mark.parametrize("world", WORLDS)
def test_an_evaluation_batch_holds_the_same_items_for_any_number_of_ranks(world: int) -> None:
    alone = list(ShapeBatchSampler(SHAPES, batch_size=4, rank=0, world=1))
    shared = [list(ShapeBatchSampler(SHAPES, batch_size=4, rank=rank, world=world)) for rank in range(world)]
    assert sorted(itertools.chain(*shared)) == sorted(alone)


def epoch_of(n: int, world: int, epoch: int = 0, seed: int = 0) -> list[list[tuple[int, int]]]:
    return [list(EpochSampler(n, seed=seed, start=lambda: (epoch, 0), rank=rank, world=world)) for rank in range(world)]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_training_ranks_get_equally_many_and_together_all_samples(n: int, world: int) -> None:
    shares = epoch_of(n, world)
    assert {len(share) for share in shares} == {-(-n // world)}
    drawn = list(itertools.chain(*shares))
    assert set(drawn) == {(0, index) for index in range(n)}
    assert len(drawn) - n < world  # no more repeats than needed


def test_epochs_and_seeds_differ_and_a_repeat_does_not() -> None:
    orders = [[index for _, index in epoch_of(50, 1, epoch, seed)[0]] for epoch, seed in ((0, 0), (1, 0), (0, 1))]
    assert len({tuple(order) for order in orders}) == 3
    assert epoch_of(50, 2, 3) == epoch_of(50, 2, 3)


def test_the_epoch_is_asked_for_when_an_iteration_starts() -> None:
    now = [0]
    sampler = EpochSampler(3, seed=0, start=lambda: (now[0], 0), rank=0, world=1)
    assert {epoch for epoch, _ in sampler} == {0}
    now[0] = 5
    assert {epoch for epoch, _ in sampler} == {5}


def test_ranks_together_draw_what_one_process_draws() -> None:
    alone, shares = epoch_of(12, 1, 4)[0], epoch_of(12, 3, 4)
    assert [item for step in zip(*shares, strict=True) for item in step] == alone


def test_generators_of_different_keys_differ() -> None:
    draws = {int(generator(*key).integers(2**60)) for key in itertools.product(range(3), repeat=3)}
    assert len(draws) == 27


PLACES = np.array([[z, y, x] for z in range(2) for y in range(30, 40) for x in range(5)] + [[9, 0, 49]])


def test_a_random_patch_lies_inside_and_reaches_both_ends() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([patch_start(rng, (10, 40, 50), (1, 36, 48), None) for _ in range(300)])
    assert starts.min(axis=0).tolist() == [0, 0, 0] and starts.max(axis=0).tolist() == [9, 4, 2]


@pytest.mark.parametrize("patch", [(1, 16, 16), (4, 7, 50), (10, 40, 50), (3, 1, 1)])
def test_an_aimed_patch_lies_inside_and_holds_one_of_the_places(patch: tuple[int, int, int]) -> None:
    rng, shape = np.random.default_rng(0), (10, 40, 50)
    for _ in range(200):
        start = patch_start(rng, shape, patch, PLACES)
        end = np.add(start, patch)
        assert min(start) >= 0 and (end <= shape).all()
        assert ((start <= PLACES) & (end > PLACES)).all(axis=1).any()


@pytest.mark.parametrize("places", [None, PLACES, PLACES[:0]])
def test_a_case_smaller_than_the_patch_lies_in_its_middle(places: np.ndarray | None) -> None:
    start = patch_start(np.random.default_rng(0), (10, 40, 50), (16, 43, 50), places)
    assert start == (-3, -2, 0)


# Ten cases of background and class 1; class 2 only in the last of them, class 3 in none.
PIXELS = [[900, 90, 10 * (number == 9), 0] for number in range(10)]
SIZES = np.arange(1, 11)


def drawn(fraction: float, *odds: float, pixels: list[list[int]] = PIXELS) -> list[tuple[int, int | None]]:
    rng, aim = np.random.default_rng(0), Aim(fraction=fraction, odds=odds, pixels=pixels, sizes=SIZES)
    return [aim.draw(rng, number % 10) for number in range(2000)]


def test_a_rare_class_is_aimed_at_as_often_as_a_common_one() -> None:
    labels = [label for _, label in drawn(0.5, 0, 1, 1, 1)]
    assert labels.count(None) == pytest.approx(1000, abs=80)
    assert labels.count(1) == pytest.approx(500, abs=60) and labels.count(2) == pytest.approx(500, abs=60)


def test_odds_choose_the_classes() -> None:
    labels = [label for _, label in drawn(1, 1, 0, 3, 1)]
    assert labels.count(0) == pytest.approx(500, abs=60) and labels.count(2) == 2000 - labels.count(0)


def test_a_case_keeps_its_turn_unless_it_lacks_the_class() -> None:
    found = drawn(0.5, 0, 1, 1, 1)
    assert all(case == (9 if label == 2 else number % 10) for number, (case, label) in enumerate(found))


def test_another_case_is_drawn_by_its_size() -> None:
    pixels = [[1, number < 3] for number in range(10)]  # sizes 1, 2, 3
    cases = [case for number, (case, _) in enumerate(drawn(1, 0, 1, pixels=pixels)) if number % 10 > 2]
    assert set(cases) == {0, 1, 2} and cases.count(2) / len(cases) == pytest.approx(0.5, abs=0.05)


def test_without_a_class_to_aim_at_any_place_is_drawn() -> None:
    assert drawn(1, 0, 0, 0, 1) == [(number % 10, None) for number in range(2000)]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n_trained", [0, 1, 4, 7, 100])
def test_a_start_within_an_epoch_gives_the_rest_of_it_on_every_rank(n_trained: int, world: int) -> None:
    for rank, whole in enumerate(epoch_of(13, world, 2)):
        sampler = EpochSampler(13, seed=0, start=lambda: (2, n_trained), rank=rank, world=world)
        assert list(sampler) == whole[n_trained:] and len(sampler) == len(whole)
