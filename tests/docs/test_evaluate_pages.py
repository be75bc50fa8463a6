"""Commands and keys of docs/evaluate.md and docs/metrics.md exist; label files are scored as the page says."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from run_jobs import composed  # noqa: E402

from seglab.metrics.families import DEFAULTS, FAMILIES  # noqa: E402
from seglab.metrics.measures import MEASURES  # noqa: E402
from seglab.run.evaluate import evaluate  # noqa: E402

TEXT, METRICS = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("evaluate.md", "metrics.md"))
LINES = "".join(re.findall(r"```bash\n(.*?)```", TEXT + METRICS, flags=re.DOTALL)).splitlines()
COMMANDS = {" ".join(overrides): overrides for _, _, *overrides in map(shlex.split, LINES)}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.startswith("run=")])
def test_a_command_for_a_run_composes(command: str) -> None:
    typed = [text.replace("<run>", "some") for text in COMMANDS[command]]
    assert composed("evaluate", typed).run == "runs/some"


def test_the_command_for_label_files_scores_them(
    tmp_path: Path, write_picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.zeros((12, 14), np.uint8)
    truth[3:7, 2:10] = 255
    for folder, labels in (("masks", truth), ("labels", np.roll(truth, 1, axis=0))):
        write_picture(tmp_path / folder / "wall.png", labels)
    monkeypatch.chdir(tmp_path)
    found = evaluate(composed("evaluate", COMMANDS["predictions=labels truth=masks"]))
    assert found["test/case_dice/foreground"] == 0.75
    written = {file.name for file in (tmp_path / "labels" / "evaluate").iterdir()}
    assert {"metrics.json", "cases.csv", "report.html"} <= written


def test_keys_in_the_text_exist() -> None:
    named = {key for key in re.findall(r"`([a-z.]+)=[^`]*`", TEXT) if key != "run"}
    assert {"grid", "classes", "images", "metadata", "postprocess", "data.root"} <= named
    composed("evaluate", [f"{key}=null" for key in sorted(named)])


def test_families_and_metrics_in_the_text_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*)", METRICS, flags=re.MULTILINE))
    assert tuple(rows) == FAMILIES
    for family, row in rows.items():
        cells = [cell.strip() for cell in row.rstrip("|").split("|")]
        assert [bool(cell) for cell in cells[1:4]] == [family in DEFAULTS[k] for k in ("volume", "photo", "raster")]
        assert set(re.findall(r"`(\w+)`", cells[0])) <= {*MEASURES, "lesion_sensitivity"}
