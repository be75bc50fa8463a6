"""SegmentationTask: any size in, the same size out; ignored pixels change nothing; it can learn a batch by heart."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from parts import make_parts, make_spec, small_unet
from torch import Tensor, nn

from seglab.data.crack import CrackData
from seglab.errors import ShapeError
from seglab.metrics.confusion import count
from seglab.metrics.report import scores
from seglab.nets.attention_unet import AttentionUNet
from seglab.nets.base import SegmentationNet
from seglab.nets.dcunet import DCUNet
from seglab.nets.unet import UNet
from seglab.spec import IGNORE_INDEX, DataSpec
from seglab.task.ranks import average_buffers, derive_seed, gather
from seglab.task.segmentation import SegmentationTask
from seglab.task.sizes import crop_to, pad_to


def make_task(net: SegmentationNet, spec: DataSpec, **options: Any) -> SegmentationTask:
    return SegmentationTask(make_parts(net, spec, **options))


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (16, 16), (17, 31), (33, 250)])
@pytest.mark.parametrize("options", [{"norm": "batch"}, {"padding": "valid", "n_poolings": 2}])
def test_logits_have_the_size_of_the_image_whatever_it_is(size: tuple[int, int], options: dict[str, Any]) -> None:
    spec = make_spec()
    task = make_task(small_unet(spec, **options), spec).eval()
    assert task(torch.randn(2, 1, *size)).shape == (2, 3, *size)


def test_logits_of_a_volume_have_its_size() -> None:
    spec = make_spec(dims=3)
    assert make_task(small_unet(spec), spec).eval()(torch.randn(1, 1, 5, 17, 20)).shape == (1, 3, 5, 17, 20)


def test_an_image_of_other_channels_is_refused() -> None:
    spec = make_spec()
    with pytest.raises(ShapeError):
        make_task(small_unet(spec), spec)(torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("size", [(1, 1), (5, 4), (6, 9)])
@pytest.mark.parametrize("wanted", [(6, 9), (16, 32), (7, 100)])
def test_cropping_undoes_padding(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size)
    wanted = (max(wanted[0], size[0]), max(wanted[1], size[1]))
    padded = pad_to(image, wanted)
    assert padded.shape == (2, 3, *wanted) and torch.equal(crop_to(padded, size), image)


def test_padding_mirrors_evenly_and_repeats_the_border_where_it_cannot_mirror() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert pad_to(row.expand(1, 1, 2, 3), (2, 6))[0, 0, 0].tolist() == [2, 1, 2, 3, 2, 1]
    assert pad_to(row, (1, 10))[0, 0, 0].tolist() == [1, 1, 1, 1, 2, 3, 3, 3, 3, 3]
    volume = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert torch.equal(crop_to(pad_to(volume, (5, 8, 16)), (2, 2, 2)), volume)


@pytest.mark.parametrize("dims", [2, 3])
def test_loss_and_every_gradient_are_finite(dims: int) -> None:
    spec = make_spec(dims)
    task = make_task(small_unet(spec, norm="batch", n_poolings=2), spec)
    size = (2, *(16,) * dims)
    loss = task.loss(task(torch.randn(2, 1, *size[1:])), torch.randint(0, 3, size))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in task.net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_what_is_predicted_on_ignored_pixels_changes_no_loss_gradient_or_score() -> None:
    spec, mask = make_spec(), torch.randint(0, 3, (1, 8, 8))
    mask[:, :3] = IGNORE_INDEX
    task = make_task(small_unet(spec), spec)
    first = torch.randn(1, 3, 8, 8)
    second = first.clone()
    second[:, :, :3] = 100 * torch.randn(1, 3, 3, 8)
    grads, losses, counts = [], [], []
    for logits in (first.requires_grad_(), second.requires_grad_()):
        losses.append(task.loss(logits, mask)["loss"])
        losses[-1].backward()
        grads.append(logits.grad)
        counts.append(count(logits.argmax(1), mask, 3))
    assert torch.equal(losses[0], losses[1]) and torch.equal(counts[0], counts[1])
    assert torch.equal(grads[0][:, :, 3:], grads[1][:, :, 3:]) and not grads[0][:, :, :3].any()


def test_labels_of_a_case_are_those_of_the_largest_logit() -> None:
    spec = make_spec()
    task = make_task(small_unet(spec, norm="batch"), spec).eval()
    image = torch.randn(1, 1, 37, 50)  # (C, D, H, W)
    labels = task.predict_labels(image)
    assert labels.shape == (1, 37, 50) and labels.dtype == torch.uint8
    assert torch.equal(labels[0].long(), task(image[None, :, 0])[0].argmax(0))


def test_alone_nothing_is_averaged_or_gathered() -> None:
    net = nn.BatchNorm2d(2)
    net(torch.randn(4, 2, 3, 3))
    before = {name: value.clone() for name, value in net.named_buffers()}
    average_buffers(net)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    rows = [{"case": "a"}]
    assert gather(rows) is rows


def test_sums_of_an_epoch_are_taken_up_on_the_device_that_the_task_is_on() -> None:
    spec = make_spec()
    task = make_task(small_unet(spec), spec)
    task.train_loss.update(3.0, 2)
    checkpoint: dict[str, Any] = {}
    task.on_save_checkpoint(checkpoint)
    other = make_task(small_unet(spec), spec)
    other.trainer = SimpleNamespace(world_size=1, global_rank=0)  # type: ignore[assignment]  # all that is asked of it
    other.on_load_checkpoint(checkpoint)
    assert other.train_loss.compute() == 3.0
    other._device = torch.device("meta")  # where FSDP has put it before it loads
    other.on_load_checkpoint(checkpoint)
    assert {value.device.type for value in other.train_loss.metric_state.values()} == {"meta"}


def test_seeds_are_fixed_numbers_and_differ_by_step_and_rank() -> None:
    assert derive_seed(0, 1, 2, 3) == 7125020806537731205
    seeds = {derive_seed(0, epoch, batch, rank) for epoch in range(5) for batch in range(5) for rank in range(3)}
    assert len(seeds) == 75 and all(0 <= seed < 2**63 for seed in seeds)


def test_the_names_of_all_validation_metrics_are_known_before_training() -> None:
    spec = make_spec()
    names = make_task(small_unet(spec), spec).metric_names()
    assert {"val/dice/thing", "val/dice/mean", "val/iou/background", "val/accuracy", "val/loss"} <= set(names)
    volume = make_spec(dims=3)
    assert "val/loss" not in make_task(small_unet(volume), volume).metric_names()


def batch_of_cracks(crack_root: Any, cache_dir: Any) -> dict[str, Tensor]:
    data = CrackData(root=str(crack_root), cache_dir=str(cache_dir), patch_size=[96, 96], num_workers=0, batch_size=2)
    data.foreground_fraction = 1.0
    return next(iter(data.load().train_dataloader()))


@pytest.mark.parametrize(
    ("net", "n_steps"),
    [
        (lambda **size: UNet(base_channels=8, n_poolings=3, norm="batch", **size), 120),
        pytest.param(lambda **size: AttentionUNet(base_channels=8, **size), 200, marks=pytest.mark.slow),
        pytest.param(lambda **size: DCUNet(base_channels=8, **size), 200, marks=pytest.mark.slow),
    ],
    ids=["UNet", "AttentionUNet", "DCUNet"],
)
def test_the_real_network_learns_one_batch_by_heart(net: Any, n_steps: int, crack_root: Any, cache_dir: Any) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    batch = batch_of_cracks(crack_root, cache_dir)
    task = make_task(net(in_channels=3, num_classes=2, spatial_dims=2), make_spec(channels=3))
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    n_held = 0
    for _ in range(n_steps):
        optimizer.zero_grad()
        logits = task(batch["image"])
        dice = scores(count(logits.argmax(1), batch["mask"], 2), ("background", "crack"), has_background=True)
        n_held = n_held + 1 if dice["dice/crack"] > 0.95 else 0
        if n_held == 10:  # in a row: it does not fall back
            break
        task.loss(logits, batch["mask"].long())["loss"].backward()
        optimizer.step()
    assert dice["dice/crack"] > 0.95
    assert np.isfinite(float(logits.detach().abs().max()))
