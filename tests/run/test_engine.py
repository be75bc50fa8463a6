"""Engine: which precision, how many processes, and settings that cannot be."""

from pathlib import Path

import pytest
import torch

from seglab.errors import ConfigError
from seglab.run.engine import Engine, available_cores, available_threads, cpu_computes_in_bf16, engine_for

XEON = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 avx512f {flag} avx512_vnni\nbugs\t\t: none\n"
CPU = {"accelerator": "cpu", "devices": 1, "threads": 1}


@pytest.mark.parametrize(
    ("cpuinfo", "computes"),
    [
        (XEON.format(flag="avx512_bf16"), True),
        (XEON.format(flag="amx_bf16"), True),
        (XEON.format(flag="avx512_fp16"), False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("", False),
    ],
)
def test_a_cpu_computes_in_bf16_when_its_flags_say_so(cpuinfo: str, computes: bool) -> None:
    assert cpu_computes_in_bf16(cpuinfo) is computes


def test_auto_precision_is_bf16_only_where_the_hardware_has_it() -> None:
    info = Path("/proc/cpuinfo")
    expected = "bf16-mixed" if info.is_file() and cpu_computes_in_bf16(info.read_text()) else "32-true"
    assert Engine(accelerator="cpu").resolved_precision == expected
    assert Engine(accelerator="cpu", precision="16-mixed").resolved_precision == "16-mixed"


def test_a_job_on_a_trained_run_computes_as_the_training_did_unless_told_otherwise() -> None:
    settings = {"accelerator": "cpu", "precision": None}
    assert engine_for(settings, "bf16-mixed").precision == "bf16-mixed"
    assert engine_for(settings, "16-mixed").precision == "32-true", "CPUs have no float16 autocast worth the name"
    assert engine_for({**settings, "precision": "32-true"}, "bf16-mixed").precision == "32-true"
    with pytest.raises(ConfigError, match=r"trainer has no argument 'max_epoch'"):
        engine_for({**settings, "max_epoch": 3}, "32-true")


def test_processes_are_counted_over_devices_and_nodes() -> None:
    assert Engine(accelerator="cpu").world_size == 1
    assert Engine(accelerator="cpu", devices=3, num_nodes=2).world_size == 6


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"precision": "bf16"}, "trainer.precision=auto"),
        ({"devices": 0}, "trainer.devices=1"),
        ({"devices": "two"}, "trainer.devices=1"),
        ({"max_epochs": -1}, "trainer.max_epochs"),
        ({"max_epochs": 0}, "trainer.max_epochs"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_type(settings: dict[str, object], fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Engine(accelerator="cpu", **settings)  # type: ignore[arg-type]
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "settings",
    [{"accelerator": "abacus"}, {"profiler": "stopwatch"}, {"limit_train_batches": 1.5}, {"max_time": "soon"}],
)
def test_what_lightning_refuses_becomes_an_error_of_ours(settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\."):
        Engine(**{**CPU, "precision": "32-true", **settings}).trainer(callbacks=[], loggers=[], run_dir=tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    engine = Engine(accelerator="gpu", devices=1, precision="32-true")
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=auto"):
        engine.trainer(callbacks=[], loggers=[], run_dir=tmp_path)


def test_a_training_validates_unless_it_is_too_short_or_told_not_to() -> None:
    assert Engine(max_epochs=4, check_val_every_n_epoch=4).validates
    assert not Engine(max_epochs=3, check_val_every_n_epoch=4).validates
    assert not Engine(limit_val_batches=0).validates and not Engine(limit_val_batches=0.0).validates


def test_threads_are_shared_out_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        Engine(accelerator="cpu", precision="32-true").trainer(callbacks=[], loggers=[], run_dir=tmp_path)
        assert torch.get_num_threads() == available_cores()
        Engine(**CPU, precision="32-true").trainer(callbacks=[], loggers=[], run_dir=tmp_path)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_threads_follow_the_environment_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_threads(n_processes=1) == available_threads(n_processes=2) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert available_threads(n_processes=1000) == 1
