"""The sweep file for W&B's agents: what an agent makes of it trains, in the run that the server has named."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb_log import offline_files, read_wandb

from seglab.run.catalogue import CONF

ROOT = CONF.parent
SMALL = (
    "debug=smoke trainer.accelerator=cpu trainer.threads=1 data.num_workers=0 data.batch_size=2 data.patch_size=[32,32]"
)
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")


def content() -> dict[str, Any]:
    return yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())  # type: ignore[no-any-return]


def command_of_agent(sweep: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """What W&B's agent runs for the values that its server has chosen."""
    parts = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})
    parts |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words = create_sweep_command(sweep["command"])
    return [text for word in words for text in (parts[word[2:-1]] if word.startswith("${") else [word])]


def chosen(sweep: dict[str, Any]) -> dict[str, Any]:
    """One value for each parameter."""
    return {
        key: one.get("value", one.get("min", one.get("values", [None])[0])) for key, one in sweep["parameters"].items()
    }


def test_an_agent_types_what_hydra_reads() -> None:
    sweep = content()
    command = command_of_agent(sweep, chosen(sweep) | {"data.patch_size": [32, 32], "test": False})
    assert command[:3] == ["/usr/bin/env", "python", "src/train.py"] and (ROOT / sweep["program"]).is_file()
    assert "optimizer.lr=0.0001" in command and "data.patch_size=[32, 32]" in command and "test=False" in command


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_an_agent_starts_trains_in_the_run_that_the_server_has_named(
    python: str, cache_dir: Path, tmp_path: Path
) -> None:
    sweep = content()
    values = chosen(sweep) | {
        "model.base_channels": 2,
        "paths.cache_dir": str(cache_dir),
        "paths.runs_dir": str(tmp_path),
    }
    values |= dict(text.split("=", 1) for text in SMALL.split())
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"wandb_version": 1, **{key: {"value": value} for key, value in values.items()}}))
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"WANDB_SWEEP_ID": "swp1", "WANDB_RUN_ID": "abc123", "WANDB_SWEEP_PARAM_PATH": str(params)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PATH": f"{Path(python).parent}:{env['PATH']}"}
    done = subprocess.run(
        command_of_agent(sweep, values), cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = (file.parent for file in tmp_path.glob("*/run.json"))
    log = read_wandb(run_dir)
    assert len(offline_files(run_dir)) == 1 and log.run_id == "abc123" and log.exit_code == 0
    assert json.loads((run_dir / "run.json").read_text())["config"]["optimizer"]["lr"] == values["optimizer.lr"]
    assert log.config["optimizer.lr"] == values["optimizer.lr"]
    assert [row for row in log.history if sweep["metric"]["name"] in row]
