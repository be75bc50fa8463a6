"""W&B: which mode, and a server that is not there never stops a run."""

import os
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb_log import offline_files, read_wandb

from seglab.errors import ConfigError
from seglab.run.tracking.wandb_run import close_wandb, open_wandb
from seglab.run.tracking.wandb_settings import WandbSettings, choose_mode, has_key

KEY = "a" * 40


def test_without_a_key_a_run_is_offline_and_with_one_online(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key() and choose_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key() and choose_mode("auto") == "online"


def test_wandb_mode_decides_for_auto_and_the_configuration_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert choose_mode("auto") == "disabled" and choose_mode("offline") == "offline"


@pytest.mark.parametrize("server", [None, "http://wandb.example:8080"])
def test_a_key_in_netrc_counts_for_the_server_in_use(
    server: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if server:
        monkeypatch.setenv("WANDB_BASE_URL", server)
    host = "wandb.example:8080" if server else wandb.Settings().base_url.removeprefix("https://")
    for machine, known in (("other.example", False), (host, True)):
        (tmp_path / "netrc").write_text(f"machine {machine}\n  login user\n  password {KEY}\n")
        assert has_key() is known, machine


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode=auto"):
        WandbSettings(mode="of-line")


def test_a_disabled_run_writes_nothing(tmp_path: Path) -> None:
    logger = open_wandb(WandbSettings(mode="disabled"), tmp_path, {"run_id": "none"})
    logger.log_metrics({"a": 1.0}, step=0)
    close_wandb(0)
    assert offline_files(tmp_path) == [] and wandb.run is None


def test_everything_lies_in_the_run_folder_and_the_environment_is_left_as_it_was(tmp_path: Path) -> None:
    before = {name: value for name, value in os.environ.items() if name.startswith("WANDB")}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        open_wandb(WandbSettings(tags=["a"], group="g"), tmp_path / name, {"run_id": name, "config": {"x": {"y": 1}}})
        assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / name / "wandb")
        close_wandb(3)
        log = read_wandb(tmp_path / name)
        assert log.run_id == name and log.exit_code == 3 and log.config["x"] == {"y": 1}
    after = {name: value for name, value in os.environ.items() if name.startswith("WANDB")}
    assert {name: value for name, value in after.items() if "DIR" in name} == before


@pytest.mark.slow
@pytest.mark.parametrize("key", [KEY, "short"])
def test_a_server_that_does_not_answer_is_given_up_and_the_run_goes_on_offline(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    logger: Any = open_wandb(WandbSettings(start_timeout_s=3), tmp_path, {"run_id": "dead"})
    assert logger.experiment.settings.mode == "offline"
    logger.log_metrics({"x": 2.0}, step=0)
    close_wandb(0)
    assert len(offline_files(tmp_path)) == 1
    log = read_wandb(tmp_path)
    assert log.history[0]["x"] == 2.0 and log.exit_code == 0
