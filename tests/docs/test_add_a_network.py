"""The page on adding a network is followed to the letter in a temporary folder, outside of the package and inside."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from seglab.data.phantoms import cracks
from seglab.run.make import make

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "add_a_network.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES = dict(re.findall(r"```\w+ file=(\S+)\n(.*?)```", TEXT, flags=re.DOTALL))
NETWORK, ARGUMENTS = "lab/mynets/mynet.py", "lab/conf/model/mynet.yaml"
((TABLE, ROWS),) = re.findall(r"```\w+ row=(\S+)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]
(EXPORT,) = [line for line in COMMANDS if line.startswith("export ")]

SMALLER = {
    "src/train.py": "model.base_channels=4 trainer.max_epochs=1 trainer.limit_train_batches=2 "
    "trainer.limit_val_batches=1 trainer.limit_test_batches=1 trainer.accelerator=cpu trainer.threads=1 "
    "data.num_workers=0 data.batch_size=2 data.patch_size=[32,32] logger=csv",
    "src/evaluate.py": "trainer.accelerator=cpu trainer.threads=1 data.num_workers=0",
    "src/predict.py": "trainer.accelerator=cpu trainer.threads=1",
}


def call(line: str, folder: Path, *places: Path) -> "subprocess.CompletedProcess[str]":
    """Run a line in bash as an offline user whose home is this folder; programs are looked for in `places` first."""
    inherited = {name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    own = {
        "PATH": ":".join([*map(str, places), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
    }
    command = ["bash", "-c", line]
    return subprocess.run(
        command, cwd=folder, env=inherited | own, capture_output=True, text=True, check=False, timeout=280
    )


def says(line: str, folder: Path, *places: Path) -> str:
    """What a line says that ends well."""
    done = call(line, folder, *places)
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def add_rows(folder: Path, rows: str) -> None:
    """A copy of the tests of all networks and their settings, with these rows at the end of the table."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "tests/nets", folder / "tests/nets", ignore=shutil.ignore_patterns("__pycache__"))
    table = (folder / TABLE).read_text(encoding="utf-8")
    before, after = re.split(r"(?<=\n)(?=}\n)", table, maxsplit=1)
    assert before.count("\nTABLE: ") == 1 and "\nCOUNTS" in after
    (folder / TABLE).write_text(before + rows + after, encoding="utf-8")


def under_contract(folder: Path, before: str) -> None:
    """Type the two commands of the page; every test of the contract passes for both rows."""
    noting, testing = (line for line in COMMANDS if "tests/nets" in line)
    says(f"{before} {noting}", folder)
    golden = json.loads((folder / "tests/nets/golden_keys.json").read_text())
    assert golden["mynet-2d"]["first"] == "encoder.0.first.conv.weight" and golden["mynet-3d"]["n"] > 50
    said = says(f"{before} {testing}", folder)
    assert int(re.search(r"(\d+) passed", said)[1]) > 20 and "failed" not in said  # type: ignore[index]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which the page was followed: the package as it is, two files, the rows, and photos."""
    folder = tmp_path_factory.mktemp("own")
    write(folder, FILES)
    add_rows(folder, ROWS)
    (folder / "src").symlink_to(ROOT / "src")
    cracks.write(folder / "drawn", n_photos=2)
    (folder / "drawn/images").rename(folder / "photos")
    yield folder
    shutil.rmtree(folder)


def test_the_page_gives_two_files_and_the_rows_of_one_table() -> None:
    assert set(FILES) == {NETWORK, ARGUMENTS} and TABLE == "tests/nets/table.py"
    assert [line.partition('"')[2].partition('"')[0] for line in ROWS.splitlines()] == ["mynet-2d", "mynet-3d"]


def test_every_file_the_page_links_to_exists() -> None:
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", prose) if "://" not in target]
    assert targets and not [target for target in targets if not (PAGE.parent / target).is_file()]


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_the_network_keeps_the_rules_of_the_house(command: str) -> None:
    line = ["ruff", *command.split(), "--no-cache", "--stdin-filename", "src/seglab/nets/mynet.py", "-"]
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, input=FILES[NETWORK], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_network_is_built_from_its_file_for_2d_and_3d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILES)
    monkeypatch.syspath_prepend(tmp_path / "lab")
    monkeypatch.setenv("SEGLAB_PACKAGES", "mynets")
    node = yaml.safe_load(FILES[ARGUMENTS])
    for dims in (2, 3):
        net = make({**node, "base_channels": 2}, "model", in_channels=1, num_classes=2, spatial_dims=dims)
        assert net(torch.zeros(1, 1, *[32] * dims)).shape == (1, 2, *[32] * dims)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mynets"]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_outside_of_the_package_the_network_keeps_the_contract(checkout: Path) -> None:
    under_contract(checkout, f"{EXPORT};")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_inside_the_package_the_network_keeps_the_contract(tmp_path: Path) -> None:
    rows = re.findall(r"^\| .*? \| `(.+?)` \| `(.+?)` \|$", TEXT, flags=re.MULTILINE)
    places = {outside: inside for outside, inside in rows if outside in FILES}
    assert len(places) == 2 and ('"mynets.mynet.MyNet"', '"mynet.MyNet"') in rows
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    text = dict(rows)
    first = FILES[ARGUMENTS].partition("\n")[0]
    write(tmp_path, {places[name]: content.replace(first, text[first]) for name, content in FILES.items()})
    add_rows(tmp_path, ROWS.replace('"mynets.mynet.MyNet"', text['"mynets.mynet.MyNet"']))
    under_contract(tmp_path, "export PYTHONPATH=src;")  # in a checkout that was set up, this is its package
    assert "model=mynet " in says("PYTHONPATH=src python src/train.py --help", tmp_path)


def job(program: str) -> str:
    """The command of the page that starts a program, made small."""
    (line,) = [line for line in COMMANDS if program in line]
    return f"{line.replace('<run>', 'mine')} {SMALLER[program]}"


@pytest.fixture(scope="module")
def trained(checkout: Path) -> Path:
    """The folder in which the training of the page has run."""
    assert "run folder" in says(f"{EXPORT}; RUN_ID=mine {job('src/train.py')}", checkout)
    return checkout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_network_trains_and_its_run_is_scored_and_applied(python: str, trained: Path) -> None:
    ready = Path(python).parent
    config = json.loads((trained / "runs/mine/run.json").read_text())["config"]
    assert config["model"] == {"_target_": "mynets.mynet.MyNet", "base_channels": 4, "n_poolings": 4}
    assert "written to" in says(f"{EXPORT}; {job('src/evaluate.py')}", trained, ready)
    says(f"{EXPORT}; {job('src/predict.py')}", trained, ready)
    labels, photos = ({file.stem for file in (trained / name).glob("*.png")} for name in ("labels", "photos"))
    assert labels == photos


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_run_goes_on_without_the_folder_of_configurations_but_not_unless_the_package_is_allowed(
    python: str, trained: Path
) -> None:
    ready = Path(python).parent
    resume = "python src/train.py resume=runs/mine trainer.max_epochs=2 logger=csv"
    assert "run folder" in says(f"{EXPORT}; {resume}", trained, ready)
    refused = call(f"{EXPORT}; unset SEGLAB_PACKAGES; {job('src/evaluate.py')}", trained, ready)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "model._target_ is outside" in refused.stderr
    assert "SEGLAB_PACKAGES=<name>" in refused.stderr.splitlines()[-1]
