"""From the shell: help, typos and missing values are answered with what to type, without a traceback or a folder."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.types import RunMode
from omegaconf import OmegaConf
from run_jobs import composed
from torch.utils.data import DataLoader, Dataset

from seglab.errors import ConfigError, DataError
from seglab.run.catalogue import CONF, config_dirs, help_lines, names
from seglab.run.checkpoints.checkpoint import load_task
from seglab.run.cli import Refused, explain, importing, quote_patterns, user_errors
from seglab.run.make import locate

SRC = Path(__file__).resolve().parents[2] / "src"


def shell(folder: Path, job: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SRC / f"{job}.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_the_choices_and_writes_nothing(tmp_path: Path) -> None:
    done = shell(tmp_path, "train", "--help")
    assert done.returncode == 0 and "model=attention_unet" in done.stdout and "data.root=phantom" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_typo_in_the_shell_names_the_nearest_key_and_writes_nothing(tmp_path: Path) -> None:
    done = shell(tmp_path, "train", "trainer.max_epoch=3")
    assert done.returncode == 1 and "fix:     type trainer.max_epochs=3" in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_a_key_of_one_of_two_choices_of_a_group_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    explain(["callbacks=[default,ema]", "callbacks.ema.decay=0.8"], "train")
    assert capsys.readouterr().err == ""
    explain(["callbacks=[default,ema]", "callbacks.ema.decai=0.8"], "train")
    assert "type callbacks.ema.decay=0.8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "typed", "fix"),
    [
        ("predict", "inference.probabilities=true", "type probabilities=true"),
        ("train", "lr=1e-3", "type optimizer.lr=1e-3"),
        ("train", "batch_size=4", "type data.batch_size=4 or inference.batch_size=4"),
        ("train", "trainer.wandb.tags=[a]", "type logger.wandb.tags=[a]"),
    ],
)
def test_a_key_that_stands_elsewhere_is_told(
    job: str, typed: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    explain([typed], job)
    assert f"fix:     {fix}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "fix"), [("logger=null", "type logger=[]"), ("model=[]", "leave model out, or choose one")]
)
def test_a_group_that_cannot_be_empty_is_answered_with_what_can(typed: str, fix: str, tmp_path: Path) -> None:
    done = shell(tmp_path, "train", typed)
    assert done.returncode == 1 and f"given:   {typed}" in done.stderr and f"fix:     {fix}" in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_choices_are_listed_where_help_is_asked_for_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    text = OmegaConf.create({"models": "${choices:model}"})
    for typed, is_listed in (([], False), (["model=unet"], False), (["--help"], True), (["-h"], True)):
        monkeypatch.setattr(sys, "argv", ["train.py", *typed])
        assert ("model=attention_unet" in text.models) is is_listed


def test_garbage_is_not_looked_for_while_the_first_job_of_a_process_loads_its_modules() -> None:
    gc.unfreeze()
    with importing():
        assert not gc.isenabled()
    n_kept = gc.get_freeze_count()
    assert gc.isenabled() and n_kept > 10_000
    left = [[]]  # what a job leaves behind
    left.append(left)
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() <= n_kept


def test_an_error_of_ours_ends_with_code_1_and_its_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused) as stop, user_errors():
        raise ConfigError("it failed", given="a", allowed="b", fix="c")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "\nError: it failed\n  given:   a\n  allowed: b\n  fix:     c\n"


def test_a_value_that_must_be_given_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    cfg = composed("predict", [])
    with pytest.raises(Refused), user_errors():
        _ = cfg.run
    assert "fix:     type run=<value>" in capsys.readouterr().err


def test_in_a_sweep_the_error_goes_on_so_that_other_jobs_run(tmp_path: Path) -> None:
    composed("train", [], tmp_path, RunMode.MULTIRUN)
    with pytest.raises(ConfigError), user_errors():
        raise ConfigError("it failed", given="a", allowed="b", fix="c")


@pytest.fixture
def own_conf(tmp_path: Path) -> Path:
    """A folder for --config-dir, whose name would end a quotation, with a network that is not seglab's."""
    folder = tmp_path / "my lab's" / "conf"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "mynet.yaml").write_text("_target_: mynets.mynet.MyNet\nbase_channels: 8\n")
    return folder


def test_an_error_of_a_loaders_process_is_told_without_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    class Damaged(Dataset[int]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> int:
            raise self.error

        error: Exception = DataError("it is damaged", given="a file:\n  half of it", allowed="all", fix="delete it")

    loader = DataLoader(Damaged(), num_workers=1)
    with pytest.raises(Refused), user_errors():
        next(iter(loader))
    assert capsys.readouterr().err == f"\nError: {Damaged.error}\n"
    Damaged.error = RuntimeError("of somebody else")
    with pytest.raises(RuntimeError, match="of somebody else"), user_errors():
        next(iter(loader))


def test_help_lists_the_choices_of_an_own_folder_by_their_class(own_conf: Path, tmp_path: Path) -> None:
    done = shell(tmp_path, "train", f"--config-dir={own_conf}", "--help")
    assert done.returncode == 0 and "model=unet " in done.stdout
    assert ["model=mynet", "mynets.mynet.MyNet"] in [line.split() for line in done.stdout.splitlines()]


def test_a_choice_of_an_own_folder_and_its_keys_are_known(own_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"--config-dir={own_conf}"
    explain([folder, "model=mynet", "model.base_channels=8", "data=crack"], "train")
    assert capsys.readouterr().err == ""
    explain([folder, "model=mynet", "model.base_chanels=8"], "train")
    assert "fix:     type model.base_channels=8\n" in capsys.readouterr().err
    explain([folder, "model=mynett"], "train")
    assert "fix:     type model=mynet\n" in capsys.readouterr().err
    explain(["model=mynet"], "train")
    assert "there is no model named 'mynet'" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--config-dir={}", "--config-dir {}", "-cd={}", "-cd {}"])
def test_an_own_folder_is_given_in_any_form_that_hydra_takes(flag: str, own_conf: Path) -> None:
    arguments = [part.format(own_conf) for part in flag.split(" ")]
    assert config_dirs(["-m", *arguments, "model=mynet,unet"]) == [CONF, own_conf]


def test_of_two_files_of_one_name_ours_counts_as_it_does_for_hydra(own_conf: Path) -> None:
    (own_conf / "model" / "unet.yaml").write_text("_target_: mynets.mynet.MyNet\n")
    folders = config_dirs([f"--config-dir={own_conf}", "model=unet"])
    assert folders == [CONF, own_conf] and names("model", folders).count("unet") == 1
    own = [line.split()[0] for line in help_lines("model", folders).splitlines() if "mynets" in line]
    assert own == ["model=mynet"]


def test_a_folder_that_does_not_exist_is_named_and_not_its_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explain([f"--config-dir={tmp_path}/nowhere", "model=mynet"], "train")
    shown = capsys.readouterr().err
    assert "there is no such folder" in shown and "nowhere" in shown and "model named" not in shown


def test_an_own_file_that_is_no_yaml_is_named_with_its_line(own_conf: Path, tmp_path: Path) -> None:
    (own_conf / "model" / "broken.yaml").write_text("_target_: [mynets\n")
    (own_conf / "model" / "moved.yaml").write_text("_target_: seglab.nets.nowhere.Net\n")
    done = shell(tmp_path, "train", f"--config-dir={own_conf}", "model=broken")
    assert done.returncode == 1
    _, _, said = done.stderr.rpartition("\nError: ")
    assert said.startswith("a configuration file is no YAML") and "broken.yaml" in said and "line 1" in said
    lines = {line.split()[0]: line for line in help_lines("model", [CONF, own_conf]).splitlines()}
    assert "no YAML" in lines["model=broken"] and "seglab.nets.nowhere.Net" in lines["model=moved"]


def test_a_checkpoint_with_a_network_of_somebody_s_own_asks_to_allow_its_package(
    crack_run: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    content = torch.load(crack_run[0] / "checkpoints" / "best.ckpt", weights_only=True)
    config = json.loads(content["seglab"]["config"])
    config["model"]["_target_"] = "mynets.mynet.MyNet"
    content["seglab"]["config"] = json.dumps(config)
    torch.save(content, tmp_path / "theirs.ckpt")
    with pytest.raises(ConfigError) as caught:
        load_task(tmp_path / "theirs.ckpt")
    error = caught.value
    assert (error.what, error.given) == ("model._target_ is outside the allowed packages", "mynets.mynet.MyNet")
    assert error.allowed.startswith("a class below seglab, torch,") and "SEGLAB_PACKAGES=<name>" in error.fix


def test_a_configuration_cannot_allow_a_package_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    composed("train", ["+hydra.job.env_set.SEGLAB_PACKAGES=pytest"])
    monkeypatch.setenv("SEGLAB_PACKAGES", "pytest")  # what Hydra then does before the job
    with pytest.raises(ConfigError, match="outside the allowed packages"):
        locate("pytest.MonkeyPatch", "model")


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("data.masks=masks/{case}.png", "data.masks='masks/{case}.png'"),
        ("data.images={group}/*.jpg", "data.images='{group}/*.jpg'"),
        ("data.images='{case}.jpg'", "data.images='{case}.jpg'"),
        ("data.classes={background:0,crack:1}", "data.classes={background:0,crack:1}"),
        ("data.masks={rust: 'rust/{case}.png'}", "data.masks={rust: 'rust/{case}.png'}"),
        ("paths.cache_dir=${oc.env:HOME}", "paths.cache_dir=${oc.env:HOME}"),
        ("data.root=${paths}", "data.root=${paths}"),
        ("--help", "--help"),
    ],
)
def test_patterns_with_fields_reach_hydra_in_quotes_and_nothing_else_does(typed: str, quoted: str) -> None:
    assert quote_patterns([typed]) == [quoted]
    assert quote_patterns([quoted]) == [quoted]
