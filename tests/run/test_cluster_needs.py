"""What a job asks a cluster for, and what is refused before anything is submitted."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

pytest.importorskip("submitit")

from seglab.errors import ConfigError
from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.catalogue import CONF
from seglab.run.sweeps.cluster import Cluster, ClusterSettings, settings_of
from seglab.run.sweeps.cluster_task import ClusterTask, has_checkpoint, rank_environment, set_aside
from seglab.run.sweeps.shares import Need

SLURM = Cluster(ClusterSettings(), {})


@pytest.mark.parametrize(
    ("trainer", "need"),
    [
        ({"devices": 4, "num_nodes": 2}, Need(4, uses_gpu=True, n_nodes=2)),
        ({"devices": "auto", "accelerator": "cpu"}, Need(1, uses_gpu=False)),
        ({}, Need(1)),
    ],
)
def test_a_job_needs_what_its_trainer_says(trainer: dict[str, object], need: Need) -> None:
    assert SLURM.need(OmegaConf.create({"trainer": trainer})) == need


@pytest.mark.parametrize("devices", ["auto", -1])
def test_a_number_of_devices_that_only_the_machine_knows_is_refused(devices: object) -> None:
    with pytest.raises(ConfigError, match=r"set trainer\.devices=1"):
        SLURM.need(OmegaConf.create({"trainer": {"devices": devices}}))


def test_the_local_executor_is_one_node() -> None:
    SLURM.check([Need(1, n_nodes=2)])
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.executor=slurm"):
        Cluster(ClusterSettings(executor="local"), {}).check([Need(1), Need(1, n_nodes=2)])


@pytest.mark.parametrize("settings", [{"executor": "pbs"}, {"timeout_min": 0}, {"signal_delay_s": "soon"}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"set hydra\.launcher\."):
        ClusterSettings(**settings)  # type: ignore[arg-type]


def test_every_setting_of_the_file_reaches_submitit_and_there_is_a_task_for_each_device() -> None:
    chosen = ["hydra/launcher=submitit", "hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=64"]
    chosen += ["hydra.launcher.cpus_per_task=8", "hydra.launcher.setup=[module load cuda]", "hydra.launcher.qos=long"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("train", chosen, return_hydra_config=True).hydra.launcher
    own = {key: value for key, value in node.items() if key not in ("_target_", "parallel", "retries", "grace_s")}
    asked = settings_of(own).parameters(Need(4, uses_gpu=True, n_nodes=2), "name")
    assert {key: value for key, value in asked.items() if value is not None} == {
        "name": "name", "timeout_min": 60, "nodes": 2, "tasks_per_node": 4, "gpus_per_node": 4, "cpus_per_task": 8,
        "mem_gb": 64, "slurm_partition": "gpu", "slurm_qos": "long", "slurm_setup": ["module load cuda"],
        "slurm_signal_delay_s": 120, "local_setup": ["module load cuda"],
    }  # fmt: skip
    assert ClusterSettings(gpus_per_node=1).parameters(Need(4), "name")["gpus_per_node"] == 1
    assert ClusterSettings().parameters(Need(4, uses_gpu=False), "name")["gpus_per_node"] is None


def test_a_job_that_is_submitted_from_within_another_one_does_not_take_itself_for_that_one() -> None:
    outer = {"SLURM_JOB_ID": "3", "SLURM_CPU_BIND": "x", "SLURM_CONF": "/etc/slurm.conf", "RANK": "1", "HOME": "/h"}
    _, environment = Cluster(ClusterSettings(), outer).take(Need(1))
    assert environment["SLURM_CONF"] == "/etc/slurm.conf" and environment["HOME"] == "/h"
    assert not {"SLURM_JOB_ID", "SLURM_CPU_BIND", "RANK"} & set(environment)
    command = SLURM.command(["a"], ["b"], Need(1), Path("sweep/3"))
    spec = json.loads(command[-1])
    assert (spec["first"], spec["again"], spec["parameters"]["name"]) == (["a"], ["b"], "sweep-3")
    assert Path(spec["folder"]).is_absolute()


def test_processes_of_the_local_executor_get_ranks_and_those_of_slurm_have_them(tmp_path: Path) -> None:
    local = SimpleNamespace(cluster="local", num_tasks=2, local_rank=1)
    own = rank_environment(local, {"HOME": "/h"}, tmp_path / "3", 12345)
    assert own["LOCAL_RANK"] == "1" and own["WORLD_SIZE"] == "2" and own["MASTER_PORT"] == "12345"
    assert own["RUN_ID"] == "3" and own["HOME"] == "/h"
    for job in (SimpleNamespace(cluster="slurm", num_tasks=2), SimpleNamespace(cluster="local", num_tasks=1)):
        assert rank_environment(job, {}, tmp_path / "3", 1) == {"RUN_ID": "3"}


def test_a_task_whose_process_has_stopped_already_is_put_into_the_queue_again(tmp_path: Path) -> None:
    job = SimpleNamespace(cluster="slurm", global_rank=1, num_tasks=2)
    for code, goes_on in ((128 + signal.SIGUSR1, True), (0, False), (1, False)):
        task = ClusterTask(["sh", "-c", f"exit {code}"], ["resume"], str(tmp_path), 1)
        assert task._run(task.first, job) == code
        assert (task.checkpoint() is not None) is goes_on


def test_a_start_without_a_checkpoint_is_set_aside_but_for_its_log_and_its_first_stage(tmp_path: Path) -> None:
    run_dir = tmp_path / "0"
    for name in ("checkpoints", "first"):
        (run_dir / name).mkdir(parents=True)
    (run_dir / "job.log").touch()
    set_aside(run_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["0"], "nothing had begun"
    (run_dir / "run.json").write_text("{}")
    assert not has_checkpoint(run_dir)
    set_aside(run_dir)
    assert sorted(path.name for path in run_dir.iterdir()) == ["first", "job.log"]
    assert sorted(path.name for path in (tmp_path / "0-aside-1").iterdir()) == ["checkpoints", "run.json"]
    (run_dir / "run.json").write_text("{}")
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "last.ckpt").touch()
    assert has_checkpoint(run_dir)
