"""Views at test time, constant windows, context beyond windows: what comes back is what a plain pass would give."""

import pytest
import torch
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.inference.cases import CasePredictor, TensorCase, entropy_of
from seglab.inference.network import WindowNetwork
from seglab.inference.tta import Views
from seglab.inference.windows import SlidingWindow
from seglab.nets.unet import UNet


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dims", "flips", "rotations", "n"), [
    (2, True, False, 4), (2, False, True, 4), (2, True, True, 8), (3, True, False, 8), (3, True, True, 16),
])  # fmt: skip
def test_each_symmetry_is_seen_once_and_turned_back(dims: int, flips: bool, rotations: bool, n: int) -> None:
    batch, seen = seeded(1, 2, *(4, 5, 6)[-dims:]), []

    def identity(view: Tensor) -> Tensor:
        seen.append(tuple(view.flatten().tolist()))
        return view

    probs = Views(flips, rotations)(identity, identity)(batch).exp()
    torch.testing.assert_close(probs, batch.softmax(dim=1))
    assert len(seen) == len(set(seen)) == n


def test_probabilities_are_averaged_not_logits() -> None:
    logits = iter([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])])

    def answer(view: Tensor) -> Tensor:
        return next(logits).view(1, 2, 1, 1).expand(1, 2, *view.shape[2:])

    views = Views(scales=[1.0, 2.0])
    probs = views(answer, answer)(torch.zeros(1, 1, 4, 4)).exp()[0, :, 0, 0]
    expected = (torch.tensor([2.0, 0.0]).softmax(0) + torch.tensor([0.0, 4.0]).softmax(0)) / 2
    torch.testing.assert_close(probs, expected)


@pytest.mark.parametrize("scales", [[], [0.0], [5.0]])
def test_scales_out_of_range_are_refused(scales: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"inference\.tta\.scales"):
        Views(scales=scales)


def test_constant_windows_are_predicted_once_and_the_logits_are_the_same() -> None:
    net, seen = nn.Conv2d(1, 3, 3, padding=1).requires_grad_(False), []
    image = torch.zeros(1, 64, 64)
    image[:, 40:, 40:] = seeded(1, 24, 24)

    def counted(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return net(batch)

    expected = SlidingWindow()(image, counted, window=(16, 16))
    n_windows, _ = sum(seen), seen.clear()
    found = SlidingWindow(skip_constant=True)(image, counted, window=(16, 16))
    torch.testing.assert_close(found, expected)
    assert (n_windows, sum(seen)) == (49, 10)  # 3x3 windows touch the content


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_of_a_valid_network_see_the_image_around_them(dims: int) -> None:
    net = UNet(in_channels=1, num_classes=2, spatial_dims=dims, base_channels=2, n_poolings=1, padding="valid").eval()
    network = WindowNetwork(net, input_size=net.input_size_for)
    image = seeded(1, *(22, 40, 44)[-dims:])
    whole = SlidingWindow()(image, network, window=(64,) * dims)
    tiles = SlidingWindow(overlap=0.0)(image, network, window=(12,) * dims)
    assert whole.shape == (2, *image.shape[1:])
    inside = tuple(slice(18, -18) if n > 36 else slice(None) for n in image.shape[1:])
    torch.testing.assert_close(whole[:, *inside], tiles[:, *inside], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "window"), [(2, (64, 64)), (2, (8, 8)), (3, (4, 8, 8))])
def test_parts_hold_probabilities_and_entropy_of_the_blended_logits(dims: int, window: tuple[int, ...]) -> None:
    image = seeded(3, 5, 20, 13)
    case = CasePredictor(
        lambda batch: batch, spatial_dims=dims, n_slices=1, sliding_window=SlidingWindow(), window=window
    )
    probs, labels = torch.zeros(image.shape), torch.zeros(image.shape[1:])
    for part in case.parts(TensorCase(image), probs=True, entropy=True):
        place = (slice(*part.depth), slice(*part.height))
        probs[:, *place], labels[place] = part.probs.float(), part.labels.float()
        torch.testing.assert_close(part.entropy.float(), entropy_of(part.probs.float()), rtol=0, atol=2e-3)
    torch.testing.assert_close(probs, image.softmax(dim=0), rtol=0, atol=1e-3)
    assert torch.equal(labels.long(), image.argmax(dim=0))


def test_entropy_is_0_when_certain_and_1_when_all_classes_are_alike() -> None:
    assert entropy_of(torch.tensor([[1.0, 0.25], [0.0, 0.25], [0.0, 0.25], [0.0, 0.25]])).tolist() == [0.0, 1.0]
