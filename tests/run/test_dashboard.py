"""The saved W&B workspace: its specification without a key, what the server gets with one, and what it may refuse."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import OmegaConf
from run_jobs import read
from wandb_server import serving

from seglab.errors import CheckpointError, ConfigError
from seglab.run.tracking.dashboard import dashboard
from seglab.run.tracking.metrics_file import read_metrics

Run = tuple[Path, dict[str, float]]


def make(run_dir: Path, **typed: Any) -> None:
    dashboard(OmegaConf.create({"run": str(run_dir), "name": "mine", **typed} | {
        key: typed.get(key) for key in ("entity", "project", "output")
    }))  # fmt: skip


def sections(specification: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {part["name"]: part["panels"] for part in specification["section"]["panelBankConfig"]["sections"]}


def test_without_a_key_the_specification_is_a_file_that_shows_what_the_run_has_logged(
    crack_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, _ = crack_run
    make(run_dir, output=str(tmp_path / "board.json"))
    shown = sections(read(tmp_path / "board.json"))
    assert list(shown) == ["Training", "Validation by class", "Test", "Cases", "Images", "System"]
    logged = set().union(*read_metrics(run_dir))
    lines = [panel["config"] for name in ("Training", "Validation by class", "Test") for panel in shown[name]]
    named = {key for config in lines for key in config.get("metrics", [])}
    assert {"train/loss", "val/dice/crack", "val/recall/mean", "test/case_dice/crack", "best/val/dice/mean"} <= named
    assert named <= logged, "every line is one that a run has"
    media = [key for panel in shown["Images"] for key in panel["config"]["mediaKeys"]]
    assert len(media) == 8 and {key.partition("/")[0] for key in media} == {"val_images", "test_images"}
    assert '"test/cases"' in json.dumps(shown["Cases"]) and "test/confusion_table" in json.dumps(shown["Test"])
    said = capsys.readouterr().out
    assert (
        f"written to  {tmp_path}/board.json" in said
        and f"wandb login`, then python src/dashboard.py run={run_dir}" in said
    )


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("fault", ["works", "refuses", "fails"])
def test_with_a_key_it_is_saved_or_the_error_says_why_not(
    fault: str, crack_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb.teardown()
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "5")
    with serving(fault) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        try:
            if fault == "works":
                make(crack_run[0], project="cracks")
                (view,) = server.views
                assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "cracks", "mine")
                assert "Validation by class" in sections(json.loads(view["spec"]))
                assert "/me/cracks" in capsys.readouterr().out.replace("\n", "")
            else:
                with pytest.raises(ConfigError, match="WANDB_MODE=offline for a file"):
                    make(crack_run[0], entity="team")
        finally:
            wandb.teardown()


def test_without_the_package_the_extra_is_named(crack_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(ConfigError, match=r"seglab\[dashboard\]"):
        make(crack_run[0])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        make(tmp_path)
