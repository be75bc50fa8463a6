"""Every command of the README runs, every key in it exists, and its own network can be added as it says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from seglab.data.phantoms import cracks, ct, membranes, scenes

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from warm_python import warm_python

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```\w+\n.*?```", "", TEXT, flags=re.DOTALL)

# What is typed after a command to make it small, by what the command matches; all matching rows apply, in order.
SMALLER = {
    r"src/train\.py": "trainer.max_epochs=1 trainer.limit_train_batches=1 trainer.limit_val_batches=1 "
    "trainer.limit_test_batches=1 trainer.accelerator=cpu trainer.threads=1 data.num_workers=0",
    r"src/train\.py (?!resume)": "data.batch_size=2 data.patch_size=[32,32]",
    r"data\.dims=3": "data.patch_size=[16,64,64]",
    r"model=(\w*dcunet|multiresunet|attention_unet|vnet)|=em_dcunet": "model.base_channels=4",
    r"batch_norm|=em_dcunet": "callbacks.batch_norm.n_batches=1",
    r"trainer\.devices=4": "trainer.devices=2",
    r"src/train\.py resume=": "trainer.max_epochs=2",  # the run that goes on had one epoch
    r"src/(evaluate|predict)\.py": "trainer.accelerator=cpu trainer.threads=1",
    r"src/evaluate\.py": "data.num_workers=0",
}

# Commands that cannot run in a test: what runs in their place, and why.
STAND_INS = {
    "wandb sync runs/<run>/wandb/offline-run-*": ("wandb sync --help", "needs a W&B server"),
    "wandb leet runs/<run>/wandb": ("wandb leet inspect --summary runs/<run>/wandb", "draws until a key is pressed"),
}

# What each program says when it has done its work.
SAYS = {
    "src/train.py": "run folder",
    "src/evaluate.py": "written to",
    "src/predict.py": "file(s) predicted",
    "src/dashboard.py": "written to",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


MAKE = [line for line in commands() if line.startswith("make ")]
RUN = [line for line in commands() if not line.startswith("make ")]
PROGRAMS = {program for line in RUN for program in re.findall(r"src/\w+\.py", line)}
COLD = [next(line for line in reversed(RUN) if f"python {program}" in line) for program in sorted(PROGRAMS)]
"""The last command of each program, which starts as a user's does; the others start in a process that is ready."""


def test_every_stand_in_is_for_a_command_of_the_readme() -> None:
    assert set(STAND_INS) <= set(RUN)


def test_every_bash_block_holds_known_programs_only() -> None:
    known = {"make", "python", "torchrun", *(command.partition(" ")[0] for command in STAND_INS)}
    assert {line.partition(" ")[0] for line in commands()} == known
    assert all(line in STAND_INS for line in RUN if line.startswith("wandb "))


@pytest.mark.parametrize("command", MAKE)
def test_make_target_exists(command: str) -> None:
    done = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def conf_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration with the README's own network."""
    folder = tmp_path_factory.mktemp("composed") / "conf"
    shutil.copytree(ROOT / "conf", folder)
    (folder / "model" / "tiny.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", [line for line in commands() if "=" in line and not line.startswith("wandb ")])
def test_command_composes(command: str, conf_dir: Path) -> None:
    program, overrides = parsed(command)
    with initialize_config_dir(str(conf_dir), version_base="1.3"):
        compose(program, overrides=overrides)


def parsed(command: str) -> tuple[str, list[str]]:
    """Name of the primary config, and the overrides."""
    words = shlex.split(command.replace("<run>", "some-run"))
    if words[0] == "make":
        return words[1], shlex.split(words[2].removeprefix("ARGS="))
    (program,) = [word for word in words if word.startswith("src/")]
    return Path(program).stem, words[words.index(program) + 1 :]


def test_every_key_and_choice_named_in_the_text_exists(conf_dir: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", PROSE)
    keys = {span for span in spans if re.fullmatch(r"(data|trainer|model|loss|logger|inference)\.[a-z_.]+", span)}
    pairs = {span for span in spans if re.fullmatch(r"[a-z_.]+=[^ <>]+", span)} - {"key=value"}
    with initialize_config_dir(str(conf_dir), version_base="1.3"):
        configs = [compose("train", overrides=[choice]) for choice in ("data=lits", "data=satellite", "model=smp")]
        unknown = {key for key in keys if not any(has_key(config, key) for config in configs)}
        for pair in pairs:
            group = "model=smp" if pair.startswith("model.") else "data=lits"
            compose("train", overrides=[pair] if pair.startswith("data=") else [group, pair])
    assert len(keys) > 5
    assert len(pairs) > 2
    assert not unknown


def has_key(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    return isinstance(node, DictConfig) and name in node


def test_every_file_the_text_links_to_exists() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in target]
    assert targets
    assert not [target for target in targets if not (ROOT / target).is_file()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the code with the README's network in it, data where the README expects it, and a trained run."""
    folder = tmp_path_factory.mktemp("readme")
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src/seglab/nets/tiny.py").write_text(blocks("python")[0], encoding="utf-8")
    (folder / "conf/model/tiny.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    cracks.write(folder / "data/crack", n_photos=6)
    ct.write(folder / "data/lits", n_patients=10)
    membranes.write(folder / "data/em", n_slices=10)
    scenes.write(folder / "data/satellite", n_scenes=5)
    cracks.write(folder / "other_photos", seed=1, n_photos=1)
    shutil.copytree(folder / "other_photos/images", folder / "photos")
    smaller = " ".join(value for pattern, value in SMALLER.items() if re.search(pattern, "src/train.py data=crack"))
    with warm_python(folder / "src", environment(folder)) as ready:
        (folder / "bin").symlink_to(ready)
        call(f"RUN_ID=trained python src/train.py data=crack model.base_channels=4 {smaller}", folder, folder / "bin")
        yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", RUN)
def test_command_runs(command: str, place: Path) -> None:
    before = {file.parent.name for file in place.glob("runs/*/result.json")}
    smaller = [value for pattern, value in SMALLER.items() if re.search(pattern, command)]
    line = STAND_INS[command][0] if command in STAND_INS else " ".join([command, *smaller])
    if "<run>" in line:
        shutil.rmtree(place / "runs/copy", ignore_errors=True)
        shutil.copytree(place / "runs/trained", place / "runs/copy", symlinks=True)
    shown = call(line.replace("<run>", "copy"), place, *([] if command in COLD else [place / "bin"]))
    for program, words in SAYS.items():
        assert program not in line or words in shown
    if "src/train.py" in line:
        made = {file.parent for file in place.glob("runs/*/result.json") if file.parent.name not in before}
        (run,) = made or {place / "runs/copy"}
        assert json.loads((run / "result.json").read_text())["status"] == "finished"


def environment(folder: Path, *places: Path) -> dict[str, str]:
    """That of a user who is offline and without a home; programs are looked for in `places` first."""
    inherited = {name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return inherited | {
        "PATH": ":".join([*map(str, places), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
        "HF_HUB_OFFLINE": "1",
    }


def call(line: str, folder: Path, *places: Path) -> str:
    """Run a line in bash as a user would; return what it says."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment(folder, *places),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
