"""Which strategies there are, how they are built, and what is said of those that there are not."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn

from seglab.errors import ConfigError
from seglab.run import strategy
from seglab.run.engine import Engine
from seglab.run.preflight import share_norms
from seglab.run.strategy import cluster_environments, new_strategy, sharded
from seglab.run.watch import WatchedDDPStrategy

GPUS = {"accelerator": "gpu", "devices": 2, "precision": "32-true"}


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        ({"strategy": "dp"}, "there is no such strategy", "trainer.strategy=auto"),
        ({"strategy": "ddp_fork"}, "can use neither CUDA", "trainer.strategy=ddp_spawn"),
        ({"strategy": "ddp_spawn", "num_nodes": 2}, "on one machine", "trainer.strategy=auto"),
        ({"strategy": "fsdp", "accelerator": "cpu"}, "over GPUs", "trainer.strategy=auto"),
        ({"strategy": "fsdp", **GPUS, "gradient_clip_val": 1.0}, "cannot clip", "trainer.gradient_clip_val=null"),
        ({"strategy": "fsdp", **GPUS, "sync_batchnorm": True}, "for DDP alone", "trainer.sync_batchnorm=false"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(settings: dict[str, object], what: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Engine(**settings)  # type: ignore[arg-type]
    assert what in caught.value.what and fix in caught.value.fix
    assert f"trainer.strategy={settings['strategy']}" in caught.value.given and caught.value.allowed


@pytest.mark.parametrize("name", ["auto", "ddp", "ddp_spawn"])
def test_several_processes_are_ddp_that_is_watched_and_one_needs_no_strategy(name: str) -> None:
    several = Engine(accelerator="cpu", devices=2, strategy=name, timeout_s=77)
    built = new_strategy(several, leaves_unused=True)
    assert isinstance(built, WatchedDDPStrategy) and built.step_timeout == timedelta(seconds=77)
    assert built._ddp_kwargs["find_unused_parameters"]
    assert new_strategy(Engine(accelerator="cpu", strategy=name), leaves_unused=True) == "auto"


def test_fsdp_keeps_whole_states_in_plain_files_and_shards_large_parts_alone() -> None:
    built = new_strategy(Engine(**GPUS, strategy="fsdp"), leaves_unused=False)  # type: ignore[arg-type]
    assert isinstance(built, FSDPStrategy) and built._state_dict_type == "full"
    wraps = built.kwargs["auto_wrap_policy"]
    small, large = nn.Linear(10, 10), nn.Linear(1000, 1001)
    sizes = {"recurse": False, "nonwrapped_numel": 0}
    assert not wraps(small, **sizes | {"nonwrapped_numel": 110})
    assert wraps(large, **sizes | {"nonwrapped_numel": 1_002_001})
    assert sharded(5)._timeout == strategy.START, "processes get time to start"
    assert sharded(3600)._timeout == timedelta(hours=1)


def test_slurm_is_told_to_leave_the_queue_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_environments() == []
    for name, text in {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, text)
    (found,) = cluster_environments()
    assert not found.auto_requeue


def test_synchronised_batch_norm_needs_batch_norm_and_several_processes(tmp_path: Path) -> None:
    with_norm, without = nn.Sequential(nn.BatchNorm2d(2)), nn.Sequential(nn.InstanceNorm2d(2))
    several = Engine(accelerator="cpu", devices=2, sync_batchnorm=True)
    with pytest.raises(ConfigError, match=r"set trainer\.sync_batchnorm=false"):
        share_norms(several, without)  # type: ignore[arg-type]  # any module
    share_norms(Engine(accelerator="cpu", sync_batchnorm=True), without)  # type: ignore[arg-type]
    keys = list(with_norm.state_dict())
    share_norms(several, with_norm)  # type: ignore[arg-type]
    assert type(with_norm[0]).__name__ == "SharedBatchNorm" and list(with_norm.state_dict()) == keys
    image, plain = torch.randn(3, 2, 4, 4), nn.BatchNorm2d(2)
    assert torch.equal(with_norm(image), plain(image)), "alone it is batch norm"
