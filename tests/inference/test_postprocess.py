"""Postprocessing by hand; candidates are scored as if they were applied."""

import numpy as np
import pytest
import torch

from seglab.callbacks.candidates import CANDIDATES, N_BINS, THRESHOLDS, class_scores, threshold_scores
from seglab.inference.cases import CasePredictor, Part
from seglab.inference.postprocess import Postprocess, Steps, label_case
from seglab.inference.windows import SlidingWindow


def test_steps_fill_remove_and_keep_in_a_new_array() -> None:
    labels = np.zeros((1, 8, 12), np.uint8)
    labels[0, 1:6, 1:6] = 1
    labels[0, 3, 3] = 0  # a hole
    labels[0, 2, 2] = 2  # inside, but another class
    labels[0, 1:3, 8:10] = 1  # 4 pixels
    labels[0, 7, 11] = 1
    before = labels.copy()
    done = Postprocess(steps={1: Steps(fill_holes=True, min_size=4)})(labels)[0]
    assert done[3, 3] == 1 and done[2, 2] == 2 and done[7, 11] == 0 and (done[1:3, 8:10] == 1).all()
    assert not Postprocess(steps={1: Steps(largest=True)})(labels)[0, :, 8:].any()
    assert not Postprocess(steps={1: Steps(min_size=9)})(labels, pixel_size=2.0)[0, 1:3, 8:10].any()
    assert np.array_equal(labels, before)


def test_a_hole_of_a_volume_is_closed_on_all_sides() -> None:
    labels = np.ones((5, 5, 5), np.uint8)
    labels[2, 2, 2] = labels[0, 4, 4] = 0
    assert np.argwhere(Postprocess(steps={1: Steps(fill_holes=True)})(labels) == 0).tolist() == [[0, 4, 4]]


def test_a_threshold_takes_probabilities_and_nothing_without_them() -> None:
    probs = torch.tensor([[0.7, 0.2], [0.3, 0.8]]).view(2, 1, 1, 2).half()
    labels = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    part = Part((0, 1), (0, 1), labels, probs=probs)
    assert Postprocess(0.25).labels_of(part).tolist() == [[[1, 1]]]
    assert Postprocess(0.9).labels_of(part).tolist() == [[[0, 0]]]
    assert Postprocess().labels_of(part) is labels


def test_a_case_is_labelled_with_its_postprocessing_and_its_parts_are_seen() -> None:
    image = torch.zeros(1, 1, 6, 6)
    image[0, 0, 1:3, 1:3], image[0, 0, 5, 5] = 1.0, 1.0
    predictor = CasePredictor(
        lambda batch: torch.cat([1 - batch, batch], dim=1),
        spatial_dims=2,
        n_slices=1,
        sliding_window=SlidingWindow(window=(4, 4)),
        window=(4, 4),
    )
    seen: list[Part] = []
    labels = label_case(predictor, image, Postprocess(steps={1: Steps(largest=True)}), on_part=seen.append)
    assert labels.sum() == 4 and labels[0, 5, 5] == 0
    assert sum(part.labels.numel() for part in seen) == 36 and all(part.probs is not None for part in seen)
    assert label_case(predictor, image).sum() == 5


def test_plain_data_is_the_way_there_and_back() -> None:
    post = Postprocess(0.35, {1: Steps(fill_holes=True, min_size=30.0), 2: Steps(largest=True)})
    assert Postprocess.from_dict(post.to_dict()) == post


@pytest.mark.parametrize("depth", [1, 4])
def test_candidates_score_what_they_would_do(depth: int) -> None:
    rng = np.random.default_rng(depth)
    pred, truth = (rng.choice(3, (depth, 24, 24), p=[0.6, 0.3, 0.1]).astype(np.uint8) for _ in range(2))
    truth[:, :2] = 255
    for steps, scored in zip(CANDIDATES, class_scores(pred, truth, 1, 1.0), strict=True):
        done = Postprocess(steps={1: steps})(pred)
        own, true = (done == 1) & (truth != 255), truth == 1
        assert scored == pytest.approx(2 * (own & true).sum() / (own.sum() + true.sum()))


def test_thresholds_score_what_they_would_do() -> None:
    rng = np.random.default_rng(0)
    probs, truth = rng.integers(0, N_BINS, 500), rng.integers(0, 2, 500)
    counts = np.stack([np.bincount(probs[truth == true], minlength=N_BINS) for true in (0, 1)])
    for threshold, scored in zip(THRESHOLDS, threshold_scores(counts), strict=True):
        own = probs / N_BINS >= threshold - 1e-9
        assert scored == pytest.approx(2 * (own & (truth == 1)).sum() / (own.sum() + truth.sum()))
    assert set(threshold_scores(np.zeros((2, N_BINS), np.int64))) == {1.0}
