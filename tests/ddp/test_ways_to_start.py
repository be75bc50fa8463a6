"""Other ways to start several processes: two nodes under torchrun, spawned ones, and ranks that differ."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from seglab.run.started import free_port
from seglab.run.tracking.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FOREIGN = ("WANDB_", "SEGLAB_", "SLURM_", "PL_", "RUN_ID", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE")
TINY = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "trainer.max_epochs=1",
    "trainer.limit_train_batches=3", "trainer.timeout_s=60", "data.num_workers=0", "model.base_channels=2",
    "data.batch_size=2", "data.patch_size=[64,64]", "callbacks.images=null", "callbacks.progress=null",
]  # fmt: skip
SEEN = "+callbacks.seen={_target_: seen.Seen, folder: FOLDER}"
Process = subprocess.Popen[str]

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def paths(crack_root: Path, cache_dir: Path) -> list[str]:
    return [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}"]


def start(python: str, command: Sequence[str], log: Path, **own: str) -> Process:
    """Start `python <command>` as a user would."""
    env = {name: value for name, value in os.environ.items() if not name.startswith((*FOREIGN, "PYTHONPATH"))}
    env |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(HERE)}
    with log.open("w") as stream:
        env |= {"SEGLAB_PACKAGES": "seen"} | own
        return subprocess.Popen([python, *command], cwd=ROOT, env=env, stdout=stream, stderr=stream, text=True)


def end(processes: Sequence[Process]) -> list[int]:
    """Exit codes; none is left behind."""
    try:
        return [process.wait(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def check_run_folder(folder: Path) -> dict[str, torch.Tensor]:
    """One run of two processes with all its files, one W&B run, every case once; its weights."""
    assert read(folder / "run.json")["world_size"] == 2 and read(folder / "result.json")["status"] == "finished"
    assert len(list(folder.glob("wandb/*run-*/*.wandb"))) == 1
    assert len([row for row in read_metrics(folder) if "train/loss" in row]) == 1, "rank 0 alone writes"
    assert len((folder / "cases.csv").read_text().splitlines()) == 9
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 3
    return dict(content["state_dict"])


def test_two_nodes_and_spawned_processes_leave_the_same_run_and_share_the_samples_out(
    python: str, paths: list[str], tmp_path: Path
) -> None:
    seen = [SEEN.replace("FOLDER", str(tmp_path / name)) for name in ("seen-nodes", "seen-spawn")]
    place = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-id=two-nodes", "--rdzv-backend=c10d"]
    rendezvous = f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    job = ["src/train.py", *TINY, *paths, f"paths.runs_dir={tmp_path / 'runs'}"]
    nodes = []
    for node in (0, 1):
        command = ["-m", "torch.distributed.run", *place, rendezvous, f"--node-rank={node}", *job, seen[0]]
        nodes.append(
            start(python, [*command, "trainer.devices=1", "trainer.num_nodes=2"], tmp_path / f"node{node}.log")
        )
    codes, said = end(nodes), [(tmp_path / f"node{node}.log").read_text() for node in (0, 1)]
    assert codes == [0, 0], said
    (folder,) = (tmp_path / "runs").iterdir()

    spawn = ["hydra/launcher=basic", f"hydra.sweep.dir={tmp_path / 'sweep'}", "trainer.strategy=ddp_spawn"]
    log = tmp_path / "spawn.log"
    codes = end([start(python, [job[0], "-m", *job[1:], *spawn, seen[1], "trainer.devices=2"], log)])
    assert codes == [0], log.read_text()
    weights = [check_run_folder(folder), check_run_folder(tmp_path / "sweep" / "0")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    for name in ("seen-nodes", "seen-spawn"):
        drawn = [read(tmp_path / name / f"rank{rank}.json") for rank in (0, 1)]
        assert [len(cases) for cases in drawn] == [6, 6]
        assert drawn[0] != drawn[1], "each process has samples of its own"
    assert read(tmp_path / "seen-nodes" / "rank1.json") == read(tmp_path / "seen-spawn" / "rank1.json")


def test_an_error_in_a_spawned_process_ends_all_with_its_message(python: str, paths: list[str], tmp_path: Path) -> None:
    spawn = [
        "trainer.strategy=ddp_spawn",
        "trainer.devices=2",
        "data.patch_size=[1,1]",
        f"hydra.run.dir={tmp_path}/run",
    ]
    codes = end([start(python, ["src/train.py", *TINY, *paths, *spawn], tmp_path / "log")])
    said = (tmp_path / "log").read_text()
    assert codes == [1] and said.count("Error: the patch size does not fit the data") == 1, said
    assert "Traceback" not in said


def test_ranks_that_differ_in_anything_end_on_all_sides_with_what_it_is(
    python: str, paths: list[str], crack_root: Path, tmp_path: Path
) -> None:
    """Started by hand: rank 1 has another learning rate, another comment in the code, one photo and one split other."""
    shutil.copytree(ROOT / "src", tmp_path / "there" / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "there" / "conf")
    with (tmp_path / "there" / "src" / "seglab" / "spec.py").open("a") as stream:
        stream.write("# older\n")
    shutil.copytree(crack_root, tmp_path / "there" / "data")
    photos = sorted((tmp_path / "there" / "data" / "images").iterdir())
    shutil.copy(photos[0], photos[1])
    port, shared = str(free_port()), [*TINY, paths[1], f"hydra.run.dir={tmp_path / 'run'}", "trainer.devices=2"]
    ranks = []
    for rank, (root, data) in enumerate([(ROOT, crack_root), (tmp_path / "there", tmp_path / "there" / "data")]):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        other = ["optimizer.lr=0.5", "data.val_fraction=0.3"] if rank else []
        command = [f"{root}/src/train.py", *shared, f"data.root={data}", *other]
        path = {"PYTHONPATH": f"{root}/src:{HERE}"}
        ranks.append(
            start(python, command, tmp_path / f"rank{rank}.log", **own, **path, NODE_RANK="0", MASTER_PORT=port)
        )
    assert 0 not in end(ranks)
    for rank in (0, 1):
        said = (tmp_path / f"rank{rank}.log").read_text()
        assert "Error: the processes of this run do not train the same" in said, said
        given = next(line for line in said.splitlines() if "given:" in line)
        for fact in ("configuration", "code", "data", "split"):
            one, two = given.partition(f"{fact}: ")[2].partition(";")[0].split(", ")
            assert one.endswith(" on rank 0") and two.endswith(" on rank 1") and one.split()[0] != two.split()[0]


def test_a_group_of_one_and_a_trainer_of_two_end_on_both_sides_and_so_do_too_many_processes(
    python: str, paths: list[str], tmp_path: Path
) -> None:
    job = [*TINY, *paths, "trainer.devices=2"]
    ranks = []
    for rank in (0, 1):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "NODE_RANK": "0"}
        folder = f"hydra.run.dir={tmp_path / 'two'}"
        command = [str(HERE / "left_over_group.py"), str(ROOT / "src" / "train.py"), *job, folder]
        ranks.append(
            start(
                python,
                command,
                tmp_path / f"rank{rank}.log",
                **own,
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(free_port()),
            )
        )
    three = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "src/train.py", *job]
    folder = f"hydra.run.dir={tmp_path / 'three'}"
    assert 0 not in end([*ranks, start(python, [*three, folder], tmp_path / "three.log")])
    for rank in (0, 1):
        assert "given:   a process group of 1, a trainer of 2" in (tmp_path / f"rank{rank}.log").read_text()
    said = (tmp_path / "three.log").read_text()
    assert "Error: there are not as many processes as the trainer counts on" in said
    assert "given:   3 process(es), trainer.devices=2" in said
    assert not list(tmp_path.glob("*/checkpoints"))
