"""Every experiment says where it comes from, changes what it writes, builds its networks at full size, and trains."""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from test_configs import composed, spec_of

from seglab.run.build import build_task
from seglab.run.catalogue import CONF, names
from seglab.run.first import stage_config
from seglab.run.make import make

JOBS_DIR = Path(__file__).parents[1] / "run"
EXPERIMENTS = [name for name in names("experiment") if name != "crossval"]  # no system: a sweep, tested in tests/ddp
NARROWEST = {"seglab.nets.sdunet.SDUNet": 16}


def content(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())  # type: ignore[no-any-return]


def header(name: str) -> str:
    """The comment at the top, on one line."""
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().partition("\ndefaults:")[0].splitlines()
    return " ".join(line.removeprefix("# ") for line in lines[1:])


def stated(name: str) -> list[tuple[int, int, int]]:
    """Parameters, input channels and outputs that the header states."""
    found = re.findall(r"([\d,]+) parameters \((\d+) in, (\d+) out\)", header(name))
    return [(int(count.replace(",", "")), int(n_in), int(n_out)) for count, n_in, n_out in found]


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from leaves(value, (*path, name))
    else:
        yield path, node


def choices(name: str) -> list[str]:
    """What an experiment chooses, as it would be typed."""
    pairs = [pair for entry in content(name)["defaults"] for pair in entry.items()]
    chosen = {group.removeprefix("override /"): choice for group, choice in pairs}
    return [f"~{group}" if choice is None else f"{group}={choice}" for group, choice in chosen.items()]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUN_ID", "test")
    yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_header_names_the_source_the_data_and_what_was_published(name: str) -> None:
    assert (CONF / "experiment" / f"{name}.yaml").read_text().startswith("# @package _global_\n# ")
    assert re.search(r"https://(arxiv\.org/abs/\d{4}\.\d{5}|doi\.org/10\.\S+)", header(name))
    assert "Data:" in header(name) and "Published" in header(name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_line_changes_a_value_that_exists(name: str) -> None:
    before = composed(*choices(name))
    body = {key: value for key, value in content(name).items() if key != "defaults"}
    for path, value in leaves(body):
        node: Any = before
        for key in path:
            assert key in node, path
            node = node[key]
        assert node != value, path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_network_and_first_stage_are_built_and_take_the_patch(name: str) -> None:
    config = composed(f"experiment={name}")
    spec = spec_of(config, config["data"]["dims"])
    with torch.device("meta"):
        task = build_task(config, spec)
        logits = task(torch.empty(2, spec.in_channels, *spec.patch_size))
        first = build_task(stage_config(config), spec) if config["first"].get("model") else None
    assert logits.shape == (2, spec.num_classes, *spec.patch_size)
    patch = tuple(config["data"]["patch_size"] or ())
    assert task.net.input_size_for(patch) == patch
    assert bool(task.first_stage) == (first is not None)
    if first is not None:
        task.use_first(first.net)


@pytest.mark.parametrize(("name", "count", "n_in", "n_out"), [(n, *found) for n in EXPERIMENTS for found in stated(n)])
def test_a_network_has_the_parameters_that_the_header_states(name: str, count: int, n_in: int, n_out: int) -> None:
    config = composed(f"experiment={name}")
    nodes = [node for node in (config["model"], config["first"].get("model")) if node]
    sizes = {"in_channels": n_in, "num_classes": n_out, "spatial_dims": config["data"]["dims"]}
    with torch.device("meta"):
        nets = [make(node, "model", **sizes) for node in nodes]
    assert count in [sum(parameter.numel() for parameter in net.parameters()) for net in nets]


def test_headers_state_parameters() -> None:
    assert len([name for name in EXPERIMENTS if stated(name)]) >= 15


def narrow(config: dict[str, Any]) -> list[str]:
    """Overrides that make every network of a configuration as narrow as a quick look allows."""
    nodes = {"model": config["model"], "first": {"model": config["first"].get("model")}, "task": config["task"]}
    smallest = NARROWEST.get(config["model"]["_target_"], 4)
    return [f"{'.'.join(path)}={smallest}" for path, _ in leaves(nodes) if path[-1] == "base_channels"]


@pytest.fixture
def train_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, float]]]:
    """Trains into a folder, with what the tests of the jobs use."""
    monkeypatch.syspath_prepend(JOBS_DIR)
    jobs = import_module("run_jobs")
    with jobs.clean_environment():
        yield lambda run_dir, *overrides: jobs.train_in(run_dir, *overrides, *jobs.SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_steps_on_a_phantom_leave_a_tested_run(
    name: str,
    train_in: Callable[..., dict[str, float]],
    tmp_path: Path,
    cache_dir: Path,
    request: pytest.FixtureRequest,
) -> None:
    config = composed(f"experiment={name}")
    data, dims = config["data"]["_target_"].rsplit(".", 1)[-1], config["data"]["dims"]
    known = {"CrackData": "crack_root", "LitsData": "ct_root", "SatelliteData": "scene_root"}
    root = request.getfixturevalue(known[data]) if data in known else "phantom"
    small = [f"data.patch_size={[64, 64] if dims == 2 else [32, 32, 32]}", "data.batch_size=2", *narrow(config)]
    short = ["debug=smoke", "trainer.check_val_every_n_epoch=1", "logger=csv"]
    short += ["first.max_epochs=1"] if config["first"].get("model") else []
    places = [f"data.root={root}", f"paths.cache_dir={cache_dir}", "inference.overlap=0"]
    scores = train_in(tmp_path / "run", f"experiment={name}", *short, *small, *places)
    assert any(metric.startswith("test/dice") for metric in scores)
