"""Sliding windows: an identity predictor over odd sizes and overlaps, coverage, MONAI's labels, ill arguments."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seglab.errors import ConfigError, ShapeError
from seglab.inference.labels import labels_from_logits
from seglab.inference.windows import SlidingWindow, TensorRows, window_starts


def identity(batch: Tensor) -> Tensor:
    return batch


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [8, 9, 13, 16, 31, 64])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("blending", ["gaussian", "flat"])
def test_identity_comes_back_along_one_axis(length: int, overlap: float, blending: Any) -> None:
    image = seeded(2, length)
    logits = SlidingWindow(overlap=overlap, batch_size=3, blending=blending)(image, identity, window=(8,))
    torch.testing.assert_close(logits, image)


@pytest.mark.parametrize(
    ("spatial", "window"),
    [((17, 23), (8, 8)), ((5, 40), (8, 16)), ((40, 5), (16, 8)), ((9, 10, 11), (4, 5, 6)), ((6, 20, 7), (64, 8, 7))],
)
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_identity_comes_back_in_two_and_three_dimensions(
    spatial: tuple[int, ...], window: tuple[int, ...], batch_size: int
) -> None:
    image = seeded(3, *spatial)
    torch.testing.assert_close(SlidingWindow(batch_size=batch_size)(image, identity, window=window), image)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_memory_layout_of_logits_changes_no_bit_even_within_an_image(weighted: bool) -> None:
    image, sliding = TensorRows(seeded(3, 13, 20, 18)), SlidingWindow(batch_size=2)
    layouts = [torch.contiguous_format, torch.channels_last_3d]

    def logits(*turns: int) -> Tensor:
        order = iter(turns * 100)

        def network(batch: Tensor) -> Tensor:
            return (batch * 3).contiguous(memory_format=layouts[next(order)])

        slabs = sliding.slabs(image, network, window=(6, 8, 8), weighted=weighted)
        return torch.cat([slab.clone() for slab in slabs], dim=1)

    assert all(torch.equal(logits(*turns), logits(0)) for turns in ((1,), (0, 1), (1, 0)))


@pytest.mark.parametrize("length", range(7, 40))
@pytest.mark.parametrize("step", [1, 3, 7])
def test_windows_cover_every_pixel_and_end_with_the_image(length: int, step: int) -> None:
    starts = window_starts(length, 7, step)
    covered = {pixel for start in starts for pixel in range(start, start + 7)}
    assert covered == set(range(length))
    assert starts == sorted(set(starts)) and starts[-1] == length - 7


def test_windows_are_whole_and_batches_are_no_larger_than_asked() -> None:
    seen: list[tuple[int, ...]] = []

    def record(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape))
        return batch

    SlidingWindow(batch_size=4)(seeded(1, 20, 5), record, window=(8, 8))
    assert seen == [(1, 1, 8, 5)] * 4
    seen.clear()
    SlidingWindow(batch_size=4)(seeded(1, 8, 28), record, window=(8, 8))
    assert seen == [(4, 1, 8, 8), (2, 1, 8, 8)]


@pytest.mark.parametrize("spatial", [(8, 8), (5, 7)])
def test_a_single_window_is_the_direct_forward_to_the_bit(spatial: tuple[int, int]) -> None:
    net, image = nn.Conv2d(2, 3, 3, padding=1), seeded(2, *spatial)
    with torch.no_grad():
        assert torch.equal(SlidingWindow()(image, net, window=(8, 8)), net(image[None])[0])


def test_neighbouring_windows_meet_half_way_and_the_nearer_one_weighs_more() -> None:
    values = iter([0.0, 1.0, 2.0])
    logits = SlidingWindow(batch_size=1)(
        torch.zeros(1, 32), lambda batch: torch.full_like(batch, next(values)), window=(16,)
    )[0]
    assert logits[:8].eq(0).all() and logits[24:].eq(2).all()
    assert logits[11] < 0.5 < logits[12] and logits[11] + logits[12] == pytest.approx(1)


def test_slabs_come_in_order_and_are_no_deeper_than_a_window() -> None:
    image = seeded(2, 29, 6, 6)
    slabs = list(SlidingWindow().slabs(TensorRows(image), identity, window=(8, 4, 4)))
    assert [slab.shape[1] for slab in slabs] == [4, 4, 4, 4, 4, 1, 3, 5]
    torch.testing.assert_close(torch.cat(slabs, dim=1), image)


def test_half_logits_are_summed_in_float32() -> None:
    image = seeded(1, 40)
    logits = SlidingWindow()(image, lambda batch: batch.bfloat16(), window=(8,))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, image.bfloat16().float())


def test_no_gradient_is_kept_and_a_cached_weight_serves_in_and_out_of_inference_mode() -> None:
    net, image = nn.Conv2d(1, 2, 1), seeded(1, 21, 21)
    with torch.inference_mode():
        inside = SlidingWindow()(image, net, window=(11, 11))
    outside = SlidingWindow()(image, net, window=(11, 11))
    assert not outside.requires_grad
    assert torch.equal(inside, outside)


def test_own_window_goes_before_the_callers() -> None:
    assert SlidingWindow(window=(4, 6)).window_for((5, 5), (32, 32)) == (4, 5)
    assert SlidingWindow().window_for((50, 50), (32, 32)) == (32, 32)


@pytest.mark.parametrize(("spatial", "window"), [((61, 75), (32, 32)), ((40, 33, 50), (16, 16, 24))])
@pytest.mark.parametrize("blending", ["gaussian", "flat"])
def test_labels_equal_those_of_monai(spatial: tuple[int, ...], window: tuple[int, ...], blending: Any) -> None:
    inferers = pytest.importorskip("monai.inferers", reason="monai is not installed")
    torch.manual_seed(0)
    conv = nn.Conv2d if len(spatial) == 2 else nn.Conv3d
    net = nn.Sequential(conv(1, 8, 3, padding=1), nn.ReLU(), conv(8, 3, 3, padding=1)).requires_grad_(False)
    image = seeded(1, *spatial)
    ours = labels_from_logits(SlidingWindow(blending=blending)(image, net, window=window)[None])
    # MONAI's own map is raised to 1e-3 where the product of the axes is less, in the corners; the rest is alike.
    weight = gaussian_product(window) if blending == "gaussian" else None
    theirs = inferers.sliding_window_inference(image[None], window, 4, net, overlap=0.5, roi_weight_map=weight)
    assert (ours == theirs.argmax(dim=1)).float().mean() >= 0.9999


def gaussian_product(window: tuple[int, ...]) -> Tensor:
    grid = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in window], indexing="ij")
    return torch.exp(-sum((x / (n / 8)) ** 2 for x, n in zip(grid, window, strict=True)) / 2)


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"overlap": 1.0}, "inference.overlap"),
        ({"overlap": -0.1}, "inference.overlap"),
        ({"batch_size": 0}, "inference.batch_size"),
        ({"blending": "gauss"}, "inference.blending"),
        ({"window": (0, 8)}, "inference.window"),
        ({"window": ()}, "inference.window"),
    ],
)
def test_ill_arguments_name_themselves(arguments: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        SlidingWindow(**arguments)


@pytest.mark.parametrize("window", [(8, 8, 8), (8,), (0, 8)])
def test_a_window_of_other_dimensions_than_the_image_is_refused(window: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="2 sizes from 1 up"):
        SlidingWindow()(seeded(1, 16, 16), identity, window=window)


@pytest.mark.parametrize("length", [8, 20])
def test_logits_of_another_size_than_their_window_are_refused(length: int) -> None:
    with pytest.raises(ShapeError, match="do not cover"):
        SlidingWindow()(seeded(1, length, length), lambda batch: batch[..., 1:], window=(8, 8))


def test_the_shipped_configuration_builds() -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    file = Path(__file__).parents[2] / "conf/inference/sliding_window.yaml"
    built = instantiate(OmegaConf.load(file), _convert_="all")
    assert (built.window, built.overlap, built.batch_size, built.blending) == (None, 0.5, 4, "gaussian")
