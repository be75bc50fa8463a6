"""Every command of docs/wandb.md runs or composes, and every key and name in it exists."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.tracking.wandb_board import AXES
from seglab.run.tracking.wandb_files import KINDS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from wandb_server import serving  # noqa: E402

TEXT = (ROOT / "docs/wandb.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
PYTHON = [line for line in COMMANDS if line.startswith("python ")]
SHELL = [line for line in COMMANDS if line.startswith("wandb ")]
SMALL = [
    "debug=smoke", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.devices=1", "data.num_workers=0",
    "data.batch_size=2", "data.patch_size=[32,32]", "model.base_channels=2", "callbacks.progress=null",
]  # fmt: skip


def test_there_are_commands_of_three_kinds_only() -> None:
    assert len(PYTHON) == 6 and len(SHELL) == 3
    assert set(COMMANDS) - {*PYTHON, *SHELL} == {"pip install -e '.[dashboard]'"}


@pytest.mark.parametrize("command", PYTHON)
def test_a_command_composes(command: str) -> None:
    _, script, *typed = shlex.split(re.sub(r"<\w+>", "some", command))
    assert (ROOT / script).is_file()
    parsed = OverridesParser.create().parse_overrides([text for text in typed if text != "-m"])
    for overrides in BasicSweeper.split_arguments(parsed, None)[0]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            assert compose(Path(script).stem, overrides=overrides)


def test_every_key_axis_and_file_in_the_text_exists() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train")
    named = set(re.findall(r"`((?:logger|callbacks|study)\.[a-z_.]+)", TEXT))
    assert {"logger.wandb.checkpoint_mb", "logger.wandb.finish_timeout_s", "callbacks.images.n_cases"} <= named
    for key in named:
        parent, _, name = key.rpartition(".")
        node: Any = OmegaConf.select(config, parent)
        assert name in node, key
    sections = {f"{pattern.partition('/')[0]}/" for pattern in AXES}
    assert all(f"`{section}`" in TEXT for section in sections)
    assert all(f"`{kind}-<id>`" in TEXT for kind in KINDS)
    assert (ROOT / "benchmarks/wandb_faults.py").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_work_one_after_the_other(python: str, cache_dir: Path, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "SEGLAB_", "RUN_ID"))}
    env |= {
        "OMP_NUM_THREADS": "1",
        "NETRC": os.devnull,
        "PATH": f"{Path(python).parent}:{Path(sys.executable).parent}:{env['PATH']}",
    }
    env |= {"SEGLAB_CACHE_DIR": str(cache_dir), "SEGLAB_RUNS_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}

    def typed(command: str, *more: str, **variables: str) -> str:
        words = shlex.split(command)
        words = [
            file for word in words for file in (sorted(map(str, Path("/").glob(word[1:]))) if "*" in word else [word])
        ]
        done = subprocess.run(
            [*words, *more], cwd=ROOT, env=env | variables, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    for command in PYTHON[:3]:
        typed(command, *SMALL)
    run = next(path for path in tmp_path.iterdir() if (path / "run.json").is_file())
    place = {"runs/<run>": str(run), "<team>": "team", "<project>": "project"}
    place |= {"output=dashboard.json": f"output={tmp_path}/dashboard.json"}
    with serving() as server:
        for command in (SHELL[0], *PYTHON[3:]):
            typed(re.sub("|".join(place), lambda found: place[found[0]], command), **server.environment)
    assert f"artifact/model-{run.name}/best.ckpt" in server.uploads and len(server.views) == 3
    assert (tmp_path / "dashboard.json").is_file()
    typed(SHELL[2].replace("runs/<run>", str(run)).replace("leet", "leet inspect --summary"))  # it draws until a key
