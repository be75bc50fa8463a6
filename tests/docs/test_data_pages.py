"""Every command of docs/splits.md, plan.md and augmentation.md composes, and every key in them exists."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.make import make
from seglab.run.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from run_jobs import composed  # noqa: E402

DOCS = ROOT / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("splits", "plan", "augmentation")}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)]
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
KEYS = {key for text in PAGES.values() for key in re.findall(r"`((?:data|model|augment)\.\w+)", text)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command: str) -> None:
    program, script, *overrides = shlex.split(command)
    assert (program, Path(script).parent) == ("python", Path("src")) and overrides
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(Path(script).stem, overrides)
    assert Path(script).stem in ("train", "prepare")
    if config.get("augment"):
        make(OmegaConf.to_container(config.augment), "augment")


def test_every_key_exists() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["data=satellite"])
    missing = object()
    assert KEYS and all(OmegaConf.select(config, key, default=missing) is not missing for key in KEYS)


def test_every_preset_has_a_row_and_what_is_said_of_it_holds() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["augmentation"], flags=re.MULTILINE)
    assert rows and sorted(rows) == sorted(file.stem for file in (CONF / "augment").glob("*.yaml"))
    presets = {name: OmegaConf.load(CONF / "augment" / f"{name}.yaml") for name in rows if name != "none"}
    assert [(presets[name].rotate_deg, presets[name].scale) for name in ("light", "default", "aerial")] == [
        (10.0, 0.1),
        (20.0, 0.25),
        (45.0, 0.25),
    ]
    assert not any(presets[name].elastic for name in presets if name != "strong") and presets["strong"].elastic > 0
    assert presets["aerial"].turn > 0 and presets["aerial"].blur == 0


def test_the_picture_is_small() -> None:
    assert 10_000 < (DOCS / "images" / "augmented_cracks.jpg").stat().st_size < 200_000


@pytest.mark.slow
def test_the_preview_is_drawn_as_typed(tmp_path: Path) -> None:
    (command,) = (command for command in COMMANDS if "preview=true" in command)
    overrides = [*shlex.split(command)[2:], f"paths.cache_dir={tmp_path / 'cache'}", f"report_dir={tmp_path}"]
    prepare(composed("prepare", overrides))
    assert Image.open(tmp_path / "preview.png").size == (1044, 1044)
