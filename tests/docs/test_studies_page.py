"""Every command of docs/studies.md is a study whose first trial composes, and every setting in the text exists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.sweeps.search_space import parse_space
from seglab.run.sweeps.study_settings import StudySettings, names_of

TEXT = (Path(__file__).resolve().parents[2] / "docs/studies.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_a_study_whose_first_trial_composes(command: str) -> None:
    python, script, flag, *typed = shlex.split(re.sub(r"<\w+>", "some", command))
    assert (python, script, flag) == ("python", "src/train.py", "-m")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("train", typed, RunMode.MULTIRUN, with_log_configuration=False)
        given = OmegaConf.to_container(config.hydra.sweeper)
        assert isinstance(given, dict) and str(given.pop("_target_")).endswith(".OptunaSweeper")
        params = given.pop("params")
        space = parse_space(params, list(config.hydra.overrides.task), config, hydra.config_loader)
        objective, directions = (names_of(given.pop(name)) for name in ("objective", "direction"))
        settings = StudySettings(**given, objective=objective, directions=directions)
        assert settings.sampler != "grid" or space.grid()
        assert hydra.config_loader.load_sweep_config(config, space.overrides(space.first()))


def test_every_row_of_the_table_is_searched() -> None:
    rows = [
        cell
        for line in re.findall(r"^\| `.*", TEXT, flags=re.MULTILINE)
        for cell in re.findall(r"`(\w[\w.]*=.*?)`", line)
    ]
    known = OmegaConf.create({"model": {"base_channels": 16, "dropout": 0.0}})
    assert len(rows) == 7
    for typed in rows[:-1]:
        assert parse_space({}, [typed], known).distributions


def test_every_setting_in_the_text_exists() -> None:
    known = yaml.safe_load((CONF / "hydra/sweeper/optuna.yaml").read_text())
    names = set(re.findall(r"hydra\.sweeper\.(\w+)", TEXT))
    assert names <= set(known) and {"n_trials", "pruner", "storage"} <= names
