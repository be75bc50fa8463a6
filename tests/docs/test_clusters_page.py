"""Every command of docs/clusters.md composes, and its batch script starts, queues itself again and goes on."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.engine import Engine
from seglab.run.started import check_started

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
(SCRIPT,) = (block for block in BLOCKS if block.startswith("#!"))
COMMANDS = [line for block in BLOCKS if block is not SCRIPT for line in block.splitlines()]


def composed(overrides: list[str]) -> list[Engine]:
    """The engine of each job that these overrides make."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    jobs = BasicSweeper.split_arguments([o for o in parsed if not o.is_hydra_override()], None)[0]
    own = [text for text in overrides if text.lstrip("+").startswith("hydra")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        nodes = [compose("train", [*own, *job]).trainer for job in jobs]
    settings = [OmegaConf.to_container(node) for node in nodes]
    return [Engine(**{key: value for key, value in each.items() if key != "_target_"}) for each in settings]  # type: ignore[union-attr]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command: str) -> None:
    words = shlex.split(command)
    overrides = words[words.index("src/train.py") + 1 :]
    engines = composed([text for text in overrides if text != "-m"])
    assert len(engines) == (4 if "unet,dcunet" in command else 1)
    if words[0] == "torchrun":
        options = dict(word.removeprefix("--").split("=") for word in words[1:] if word.startswith("--"))
        per_node, nodes = options["nproc-per-node"], options["nnodes"]
        world = {
            "WORLD_SIZE": str(int(per_node) * int(nodes)),
            "LOCAL_WORLD_SIZE": per_node,
            "TORCHELASTIC_RUN_ID": "1",
        }
        check_started(engines[0].n_devices, engines[0].num_nodes, world)
        with pytest.raises(Exception, match="not as many processes"):
            check_started(engines[0].n_devices, 1, world)
    else:
        assert words[0] == "python"


def test_every_setting_in_the_text_exists() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        launcher = compose("train", ["hydra/launcher=submitit"], return_hydra_config=True).hydra.launcher
    names = set(re.findall(r"hydra\.launcher\.(\w+)", TEXT))
    settings = re.findall(r"`(?:\w+ )?trainer\.(\w+)", TEXT)
    assert {"strategy", "sync_batchnorm", "devices", "num_nodes"} <= set(settings) <= set(Engine.__dataclass_fields__)
    assert {"partition", "timeout_min", "signal_delay_s", "max_timeouts", "setup", "extra"} <= names <= set(launcher)


def test_the_batch_script_starts_as_many_as_it_trains_with_and_goes_on_after_its_limit(tmp_path: Path) -> None:
    for name, does in {"srun": "exit $(cat code)", "scontrol": "true"}.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> said\n{does}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "77"}
    said = []
    for code in ("138", "0"):
        (tmp_path / "code").write_text(code)
        subprocess.run(["bash", "-eu", "-c", f"set +e\n{SCRIPT}"], cwd=tmp_path, env=environment, check=False)
        said.append((tmp_path / "said").read_text().splitlines())
        (tmp_path / "said").unlink()
        (tmp_path / "runs/slurm-77/checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/slurm-77/checkpoints/last.ckpt").touch()
    assert said[0][0].endswith(" hydra.run.dir=runs/slurm-77") and said[0][1:] == ["scontrol requeue 77"]
    assert said[1][0].endswith(" resume=runs/slurm-77") and len(said[1]) == 1
    asked = dict(re.findall(r"--([\w-]+)=(\S+)", SCRIPT))
    (engine,) = composed(said[0][0].partition("src/train.py ")[2].split()[:-1])
    slurm = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": asked["ntasks-per-node"], "SLURM_NNODES": asked["nodes"]}
    check_started(engine.n_devices, engine.num_nodes, {**slurm, "SLURM_STEP_ID": "0"})
    assert asked["signal"].startswith("USR1@") and asked["gpus-per-node"] == asked["ntasks-per-node"]
