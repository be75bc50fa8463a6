"""LabelEncodingTask: the network sees the mask, one channel per foreground class, and learns to give it back."""

import pytest
import torch
from parts import make_batch, make_parts, make_spec
from torch import Tensor

from seglab.metrics.confusion import count
from seglab.metrics.report import scores
from seglab.nets.bsunet import EncodingUNet
from seglab.spec import IGNORE_INDEX, DataSpec
from seglab.task.label_encoding import LabelEncodingTask, encode_labels


def make_task(spec: DataSpec) -> LabelEncodingTask:
    torch.manual_seed(0)
    net = EncodingUNet(**LabelEncodingTask.net_arguments(spec), base_channels=2)
    return LabelEncodingTask(make_parts(net, spec))


def test_the_mask_becomes_a_channel_for_each_class_but_the_first() -> None:
    mask = torch.tensor([[[0, 1, 2], [2, 1, IGNORE_INDEX]]])  # (1, 2, 3), a batch of one slice or a case of depth one
    thing, other = [[0, 1, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]]
    assert encode_labels(mask, 3, class_axis=1).tolist() == [[thing, other]]  # (N, C, H, W)
    assert encode_labels(mask, 3, class_axis=0).tolist() == [[thing], [other]]  # (C, D, H, W)


@pytest.mark.parametrize("dims", [2, 3])
def test_batches_and_whole_cases_are_encoded_with_ignored_pixels_as_background(dims: int) -> None:
    spec = make_spec(dims, channels=5)
    task, batch = make_task(spec), make_batch(spec, (16, 24, 20)[:dims])
    batch["mask"][:, :3] = IGNORE_INDEX
    seen = task.prepare(batch)
    assert seen["image"].shape == (2, 2, *(16, 24, 20)[:dims]) and seen["image"].dtype == torch.float32
    assert torch.equal(seen["mask"], batch["mask"]) and seen["case"] == batch["case"]
    for label in (1, 2):
        assert torch.equal(seen["image"][:, label - 1], (batch["mask"] == label).float())
    case = {"image": torch.rand(5, 4, 16, 20), "mask": torch.randint(0, 3, (4, 16, 20)), "case": "one"}
    whole = task.prepare(case)["image"]
    assert whole.shape == (2, 4, 16, 20) and torch.equal(whole[1], (case["mask"] == 2).float())
    assert task.eval().predict_labels(whole).shape == (4, 16, 20)


def test_the_network_has_a_channel_per_foreground_class_whatever_the_images_have() -> None:
    spec = make_spec(channels=4, num_classes=4)
    assert LabelEncodingTask.net_arguments(spec) == {"in_channels": 3, "num_classes": 4, "spatial_dims": 2}
    assert make_task(spec).net.in_channels == 3 and not LabelEncodingTask.labels_images


def discs(n: int, size: int) -> Tensor:
    """Label maps (n, size, size) of a disc at some place with a smaller one inside."""
    generator, axis = torch.Generator().manual_seed(0), torch.arange(size)
    centre = size * (0.3 + 0.4 * torch.rand(n, 2, generator=generator))
    radius = size * (0.2 + 0.1 * torch.rand(n, 1, 1, generator=generator))
    distance = (
        (axis[:, None] - centre[:, :1, None]) ** 2 + (axis - centre[:, 1:, None]) ** 2
    ).sqrt()  # (n, size, size)
    return (distance < radius).long() + (distance < radius / 2).long()


def worst_dice(logits: Tensor, masks: Tensor, spec: DataSpec) -> float:
    values = scores(count(logits.argmax(1), masks, spec.num_classes), spec.class_names, has_background=True)
    return min(values[f"dice/{name}"] for name in spec.class_names)


@pytest.mark.parametrize(("num_classes", "n"), [(2, 2), pytest.param(3, 8, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_label_maps_are_reproduced_within_a_few_hundred_steps(num_classes: int, n: int) -> None:
    torch.set_num_threads(1)
    spec, masks = make_spec(num_classes=num_classes), discs(n, 32).clamp(max=num_classes - 1)
    task = make_task(spec).train()
    batch = task.prepare({"image": torch.zeros(n, 1, 32, 32), "mask": masks, "case": ["a"] * n})
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        logits = task(batch["image"])
        if worst_dice(logits, masks, spec) > 0.95:
            return
        task.loss(logits, masks)["loss"].backward()
        optimizer.step()
    raise AssertionError("not learned")
