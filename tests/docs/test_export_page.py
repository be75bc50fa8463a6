"""Every command of docs/export.md composes, its keys exist, and what it says of limits is what the code has."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seglab.inference import backend
from seglab.run import cli, export_check  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/export.md").read_text(encoding="utf-8")
LINES = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
COMMANDS = [line for line in LINES if "src/" in line]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command: str) -> None:
    python, script, *typed = shlex.split(re.sub(r"<\w+>", "some", command))
    assert python == "python" and (ROOT / script).is_file()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(Path(script).stem, overrides=typed)


def test_limits_in_the_text_are_those_of_the_code() -> None:
    assert f"{backend.MIN_AGREEMENT:.1%}".replace("%", " %") in TEXT.replace("\n", " ")
    assert f"{export_check.MIN_AGREEMENT:.2%}".replace("%", " %") in TEXT.replace("\n", " ")


def test_links_lead_to_files() -> None:
    assert all((ROOT / "docs" / target).is_file() for target in re.findall(r"\]\(([\w/]+\.md)\)", TEXT))
