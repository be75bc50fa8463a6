"""Every command of docs/splits.md and docs/plan.md composes, and every key in them exists."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("splits", "plan")}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)]
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
KEYS = {key for text in PAGES.values() for key in re.findall(r"`((?:data|model)\.\w+)", text)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command: str) -> None:
    program, script, *overrides = shlex.split(command)
    assert (program, script) == ("python", "src/train.py") and overrides
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train", overrides)


def test_every_key_exists() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["data=satellite"])
    missing = object()
    assert KEYS and all(OmegaConf.select(config, key, default=missing) is not missing for key in KEYS)
