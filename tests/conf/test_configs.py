"""Every yaml composes, fits its class letter for letter, and every model trains on every data set; typos are named."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab.data.module import SegmentationData
from seglab.errors import ConfigError
from seglab.run.build import build_data, build_task, task_class
from seglab.run.catalogue import CONF, names
from seglab.run.cli import check_override, explain
from seglab.run.first import stage_config
from seglab.run.make import check_node, locate, make
from seglab.spec import DataSpec, Intensity

JOBS = ("train", "evaluate", "predict", "prepare", "info", "dashboard")
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
CHOICES = [(group, name) for group in GROUPS for name in names(group)]
NODES = ("model", "data", "task", "loss", "optimizer", "scheduler", "augment", "inference", "trainer")
NOT_WRITTEN = {
    "model": {"in_channels", "num_classes", "spatial_dims"},  # come from the data
    "data": {"augment", "seed"},  # come from the run
    "task": {"parts"},
    "scheduler": {"optimizer", "total_steps"},
    "callbacks": {"run_dir"},
    "logger": {"save_dir"},
}


def composed(*overrides: str, job: str = "train") -> dict[str, Any]:
    """A composed configuration of its own, as plain data."""
    return deepcopy(_composed(job, *overrides))


@cache
def _composed(job: str, *overrides: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(job, overrides=list(overrides))
    config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    return config  # type: ignore[no-any-return]


def targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a _target_, with its path."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, dict(node)
        for name, value in node.items():
            yield from targets(value, f"{path}.{name}" if path else str(name))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUN_ID", "test")
    yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("job", JOBS)
def test_every_job_composes_and_its_help_exists(job: str) -> None:
    assert composed(job=job) and (CONF / "hydra" / "help" / f"{job}.yaml").is_file()


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_its_arguments_exist(group: str, name: str) -> None:
    config = composed(f"{group}={name}")
    found = list(targets(config, ""))
    assert len(found) >= len(NODES)
    for path in (*NODES, "callbacks", "logger"):
        node = config.get(path) or {}
        parts = node.values() if path in ("callbacks", "logger") else [node]
        for part in filter(None, parts):
            parameters = inspect.signature(locate(part["_target_"], path)).parameters
            check_node({**dict.fromkeys(NOT_WRITTEN.get(path, set()) & set(parameters)), **part}, path)


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_writes_all_arguments_of_our_classes_and_no_other(group: str, name: str) -> None:
    content = yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) or {}
    for path, node in targets(content, group):
        if not node["_target_"].startswith("seglab."):
            continue
        parameters = set(inspect.signature(locate(node["_target_"], path)).parameters)
        written = {key for key in node if not key.startswith("_")}
        lacks_sizes = path.count(".") == (group == "callbacks") or (group == "model" and node.get("_partial_"))
        wanted = parameters - NOT_WRITTEN.get(group, set()) if lacks_sizes else parameters
        assert written == wanted, path


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_says_what_it_builds_first_and_refers_to_no_other_group(group: str, name: str) -> None:
    text = (CONF / group / f"{name}.yaml").read_text()
    content = yaml.safe_load(text) or {}
    if any(str(node).startswith("seglab.") for node in [content.get("_target_")]):
        assert text.splitlines()[0].startswith("_target_: ")
    for line in text.splitlines():
        assert "${" not in line or "${paths." in line, line


def spec_of(config: dict[str, Any], dims: int) -> DataSpec:
    """What the data set of a configuration would say of made-up cases."""
    data: SegmentationData = build_data(config)
    n_channels = {"photo": 3, "volume": 1, "raster": 4}[data.kind]
    return DataSpec(
        name=data.dataset,
        kind=data.kind,
        spatial_dims=dims,  # type: ignore[arg-type]
        in_channels=n_channels,
        class_names=data.class_names,
        class_colors=data.class_colors,
        mask_values=data.mask_values,
        has_background=data.has_background,
        patch_size=(64,) * dims,
        intensity=Intensity(mean=(0.0,) * n_channels, std=(1.0,) * n_channels),
    )


N_LOGITS: dict[str, int] = {}
"""Channels of the logits by all that a network is made of: many data sets lead to the same one, asked once."""
PAIRS = [(model, data, dims) for model in names("model") for data in names("data") for dims in (2, 3)]


@pytest.mark.parametrize(("model", "data", "dims"), PAIRS)
def test_every_model_makes_a_task_for_every_data_set(model: str, data: str, dims: int) -> None:
    config = {**composed(f"model={model}"), "data": {**composed(f"data={data}")["data"], "dims": dims}}
    nodes = (config[name] for name in ("data", "model"))
    supported = [set(locate(node["_target_"], "x").supported_dims) for node in nodes]  # type: ignore[attr-defined]
    if dims not in supported[0] & supported[1]:
        with pytest.raises(ConfigError, match=r"data\.dims="):
            build_task(config, spec_of(config, dims))
        return
    spec = spec_of(config, dims)
    if spec.num_classes < locate(config["model"]["_target_"], "x").min_classes:  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match=f"num_classes={spec.num_classes}"):
            build_task(config, spec)
        return
    with torch.device("meta"):
        task = build_task(config, spec)
        weights = {name: tuple(tensor.shape) for name, tensor in task.net.state_dict().items()}
        network = f"{model} {dims} {task.spec.in_channels} {weights}"
        if network not in N_LOGITS:
            image = torch.empty(2, task.spec.in_channels, *task.net.input_size_for([64] * dims))
            N_LOGITS[network] = task.net(image).shape[1]
    assert N_LOGITS[network] == task.spec.num_classes == len(task.spec.class_names)


@pytest.mark.parametrize("loss", names("loss"))
@pytest.mark.parametrize("data", names("data"))
def test_every_loss_counts_class_0_only_where_it_is_no_background(loss: str, data: str) -> None:
    config = {**composed(f"loss={loss}"), "data": composed(f"data={data}")["data"]}
    config["model"]["base_channels"] = 2
    task = build_task(config, spec_of(config, 2))
    terms = [term for term in task.loss.terms.values() if hasattr(term, "include_background")]
    assert all(term.include_background is not task.spec.has_background for term in terms)
    logits = torch.randn(2, task.spec.num_classes, 8, 8, requires_grad=True)
    maps = {name: torch.zeros(2, 8, 8) for name in task.loss.map_names}
    task.loss(logits, torch.zeros(2, 8, 8, dtype=torch.int64), maps)["loss"].backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("optimizer", "scheduler"), [(o, s) for o in names("optimizer") for s in names("scheduler")])
def test_every_optimizer_runs_with_every_scheduler(optimizer: str, scheduler: str) -> None:
    config = {**composed(f"optimizer={optimizer}"), "scheduler": composed(f"scheduler={scheduler}")["scheduler"]}
    parameter = torch.nn.Parameter(torch.ones(3))
    made = make(config["optimizer"], "optimizer")([parameter])
    schedule = make(config["scheduler"], "scheduler")(made, total_steps=10)
    parameter.sum().backward()
    made.step()
    schedule.step()
    assert torch.isfinite(parameter).all() and made.param_groups[0]["lr"] > 0


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("model=unett", "type model=unet"),
        ("modle=unet", "type model=unet"),
        ("data=crck", "type data=crack"),
        ("trainer.max_epoch=3", "type trainer.max_epochs=3"),
        ("data.batchsize=4", "type data.batch_size=4"),
        ("loss.terms.dise.smooth=1", "type loss.terms.dice.smooth=1"),
        ("optimiser.lr=0.5", "type optimizer.lr=0.5"),
        ("model.base_chanels=8", "type model.base_channels=8"),
        ("logger=wandbb", "type logger=wandb"),
        ("sed=3", "type seed=3"),
        ("model=unet,dcunett", "type model=dcunet"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(override: str, fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = OverridesParser.create().parse_overrides([override])
    with pytest.raises(ConfigError) as caught:
        check_override(overrides[0], overrides, "train")
    assert caught.value.fix == fix
    explain([override], "train")
    assert f"fix:     {caught.value.fix}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        "model=dcunet",
        "model.base_channels=8",
        "+model.in_channels=3",
        "data.patch_size=[64,64]",
        "logger=[csv,wandb]",
        "~callbacks.images",
        "experiment=crack_photos",
        "debug=null",
        "model=unet,dcunet",
        "trainer.devices=1,2",
        "optimizer.lr=range(1,3)",
        "hydra.run.dir=x",
        "hydra/launcher=basic",
    ],
)
def test_what_exists_is_not_complained_about(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain([override], "train")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ("model@first.model=unett", "type model@first.model=unet"),
        ("task@first.task=label_encodin", "type task@first.task=label_encoding"),
        ("loss@first.loss=dicce", "type loss@first.loss=dice"),
        ("model@first.model=unet,dcunett", "type model@first.model=dcunet"),
        ("model@frist.model=unet", "type model@first.model=unet"),
        ("modle@first.model=unet", "type model@first.model=unet"),
        ("model@first=unet", "type model@first.model=unet"),
        ("model@first.model=unet first.model.base_chanels=4", "type first.model.base_channels=4"),
        ("model@frist.model=unet first.max_epoch=4", "type first.max_epochs=4"),
        ("first.max_epoch=4,5", "type first.max_epochs=4,5"),
        ("first.model=unet", "type model@first.model=unet"),
        ("first.task=label_encoding", "type task@first.task=label_encoding"),
        ("first.model.base_channels=4", "add model@first.model=<name>"),
    ],
)
def test_a_typo_in_the_first_stage_is_answered_with_the_nearest_name(typed: str, fix: str) -> None:
    overrides = OverridesParser.create().parse_overrides(typed.split())
    with pytest.raises(ConfigError) as caught:
        check_override(overrides[-1], overrides, "train")
    assert caught.value.fix == fix and typed.rsplit(maxsplit=1)[-1].partition("=")[0] in caught.value.given


@pytest.mark.parametrize(
    "typed",
    [
        "model@first.model=unet",
        "task@first.task=label_encoding",
        "model@first.model=unet first.model.base_channels=4",
        "first.run=runs/x first.max_epochs=3",
        "+optimizer@second=adam",
    ],
)
def test_what_exists_in_the_first_stage_is_not_complained_about(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert composed(*typed.split())["first"]
    explain(typed.split(), "train")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("group", "name"), [("model", "encoding_unet"), ("model", "cascade"), ("task", "label_encoding"), ("loss", "dice")]
)
def test_the_first_stage_is_chosen_from_the_same_files(group: str, name: str) -> None:
    assert composed(f"{group}@first.{group}={name}")["first"][group] == composed(f"{group}={name}")[group]


@pytest.mark.parametrize("task", names("task"))
def test_what_a_task_asks_for_as_its_first_stage_can_be_typed(task: str) -> None:
    wanted = task_class(composed(f"task={task}")).first_stage
    if wanted:
        stage = stage_config(composed(f"task={task}", *wanted.split()))
        assert not task_class(stage).first_stage and stage["model"]["_target_"]
        assert stage["first"] == stage["logger"] == {}
        assert task_class(stage).labels_images == task_class(composed(f"task={task}")).first_labels_images


def test_a_key_of_the_chosen_model_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    explain(["model=dcunet", "model.width_factor=2"], "train")
    assert capsys.readouterr().err == ""
    explain(["model=dcunet", "model.n_poolings=2"], "train")
    assert "model.n_poolings=2" in capsys.readouterr().err


def test_an_unknown_missing_or_contradicting_argument_is_named() -> None:
    net = {"_target_": "seglab.nets.unet.UNet"}
    sizes = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2}
    with pytest.raises(ConfigError) as caught:
        make({**net, "base_chanels": 4}, "model", **sizes)
    assert caught.value.fix == "type model.base_channels=..." and "model.base_chanels=4" in caught.value.given
    with pytest.raises(ConfigError, match=r"leave model\.in_channels out"):
        make({**net, "in_channels": 3}, "model", **sizes)
    with pytest.raises(ConfigError, match=r"\+model\.num_classes"):
        make(net, "model", in_channels=1)
    with pytest.raises(ConfigError, match="does not say what to build"):
        make({"base_channels": 4}, "model", **sizes)
    with pytest.raises(ConfigError, match=r"base_channels=four.*blocks\.py:\d+"):
        make({**net, "base_channels": "four"}, "model", **sizes)
    assert make({**net, "in_channels": 1, "base_channels": 4}, "model", **sizes).in_channels == 1


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "os.mkdir",
        "pathlib.Path.touch",
        "builtins.eval",
        "seglab.run.record.subprocess.run",
        "seglab.run.record.Path",
        "seglab.run.fit.fit",
        "seglab.files.write_text",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "lightning.pytorch.trainer.trainer.os.system",
        "seglab.nets.unet.UNett",
        "seglab.nowhere.Net",
        "seglab",
        "",
    ],
)
def test_a_target_that_is_no_class_of_the_allowed_packages_is_never_called(target: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for node in (
        {"_target_": target, "_args_": [str(victim)]},
        {"_target_": "seglab.losses.composite.CompositeLoss", "terms": {"a": {"_target_": target}}, "weights": {}},
        {"_target_": "seglab.losses.composite.CompositeLoss", "terms": [{"_target_": target}], "weights": {}},
        {"_target_": "torch.nn.Flatten", "start_dim": {"a": [[{"_target_": target, "_args_": [str(victim)]}]]}},
        {"_target_": "torch.nn.Flatten", "start_dim": f"${{oc.create:'{{_target_: {target}, _args_: [{victim}]}}'}}"},
        {"_target_": "torch.nn.Flatten", "start_dim": [[f"${{oc.create:'{{_target_: {target}}}'}}"]]},
    ):
        with pytest.raises(ConfigError, match="_target_"):
            make(node, "loss")
    assert not victim.exists()


OWN_MODULE = """
import os
import subprocess

from seglab.nets.unet import UNet


class MyNet(UNet):
    pass


def build():
    return MyNet(in_channels=1, num_classes=2)


built = build()
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module mynet of the user's own that Python finds; whether seglab may is for each test to say."""
    (tmp_path / "mynet.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SEGLAB_PACKAGES", raising=False)
    yield
    sys.modules.pop("mynet", None)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("packages", ["mynet", "others, mynet", "mynet,"])
def test_a_class_of_an_own_package_is_built_when_the_shell_allows_it(
    packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGLAB_PACKAGES", packages)
    node = {"_target_": "mynet.MyNet", "base_channels": 2}
    assert type(make(node, "model", in_channels=1, num_classes=2)).__module__ == "mynet"
    with pytest.raises(ConfigError, match=r"type model\.base_channels=\.\.\."):
        make({"_target_": "mynet.MyNet", "base_chanels": 2}, "model", in_channels=1, num_classes=2)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("packages", ["", "others", "mynets", "mynet.MyNet"])
def test_an_own_package_that_the_shell_does_not_allow_is_not_even_imported(
    packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGLAB_PACKAGES", packages)
    with pytest.raises(ConfigError, match="outside the allowed packages") as caught:
        locate("mynet.MyNet", "model")
    assert caught.value.fix == "correct model._target_, or allow your own package with SEGLAB_PACKAGES=<name>"
    assert "mynet" not in sys.modules


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("mynet.os.system", "outside its package"),
        ("mynet.os.mkdir", "outside its package"),
        ("mynet.subprocess.Popen", "outside its package"),
        ("mynet.UNet", "leads to seglab"),
        ("mynet.MyNet.__class__", "leads to builtins"),
        ("mynet.build", "is not a class"),
        ("mynet.built", "is not a class"),
        ("mynet.MyNet.forward_heads", "leads to seglab"),
        ("mynet.MyNett", "cannot be imported"),
        ("mynet", "outside its package"),
    ],
)
def test_an_allowed_package_leads_to_its_own_classes_only(
    target: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGLAB_PACKAGES", "mynet")
    with pytest.raises(ConfigError, match=fault) as caught:
        locate(target, "model")
    assert caught.value.given == target and "monai, mynet" in caught.value.allowed


def test_a_module_of_python_is_nobody_s_own_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_PACKAGES", "subprocess,builtins,os,sys")
    for target in ("subprocess.Popen", "builtins.open", "os.system"):
        with pytest.raises(ConfigError, match="outside the allowed packages"):
            locate(target, "model")


def test_an_own_package_that_python_does_not_find_is_answered_with_the_path_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGLAB_PACKAGES", "nowhere")
    with pytest.raises(ConfigError, match="cannot be imported") as caught:
        locate("nowhere.mynet.MyNet", "model")
    assert "PYTHONPATH=<folder>" in caught.value.fix


@pytest.mark.parametrize(
    ("node", "target", "named"),
    [
        ("model", "torch.nn.Identity", "model=..."),
        ("task", "seglab.losses.cldice.ClDiceLoss", "task=segmentation"),
    ],
)
def test_a_model_that_is_no_network_and_a_task_that_is_none_are_refused(node: str, target: str, named: str) -> None:
    config = composed("data=crack")
    spec = spec_of(config, 2)
    config[node] = {"_target_": target}
    with pytest.raises(ConfigError) as caught:
        build_task(config, spec)
    assert named in caught.value.fix


@pytest.mark.parametrize(("typed", "config", "fix"), [
    ("list", "prepare", "type what=list"), ("trainer.devices=1 lits", "train", "type data=lits"),
    ("dcunet", "train", "type model=dcunet"),
])  # fmt: skip
def test_a_word_alone_is_told_how_to_be_typed(
    typed: str, config: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(typed.split(), config)
    assert fix in capsys.readouterr().err


def test_the_word_of_an_option_may_stand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    explain(["--cfg", "job", "data=crack"], "train")
    assert not capsys.readouterr().err
