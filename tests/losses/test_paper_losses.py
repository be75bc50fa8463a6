"""The losses of the papers: the numbers that can be worked out by hand, and slow twins that follow the formula."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.data.maps import FAR, MAPS
from seglab.errors import ConfigError, ShapeError
from seglab.losses.cldice import ClDiceLoss
from seglab.losses.composite import CompositeLoss
from seglab.losses.distance import BorderWeightedCELoss, BoundaryLoss, WeightedDiceLoss
from seglab.losses.jaccard import JaccardLoss
from seglab.losses.overlap import AGNDiceLoss, DiceLoss
from seglab.losses.pixelwise import CrossEntropyLoss, L1Loss
from seglab.losses.region import RegionLoss
from seglab.spec import IGNORE_INDEX

NO_SMOOTH = 1e-12
TANIMOTO, JACCARD = (JaccardLoss(squared=squared, smooth=NO_SMOOTH) for squared in (True, False))


def two_classes(foreground: list[list[float]]) -> Tensor:
    """Logits (1, 2, H, W) of these foreground probabilities."""
    logits = torch.logit(torch.tensor(foreground))
    return torch.stack([torch.zeros_like(logits), logits])[None]


HAND = two_classes([[0.9, 0.8], [0.2, 0.1]]), torch.tensor([[[1, 1], [0, 0]]])


def random_case(n_classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, mask with ignored pixels, and a distance map."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.randint(0, n_classes, (2, 7, 9), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE_INDEX
    logits = 2 * torch.randn(2, n_classes, 7, 9, generator=generator)
    return logits, mask, 6 * torch.rand(2, 7, 9, generator=generator) - 2


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (AGNDiceLoss(), 0.147132),
        (TANIMOTO, 1 - 0.944444),  # 1.7 / (1.5 + 2 - 1.7)
        (JACCARD, 1 - 0.739130),  # 1.7 / (2 + 2 - 1.7)
        (DiceLoss(squared=True, smooth=NO_SMOOTH), 1 - 3.4 / 3.5),
        (CrossEntropyLoss(), 0.164252),
        (L1Loss(), 0.15),  # (0.1 + 0.2 + 0.2 + 0.1) / 4
        (RegionLoss(), 0.164252 - 0.85),
    ],
)
def test_hand_cases(loss: nn.Module, expected: float) -> None:
    assert loss(*HAND).item() == pytest.approx(expected, abs=1e-6)


def test_region_loss_of_zero_logits_is_ln_2_minus_the_mean_dice() -> None:
    mask = torch.tensor([[[1, 0, 0, 0]]])
    expected = math.log(2) - (0.6 + 1 / 3) / 2
    assert expected == pytest.approx(0.226481, abs=1e-6)
    assert RegionLoss()(torch.zeros(1, 2, 1, 4), mask).item() == pytest.approx(expected, abs=1e-6)


def test_region_loss_ends_at_minus_one() -> None:
    mask = torch.tensor([[[1, 0, 0, 1]]])
    assert RegionLoss()(50.0 * F.one_hot(mask, 2).movedim(-1, 1), mask).item() == pytest.approx(-1)


def test_l1_of_a_half_everywhere_is_a_half() -> None:
    assert L1Loss()(torch.zeros(1, 2, 3, 3), torch.randint(0, 2, (1, 3, 3))).item() == pytest.approx(0.5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_l1_is_the_mean_absolute_error_of_the_probabilities(n_classes: int) -> None:
    logits, mask, _ = random_case(n_classes)
    keep = mask != IGNORE_INDEX
    probs = logits.softmax(dim=1).movedim(1, -1)[keep]  # (pixels, K)
    expected = F.l1_loss(probs, F.one_hot(mask[keep], n_classes).float())
    torch.testing.assert_close(L1Loss()(logits, mask), expected)


@pytest.mark.parametrize("loss", [TANIMOTO, JACCARD, AGNDiceLoss(), DiceLoss(squared=True), ClDiceLoss()])
def test_empty_against_empty_is_a_perfect_score(loss: nn.Module) -> None:
    background = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    assert loss(background, torch.zeros(1, 8, 8, dtype=torch.int64)).item() == pytest.approx(0, abs=1e-6)


def test_tanimoto_and_soft_jaccard_are_the_jaccard_index_of_certain_predictions() -> None:
    mask, pred = torch.randint(0, 2, (2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    certain = 100.0 * F.one_hot(pred, 2).movedim(-1, 1)
    expected = (mask & pred).sum() / (mask | pred).sum()
    for loss in (TANIMOTO, JACCARD):
        torch.testing.assert_close(1 - loss(certain, mask), expected)


def test_agn_dice_is_the_mean_over_samples_and_all_classes() -> None:
    logits, mask, _ = random_case()
    probs = logits.softmax(dim=1).double().numpy()
    scores = []
    for sample, truth in zip(probs, mask.numpy(), strict=True):
        keep = truth != IGNORE_INDEX
        for k in range(3):
            p, g = sample[k][keep], truth[keep] == k
            scores.append(2 * ((p * g).sum() + 0.01) / (p.sum() + g.sum() + 0.01))
    assert AGNDiceLoss()(logits, mask).item() == pytest.approx(1 - np.mean(scores), abs=1e-6)


# U-Net's border weights


@pytest.mark.parametrize(("distance", "extra"), [(0.0, 10.0), (10.0, 1.353353), (FAR, 0.0)])
def test_border_weight_is_the_class_weight_plus_a_bell_of_the_distances(distance: float, extra: float) -> None:
    logits, mask, distances = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 0]]]), torch.full((1, 1, 2), distance)
    weights = BorderWeightedCELoss(class_weights=(0.528, 9.434)).pixel_weights(logits, mask, distances)
    torch.testing.assert_close(weights, torch.tensor([[[9.434 + extra, 0.528 + extra]]]))
    plain = BorderWeightedCELoss()(logits, mask, distances).item()
    assert plain == pytest.approx((1 + extra) * math.log(2), rel=1e-6)


def test_border_loss_is_the_mean_of_weight_times_cross_entropy() -> None:
    logits, mask, distance = random_case()
    keep = mask != IGNORE_INDEX
    per_pixel = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="none")
    weights = torch.tensor([0.2, 1.0, 2.0])[mask.clamp(max=2)] + 3 * torch.exp(-(distance**2) / 8)
    expected = (weights * per_pixel)[keep].mean()
    loss = BorderWeightedCELoss(class_weights=(0.2, 1.0, 2.0), w0=3.0, sigma=2.0)
    torch.testing.assert_close(loss(logits, mask, distance), expected)
    assert loss.state_dict() == {}


# BS U-Net's weighted Dice


def test_weight_map_of_bs_unet_is_the_hand_case() -> None:
    weights = WeightedDiceLoss(w=2.0, sigma=1.0).pixel_weights(
        torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 2.0]]])
    )
    torch.testing.assert_close(weights, torch.tensor([[[1, 0.587942, 0]]]), atol=1e-6, rtol=0)


def test_ignored_pixels_do_not_stretch_the_weight_map() -> None:
    mask = torch.tensor([[[1, 0, IGNORE_INDEX, IGNORE_INDEX]]])
    distance = torch.tensor([[[1, 2.0, 9, 0]]])
    weights = WeightedDiceLoss(w=2.0, sigma=1.0).pixel_weights(mask, distance)
    assert weights[0, 0, :2].tolist() == [1, 0]


def test_without_an_outline_weighted_dice_is_dice() -> None:
    logits, mask, _ = random_case()
    torch.testing.assert_close(
        WeightedDiceLoss()(logits, torch.where(mask == IGNORE_INDEX, mask, 0), torch.full(mask.shape, FAR)),
        DiceLoss()(logits, torch.where(mask == IGNORE_INDEX, mask, 0)),
    )


def test_weighted_dice_is_its_slow_twin() -> None:
    logits, mask, distance = random_case()
    probs, truth, far = logits.softmax(dim=1).double().numpy(), mask.numpy(), distance.double().numpy()
    sums = np.zeros((3, 2))  # class: overlap, all
    for n in range(2):
        raw = (1.5 * ((truth[n] > 0) & (truth[n] != IGNORE_INDEX)) + 1) * np.exp(-(far[n] ** 2) / (2 * 3.0**2))
        keep = truth[n] != IGNORE_INDEX
        weights = (raw[keep] - raw[keep].min()) / (raw[keep].max() - raw[keep].min())
        for k in range(3):
            p, g = probs[n, k][keep], truth[n][keep] == k
            sums[k] += (weights * p * g).sum(), (weights * p).sum() + (weights * g).sum()
    expected = np.mean([1 - (2 * overlap + 1) / (everything + 1) for overlap, everything in sums[1:]])
    assert WeightedDiceLoss(w=1.5, sigma=3.0)(logits, mask, distance).item() == pytest.approx(expected, abs=1e-6)


# Boundary loss


def test_boundary_loss_is_the_mean_of_distance_times_foreground() -> None:
    logits, mask, distance = random_case()
    keep = mask != IGNORE_INDEX
    expected = ((1 - logits.softmax(dim=1)[:, 0]) * distance)[keep].mean()
    torch.testing.assert_close(BoundaryLoss()(logits, mask, distance), expected)


def test_boundary_loss_is_least_for_the_truth_and_grows_with_the_shift() -> None:
    mask = torch.zeros(1, 16, 16, dtype=torch.int64)
    mask[:, 5:9, 5:9] = 1
    signed = torch.from_numpy(MAPS["signed"](mask[0].numpy(), IGNORE_INDEX))[None]
    losses = [
        BoundaryLoss()(100.0 * F.one_hot(mask.roll(shift, -1), 2).movedim(-1, 1), mask, signed).item()
        for shift in range(6)
    ]
    assert losses[0] < 0 and losses == sorted(losses) and len(set(losses)) == 6


# The composite


def test_terms_that_need_a_map_get_theirs_and_each_map_is_named_once() -> None:
    logits, mask, distance = random_case()
    terms = {"ce": CrossEntropyLoss(), "a": BoundaryLoss(), "b": BorderWeightedCELoss(), "c": BoundaryLoss()}
    loss = CompositeLoss(terms, dict.fromkeys(terms, 1.0))
    assert loss.map_names == ("signed", "border") and set(loss.map_names) <= MAPS.keys()
    assert CompositeLoss({"ce": CrossEntropyLoss()}, {"ce": 1.0}).map_names == ()
    values = loss(logits, mask, {"signed": distance, "border": distance + 1, "unused": distance})
    torch.testing.assert_close(values["a"], BoundaryLoss()(logits, mask, distance))
    torch.testing.assert_close(values["b"], BorderWeightedCELoss()(logits, mask, distance + 1))
    torch.testing.assert_close(values["loss"], values["ce"] + values["a"] + values["b"] + values["c"])


@pytest.mark.parametrize("maps", [None, {}, {"border": torch.zeros(2, 7, 9)}])
def test_a_missing_map_is_named(maps: dict[str, Tensor] | None) -> None:
    logits, mask, _ = random_case()
    with pytest.raises(ConfigError, match=r"distance map[\s\S]*map_names=\('signed',\)"):
        CompositeLoss({"boundary": BoundaryLoss()}, {"boundary": 1.0})(logits, mask, maps)


@pytest.mark.parametrize("loss", [BoundaryLoss(), BorderWeightedCELoss(), WeightedDiceLoss()])
def test_a_map_of_another_size_is_refused_and_every_map_exists(loss: nn.Module) -> None:
    logits, mask, distance = random_case()
    assert loss.map_name in MAPS
    with pytest.raises(ShapeError, match="distance map and mask do not fit"):
        loss(logits, mask, distance[:, None])


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: AGNDiceLoss(smooth=0.0), "smooth"),
        (lambda: JaccardLoss(smooth=-1.0), "smooth"),
        (lambda: RegionLoss(eps=0.0), "eps"),
        (lambda: ClDiceLoss(n_iterations=0), "n_iterations"),
        (lambda: BorderWeightedCELoss(w0=-1.0), "w0"),
        (lambda: BorderWeightedCELoss(sigma=0.0), "sigma"),
        (lambda: BorderWeightedCELoss(class_weights=(1.0, -1.0)), "class_weights"),
        (lambda: WeightedDiceLoss(w=-1.0), "w"),
        (lambda: WeightedDiceLoss(sigma=0.0), "sigma"),
    ],
)
def test_arguments_out_of_range_name_themselves(build: object, argument: str) -> None:
    with pytest.raises(ConfigError, match=f"loss.terms.<name>.{argument} "):
        build()
