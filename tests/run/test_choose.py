"""The rule that chooses a postprocessing: only what helps, and helps in more than one place."""

from typing import Any

import pytest

from seglab.callbacks.candidates import CANDIDATES, STEPS, THRESHOLD, THRESHOLDS
from seglab.errors import ConfigError
from seglab.inference.postprocess import Postprocess, Steps
from seglab.run.choose import choose_steps, choose_threshold, stored_postprocess

LARGEST = CANDIDATES.index(Steps(largest=True))


def rows(*gains: float) -> list[dict[str, Any]]:
    """Cases that each gain by keeping the largest part, and by the threshold 0.3."""
    base = [0.5] * len(CANDIDATES)
    table = [[*base[:LARGEST], 0.5 + gain, *base[LARGEST + 1 :]] for gain in gains]
    thresholds = [[0.5 + gain * (value == 0.3) for value in THRESHOLDS] for gain in gains]
    return [
        {"group": f"p{n}", STEPS: {1: scores, 2: base}, THRESHOLD: by_threshold}
        for n, (scores, by_threshold) in enumerate(zip(table, thresholds, strict=True))
    ]


def test_what_helps_every_case_is_chosen() -> None:
    cases = rows(0.02, 0.05, 0.03)
    assert choose_steps(cases) == {1: Steps(largest=True)}
    assert choose_threshold(cases) == 0.3


@pytest.mark.parametrize("gains", [(0.0005, 0.0005, 0.0005), (0.2, -0.1, -0.05), (0.1,), (0.0, 0.0), (-0.1, -0.2)])
def test_too_little_too_unsure_or_a_single_patient_changes_nothing(gains: tuple[float, ...]) -> None:
    assert choose_steps(rows(*gains)) == {} and choose_threshold(rows(*gains)) is None


def test_without_a_file_nothing_is_stored_and_a_broken_one_says_what_to_type(tmp_path: Any) -> None:
    assert stored_postprocess(tmp_path) is None
    file = tmp_path / "postprocess.json"
    file.write_text('{"threshold": null, "steps": {"1": {"largest": true}}}')
    assert stored_postprocess(tmp_path) == Postprocess(None, {1: Steps(largest=True)})
    for text in ("{", "[]", '{"threshold": "x", "steps": {}}', '{"threshold": null, "steps": {"1": {"big": true}}}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match="postprocess=auto"):
            stored_postprocess(tmp_path)
