"""Every command of docs/own_data.md composes, and its data module can be built."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seglab.data.classes import read_classes
from seglab.run.catalogue import CONF, names
from seglab.run.cli import quote_patterns
from seglab.run.make import make

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/own_data.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
DECLARED = re.findall(r"^\| `(\{.*\})` \|", TEXT, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes_and_its_data_can_be_built(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_ID", "test")
    python, script, *typed = shlex.split(command)
    assert python == "python" and (ROOT / script).is_file()
    job = Path(script).stem
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose(job, overrides=quote_patterns(typed)), resolve=True)
    if job == "predict":
        return
    node = {key: value for key, value in config["data"].items() if key in config_keys(typed)}
    data = make(node, "data")
    assert str(data.root) == node["root"] and len(data.class_names) >= 2
    if "{" in command and "{case}" in command:
        assert "{case}" in data.patterns.masks


def config_keys(typed: list[str]) -> set[str]:
    """Keys of the yaml of the data that a command chooses; a job may have others of its own beside them."""
    (name,) = [text.partition("=")[2] for text in typed if text.startswith("data=")]
    return {line.partition(":")[0] for line in (CONF / "data" / f"{name}.yaml").read_text().splitlines()}


@pytest.mark.parametrize("declared", DECLARED)
def test_the_classes_of_the_table_can_be_declared(declared: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["data=photos", f"data.classes={declared}"])
    classes: Any = OmegaConf.to_container(config.data.classes)
    assert len(read_classes(classes).names) == len(classes) >= 2


def test_every_key_of_data_in_the_text_exists() -> None:
    files = [file.read_text(encoding="utf-8") for file in (CONF / "data").glob("*.yaml")]
    known = {key for text in files for key in re.findall(r"^[a-z_]+", text, flags=re.MULTILINE)}
    told = set(re.findall(r"\bdata\.([a-z_]+)", TEXT))
    assert {"size_px", "void_colors"} <= told <= known


def test_the_presets_of_the_text_exist() -> None:
    told = set(re.findall(r"^\| (`.*?`) \|", TEXT.partition("## Presets")[2], flags=re.MULTILINE))
    told = {name for group in told for name in re.findall(r"`(\w+)`", group)}
    assert told <= set(names("data")) and {"msd", "brats", "nuclei", "em"} <= told
