"""The same numbers on one, two and three processes: scores and losses to the last digit, gradients to rounding."""

import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parent
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
COUNTS, WORLDS = (7, 8, 11), (1, 2, 3)

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def roots(crack_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The whole phantom, and folders of 7, 8 and 11 of its photos."""
    folder = tmp_path_factory.mktemp("photos")
    names = sorted(file.name for file in (crack_root / "images").iterdir())
    for count in COUNTS:
        for part in ("images", "masks"):
            (folder / f"photos{count}" / part).mkdir(parents=True)
            for name in names[:count]:
                shutil.copy(crack_root / part / name, folder / f"photos{count}" / part)
    return [crack_root, *(folder / f"photos{count}" for count in COUNTS)]


@pytest.fixture(scope="module")
def scored(
    python: str, roots: list[Path], cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Any]]:
    """Where two networks were trained, and what one, two and three processes say of them."""
    folder = tmp_path_factory.mktemp("nets")
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore"}
    found = []
    for world in WORLDS:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
        job = [
            str(HERE / "scoring_job.py"),
            "score" if found else "train",
            str(folder),
            str(cache_dir),
            *map(str, roots),
        ]
        command = [python, *launcher, *job]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(json.loads((folder / f"scores-{world}.json").read_text()))
    return folder, found


def test_every_score_and_loss_is_the_same_on_any_number_of_processes(scored: tuple[Path, list[Any]]) -> None:
    _, (one, two, three) = scored
    assert len(one) == 6 and repr(one) == repr(two) == repr(three)
    for name, scores in one.items():
        n_cases = int(name.rpartition("photos")[2])
        assert len(scores["cases"].splitlines()) == 1 + n_cases and math.isfinite(scores["validation"]["val/loss"])
        assert scores["test"]["test/dice/mean"] > 0 and scores["validation"]["val/dice/mean"] > 0
    assert len({scores["validation"]["val/loss"] for scores in one.values()}) == 6, "and they are no constants"


@pytest.mark.parametrize("kind", ["plain", "shared"])
def test_the_gradient_of_several_processes_is_that_of_one_with_the_joined_batch(
    kind: str, scored: tuple[Path, list[Any]]
) -> None:
    folder, _ = scored
    states = []
    for world in WORLDS:
        content = torch.load(folder / f"{kind}-{world}" / "checkpoints" / "last.ckpt", weights_only=True)
        assert content["global_step"] == 1
        states.append(content["state_dict"])
    has_statistics = any("running_var" in name for name in states[0])
    assert has_statistics == (kind == "shared"), "synchronised batch norm is in one of them"
    for name, value in states[0].items():
        for other in states[1:]:
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6 if has_statistics else 1e-7, msg=name)


def test_shared_batch_norm_takes_batches_of_several_sizes_for_one(scored: tuple[Path, list[Any]]) -> None:
    folder, _ = scored
    for world in WORLDS[1:]:
        everybody = torch.load(folder / f"uneven-{world}.pt", weights_only=True)
        assert [len(found["shared"][0]) for found in everybody] == list(range(1, world + 1))
        for found in everybody:
            assert len(found["shared"]) == 1 + 2 + 3
            for shared, joined in zip(found["shared"], found["joined"], strict=True):
                torch.testing.assert_close(shared, joined, rtol=1e-5, atol=1e-5)
