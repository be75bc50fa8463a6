"""As many processes as the trainer counts on, whoever has started them; else it is said what to type."""

import pickle

import pytest

from seglab.errors import ConfigError
from seglab.run.started import check_started, started_by

SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    "environment",
    [
        SLURM,
        TORCHRUN,
        {"WORLD_SIZE": "8", "LOCAL_RANK": "0"},
        {},
        {"WORLD_SIZE": "3"},  # left over, without a rank
        {**SLURM, "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive"},
    ],
)
def test_the_right_number_passes_and_so_does_a_process_that_starts_the_others(environment: dict[str, str]) -> None:
    check_started(4, 2, environment)


def test_torchrun_is_seen_before_slurm_inside_a_job_of_which_it_may_run() -> None:
    assert started_by({**SLURM, **TORCHRUN}) == "torchrun"
    check_started(4, 2, {**SLURM, **TORCHRUN, "SLURM_NTASKS": "2"})


@pytest.mark.parametrize(
    ("environment", "given", "fix"),
    [
        ({**SLURM, "SLURM_NTASKS": "4", "SLURM_NNODES": "1"}, "4 task(s) on 1 node(s), 4 each", "--nodes=2 --ntasks"),
        ({**SLURM, "SLURM_NTASKS_PER_NODE": "8"}, "2 node(s), 8 each", "#SBATCH --nodes=2 --ntasks-per-node=4"),
        ({"SLURM_NTASKS": "1"}, "1 task(s)", "trainer.devices=1"),
        (TORCHRUN | {"WORLD_SIZE": "4"}, "4 process(es)", "torchrun --nnodes=2 --nproc-per-node=4"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "2 process(es)", "set trainer.devices=2 trainer.num_nodes=1"),
    ],
)  # fmt: skip
def test_another_number_is_refused_with_the_line_to_type(environment: dict[str, str], given: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_started(4, 2, environment)
    assert given in caught.value.given and fix in caught.value.fix
    assert "trainer.devices=4" in caught.value.given


@pytest.mark.parametrize(
    ("missing", "fix"),
    [("SLURM_STEP_ID", "type srun before python"), ("SLURM_NTASKS_PER_NODE", "#SBATCH --nodes=1 --ntasks-per-node=8")],
)
def test_a_batch_script_without_srun_and_ntasks_alone_are_refused(missing: str, fix: str) -> None:
    environment = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "1", "SLURM_STEP_ID": "0"}
    check_started(8, 1, environment)
    with pytest.raises(ConfigError) as caught:
        check_started(8, 1, {name: text for name, text in environment.items() if name != missing})
    assert fix in caught.value.fix


def test_an_error_with_four_parts_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("what", given="given", allowed="allowed", fix="fix")))
    assert isinstance(error, ConfigError) and error.fix == "fix" and "allowed: allowed" in str(error)
