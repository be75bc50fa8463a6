"""The noise of a training step: decided by its place in the training, different on each process."""

import random

import numpy as np
import torch
from parts import make_batch, make_parts, make_spec, small_unet

from seglab.task.ranks import seed_chance
from seglab.task.segmentation import SegmentationTask

SPEC = make_spec()


class SecondRank(SegmentationTask):
    """The task as the second process has it."""

    global_rank = 1  # type: ignore[assignment]


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def noise_of(task: SegmentationTask, batch_idx: int) -> tuple[float, float, float]:
    task.on_train_batch_start(make_batch(SPEC), batch_idx)
    return draws()


def test_a_step_draws_the_same_whatever_was_drawn_before() -> None:
    task = SegmentationTask(make_parts(small_unet(SPEC), SPEC))
    first = noise_of(task, 3)
    draws()
    torch.manual_seed(99)
    assert noise_of(task, 3) == first


def test_steps_seeds_and_processes_draw_differently_from_every_source() -> None:
    parts = make_parts(small_unet(SPEC), SPEC)
    tasks = [SegmentationTask(parts), SegmentationTask(make_parts(small_unet(SPEC), SPEC, seed=1)), SecondRank(parts)]
    found = [noise_of(task, batch_idx) for task in tasks for batch_idx in (0, 1)]
    assert all(len(set(values)) == 6 for values in zip(*found, strict=True))


def test_dropout_of_a_step_is_the_same_after_a_validation() -> None:
    task = SegmentationTask(make_parts(small_unet(SPEC, dropout=0.5), SPEC)).train()
    batch, losses = make_batch(SPEC), []
    for _ in range(2):
        task.on_train_batch_start(batch, 0)
        losses.append(task.training_losses(batch)["loss"])
        task.eval()
        task.validation_step(batch, 0)
        task.train()
    assert torch.equal(*losses)


def test_any_seed_of_63_bits_is_taken() -> None:
    for seed in (0, 2**32, 2**63 - 1):
        seed_chance(seed)
