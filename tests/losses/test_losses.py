"""Losses: hand cases, what ignored pixels may not do, invariances, precision."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.data.maps import MAPS, distance_maps
from seglab.errors import ConfigError, ShapeError
from seglab.losses.cldice import ClDiceLoss
from seglab.losses.composite import CompositeLoss
from seglab.losses.distance import BorderWeightedCELoss, BoundaryLoss, WeightedDiceLoss
from seglab.losses.jaccard import JaccardLoss
from seglab.losses.overlap import AGNDiceLoss, DiceLoss, FocalTverskyLoss, TverskyLoss
from seglab.losses.pixelwise import CrossEntropyLoss, FocalLoss, L1Loss
from seglab.losses.region import RegionLoss
from seglab.spec import IGNORE_INDEX


class WithMap(nn.Module):
    """A loss that needs a distance map, called as the others are: the map comes from the mask."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        make = MAPS[self.loss.map_name]
        maps = [torch.from_numpy(make(one.numpy(), IGNORE_INDEX)) for one in mask] if mask.ndim > 2 else list(mask)
        return self.loss(logits, mask, torch.stack(maps))


NO_SMOOTH = 1e-12
LOSSES = {
    "dice": DiceLoss(),
    "dice_with_background": DiceLoss(include_background=True),
    "dice_squared": DiceLoss(squared=True),
    "dice_per_sample": DiceLoss(per_sample=True),
    "tversky": TverskyLoss(),
    "focal_tversky": FocalTverskyLoss(),
    "ce": CrossEntropyLoss(),
    "ce_weighted_smoothed": CrossEntropyLoss(class_weights=(0.2, 1.0, 2.0), label_smoothing=0.1),
    "focal": FocalLoss(),
    "focal_weighted": FocalLoss(gamma=0.5, alpha=(0.25, 0.5, 1.0)),
    "agn_dice": AGNDiceLoss(),
    "tanimoto": JaccardLoss(squared=True),
    "jaccard_with_background": JaccardLoss(squared=False, include_background=True, per_sample=True),
    "l1": L1Loss(),
    "region": RegionLoss(),
    "cldice": ClDiceLoss(n_iterations=2),
    "cldice_with_background": ClDiceLoss(n_iterations=1, include_background=True),
    "border_ce": WithMap(BorderWeightedCELoss(class_weights=(0.2, 1.0, 2.0))),
    "weighted_dice": WithMap(WeightedDiceLoss(w=2.0, sigma=1.0)),
    "boundary": WithMap(BoundaryLoss()),
}
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def hand_case() -> tuple[Tensor, Tensor]:
    """Foreground probabilities 0.9, 0.8, 0.2, 0.1 for the truth 1, 1, 0, 0."""
    foreground = torch.logit(torch.tensor([[0.9, 0.8], [0.2, 0.1]]))
    return torch.stack([torch.zeros(2, 2), foreground])[None], torch.tensor([[[1, 1], [0, 0]]])


def random_case(*, spatial: tuple[int, ...] = (6, 5), dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, *spatial, generator=generator, dtype=dtype)
    mask = torch.randint(0, 3, (2, *spatial), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE_INDEX
    return logits, mask


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (DiceLoss(smooth=NO_SMOOTH), 1 - 0.85),
        (DiceLoss(smooth=1.0), 1 - 0.88),
        (DiceLoss(smooth=NO_SMOOTH, squared=True), 1 - 0.971429),
        (DiceLoss(smooth=NO_SMOOTH, include_background=True), 1 - 0.85),
        (TverskyLoss(alpha=0.25, beta=0.75, smooth=1.0), 1 - 0.9),
        (FocalTverskyLoss(), 0.177828),
        (CrossEntropyLoss(), 0.164252),
        (FocalLoss(gamma=0.0), 0.164252),
        # (0.1^2 ln(1/0.9) + 0.2^2 ln(1/0.8)) / 2
        (FocalLoss(gamma=2.0), (0.01 * 0.1053605 + 0.04 * 0.2231436) / 2),
    ],
)
def test_hand_cases(loss: nn.Module, expected: float) -> None:
    assert loss(*hand_case()).item() == pytest.approx(expected, abs=1e-6)


def test_gradient_of_squared_dice_is_the_closed_form_of_vnet() -> None:
    logits, mask = hand_case()
    logits.requires_grad_()
    DiceLoss(smooth=NO_SMOOTH, squared=True)(logits, mask).backward()
    p = logits.detach().softmax(dim=1)[0, 1].flatten()
    by_probability = torch.tensor([0.071837, 0.127347, -0.111020, -0.055510])
    torch.testing.assert_close(logits.grad[0, 1].flatten(), -by_probability * p * (1 - p), atol=1e-6, rtol=1e-4)


@EVERY_LOSS
def test_logits_of_ignored_pixels_change_neither_value_nor_gradient(loss: nn.Module) -> None:
    logits, mask = random_case()
    ignored = (mask == IGNORE_INDEX).unsqueeze(1).expand_as(logits)
    other = torch.where(ignored, 50 * torch.randn_like(logits), logits)
    values = [loss(given.requires_grad_(), mask) for given in (logits, other)]
    sum(values).backward()
    assert torch.equal(*values)
    assert torch.equal(logits.grad, other.grad)
    assert logits.grad[ignored].eq(0).all() and logits.grad[~ignored].ne(0).any()


@EVERY_LOSS
def test_only_ignored_pixels_give_zero_loss_and_zero_gradient(loss: nn.Module) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 4), IGNORE_INDEX))
    value.backward()
    assert value.item() == 0
    assert logits.grad.eq(0).all()


@EVERY_LOSS
@pytest.mark.parametrize("label", [0, 2])
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_absent_classes_and_perfect_or_extreme_logits_stay_finite(loss: nn.Module, label: int, scale: float) -> None:
    mask = torch.full((1, 4, 4), label)
    logits = (scale * F.one_hot(mask, 3).movedim(-1, 1)).requires_grad_()
    for sign in (1, -1):
        value = loss(sign * logits, mask)
        value.backward()
        assert value.isfinite() and logits.grad.isfinite().all()


@EVERY_LOSS
def test_gradient_is_the_numerical_one_in_float64(loss: nn.Module) -> None:
    logits, mask = random_case(spatial=(3, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), logits.requires_grad_())


@EVERY_LOSS
def test_half_logits_are_worked_on_in_float32_also_under_autocast(loss: nn.Module) -> None:
    logits, mask = random_case()
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, mask)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(half.float(), mask))


@EVERY_LOSS
def test_flipping_or_adding_an_axis_changes_nothing(loss: nn.Module) -> None:
    logits, mask = random_case()
    expected = loss(logits, mask)
    torch.testing.assert_close(loss(logits.flip(-1), mask.flip(-1)), expected)
    torch.testing.assert_close(loss(logits.unsqueeze(2), mask.unsqueeze(1)), expected)


@pytest.mark.parametrize(
    "name",
    [
        "dice_with_background",
        "ce",
        "focal",
        "agn_dice",
        "jaccard_with_background",
        "l1",
        "region",
        "cldice_with_background",
    ],
)
def test_renaming_classes_changes_nothing(name: str) -> None:
    logits, mask = random_case()
    order = torch.tensor([2, 0, 1])  # new class of each old one
    renamed = torch.where(mask == IGNORE_INDEX, mask, order[mask.clamp(max=2)])
    permuted = torch.empty_like(logits).index_copy_(1, order, logits)
    torch.testing.assert_close(LOSSES[name](permuted, renamed), LOSSES[name](logits, mask))


@pytest.mark.parametrize("loss", [DiceLoss(), TverskyLoss(alpha=0.5, beta=0.5)], ids=["dice", "tversky"])
def test_absent_class_scores_one_when_not_predicted_and_zero_when_predicted(loss: nn.Module) -> None:
    mask = torch.zeros(1, 32, 32, dtype=torch.int64)
    foreground = torch.zeros(1, 2, 32, 32).index_fill_(1, torch.tensor([1]), 50.0)
    assert loss(-foreground, mask).item() == pytest.approx(0, abs=1e-6)
    assert loss(foreground, mask).item() == pytest.approx(1, abs=0.01)


def test_pooled_dice_weighs_pixels_and_per_sample_dice_weighs_samples() -> None:
    mask = torch.zeros(2, 1, 4, dtype=torch.int64)
    mask[0, 0, :3], mask[1, 0, :1] = 1, 1
    certain = 100.0 * F.one_hot(torch.stack([mask[0], torch.zeros_like(mask[1])]), 2).movedim(-1, 1)
    assert DiceLoss(smooth=NO_SMOOTH)(certain, mask).item() == pytest.approx(1 - 6 / 7)  # 3 of 4 pixels found
    assert DiceLoss(smooth=NO_SMOOTH, per_sample=True)(certain, mask).item() == pytest.approx(0.5)  # 1 and 0


def test_a_fully_ignored_sample_is_no_sample() -> None:
    logits, mask = random_case()
    mask[1] = IGNORE_INDEX
    torch.testing.assert_close(DiceLoss(per_sample=True)(logits, mask), DiceLoss()(logits[:1], mask[:1]))


@pytest.mark.parametrize("weights", [None, (0.2, 1.0, 2.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch_where_torch_has_a_value(
    weights: tuple[float, ...] | None, smoothing: float
) -> None:
    logits, mask = random_case()
    expected = F.cross_entropy(
        logits,
        mask,
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=IGNORE_INDEX,
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(
        CrossEntropyLoss(class_weights=weights, label_smoothing=smoothing)(logits, mask), expected
    )


def test_class_weights_are_no_part_of_a_checkpoint() -> None:
    assert CrossEntropyLoss(class_weights=(1.0, 2.0)).state_dict() == {}


@EVERY_LOSS
@pytest.mark.parametrize(
    ("logits", "mask"),
    [((2, 1, 4, 4), (2, 4, 4)), ((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4, 4), (2, 1, 4, 4)), ((2, 3), (2,))],
)
def test_one_class_or_differing_sizes_are_refused(
    loss: nn.Module, logits: tuple[int, ...], mask: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match="logits and mask do not fit"):
        loss(torch.zeros(logits), torch.zeros(mask, dtype=torch.int64))


def test_a_wrong_number_of_class_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 values of class_weights, 3 classes"):
        CrossEntropyLoss(class_weights=(1.0, 2.0))(*random_case())


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: DiceLoss(smooth=0.0), "smooth"),
        (lambda: TverskyLoss(alpha=-0.1), "alpha"),
        (lambda: TverskyLoss(alpha=0.0, beta=0.0), "beta"),
        (lambda: FocalTverskyLoss(gamma=0.0), "gamma"),
        (lambda: CrossEntropyLoss(label_smoothing=1.0), "label_smoothing"),
        (lambda: CrossEntropyLoss(class_weights=(1.0, -1.0)), "class_weights"),
        (lambda: FocalLoss(gamma=-1.0), "gamma"),
        (lambda: FocalLoss(alpha=()), "alpha"),
    ],
)
def test_arguments_out_of_range_name_themselves(build: object, argument: str) -> None:
    with pytest.raises(ConfigError, match=f"loss.terms.<name>.{argument}"):
        build()


def test_composite_loss_is_the_weighted_sum_and_reports_unweighted_terms() -> None:
    logits, mask = random_case()
    values = CompositeLoss({"dice": DiceLoss(), "ce": CrossEntropyLoss()}, {"ce": 0.5, "dice": 2.0})(logits, mask)
    assert list(values) == ["loss", "dice", "ce"]
    torch.testing.assert_close(values["dice"], DiceLoss()(logits, mask))
    torch.testing.assert_close(values["loss"], 2.0 * values["dice"] + 0.5 * values["ce"])


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        (["dice"], {"dcie": 1.0}, "loss.weights.dice=1.0"),
        (["dice", "ce"], {"dice": 1.0}, "loss.weights.ce=1.0"),
        (["dice"], {"dice": -1.0}, "dice=-1.0"),
        (["dice"], {"dice": 0.0}, "at least one above 0"),
        (["loss"], {"loss": 1.0}, 'none called "loss"'),
        ([], {}, "at least one term"),
    ],
)
def test_composite_loss_refuses_names_and_weights_that_do_not_fit(
    terms: list[str], weights: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CompositeLoss({name: DiceLoss() for name in terms}, weights)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "conf/loss").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_loss_config_builds_and_falls_where_the_prediction_is_right(file: Path) -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    loss = instantiate(OmegaConf.load(file), _convert_="all")
    mask = torch.randint(0, 3, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    right = 5.0 * F.one_hot(mask, 3).movedim(-1, 1)
    maps = {name: distance[None] for name, distance in distance_maps(mask[0], loss.map_names).items()}
    assert loss(right, mask, maps)["loss"] < loss(-right, mask, maps)["loss"]
