"""Every command of docs/sweeps.md is one that Hydra takes apart into jobs that compose, and every key in it exists."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.sweeps.sweep_record import SweepRecord, settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
N_JOBS = [6, 4, 4, 4, 6, 6]


@pytest.mark.parametrize(("command", "n_jobs"), zip(COMMANDS, N_JOBS, strict=True))
def test_a_command_is_a_grid_of_jobs(command: str, n_jobs: int) -> None:
    python, script, flag, *typed = shlex.split(re.sub(r"<\w+>", "some", command))
    assert (python, flag) == ("python", "-m") and (ROOT / script).is_file()
    parsed = OverridesParser.create().parse_overrides(typed)
    jobs = BasicSweeper.split_arguments([o for o in parsed if not o.is_hydra_override()], None)[0]
    own = [text for text in typed if text.startswith("hydra")]
    assert len(jobs) == n_jobs
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in (jobs[0], jobs[-1]):
            assert compose(Path(script).stem, overrides=[*own, *overrides])


def test_every_setting_of_the_launcher_in_the_text_exists() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    names = set(re.findall(r"`(hydra\.[a-z_.]+)", TEXT))
    assert {"hydra.launcher.retries", "hydra.launcher.grace_s", "hydra.sweep.dir"} <= names
    known = OmegaConf.to_container(config.hydra, resolve=False)
    for name in names:
        assert isinstance(known, dict)
        _, group, key = name.split(".")
        assert key in known[group]


def test_the_table_of_columns_is_that_of_the_file(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    settings(record.add(0, ["train.py"], ["seed=1"], "0"))
    record.write()
    header = (tmp_path / "sweep.csv").read_text().splitlines()[0].split(",")
    assert header == ["number", "seed", "status", "value", "seconds", "folder"]
    assert "number, every key that was typed, status, value, seconds, folder" in TEXT
