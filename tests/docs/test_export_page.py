"""Every command of docs/export.md composes and runs, and what the page says of limits is what the code has."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from seglab.inference import backend
from seglab.run.catalogue import CONF
from seglab.run.exports import export_check  # registers the resolvers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from run_jobs import HARDWARE, TINY_CRACK, clean_environment, composed, train_in  # noqa: E402

from seglab.run.export import export  # noqa: E402
from seglab.run.predict import predict  # noqa: E402

TEXT = (ROOT / "docs/export.md").read_text(encoding="utf-8")
LINES = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
COMMANDS = [line for line in LINES if "src/" in line]
JOBS = {"src/predict.py": predict, "src/export.py": export}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command: str) -> None:
    python, script, *typed = shlex.split(re.sub(r"<\w+>", "some", command))
    assert python == "python" and (ROOT / script).is_file()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(Path(script).stem, overrides=typed)


def test_limits_in_the_text_are_those_of_the_code() -> None:
    text = TEXT.replace("\n", " ")
    assert f"{backend.MIN_AGREEMENT:.1%}".replace("%", " %") in text
    assert f"{export_check.MIN_AGREEMENT:.2%}".replace("%", " %") in text
    assert f"{export_check.MAX_GAP:.0%}".replace("%", " %") in text


def test_links_lead_to_files() -> None:
    assert all((ROOT / "docs" / target).is_file() for target in re.findall(r"\]\(([\w/]+\.md)\)", TEXT))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_run_one_after_the_other(
    crack_root: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [line for line in LINES if line not in COMMANDS]
    assert others == ["pip install -e '.[export]'", "python labeller/predict.py photos/*.png --output labels"]
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "test=false"]
    data = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    shutil.copy(crack_root / "images" / "photo_00_0.png", tmp_path / "photos")
    with clean_environment():
        train_in(tmp_path / "runs" / "some", *TINY_CRACK, *short, *data, "logger=csv")
        for command in COMMANDS:
            _, script, *typed = shlex.split(command.replace("<run>", "some"))
            on_cpu = HARDWARE[::2] if script == "src/predict.py" else HARDWARE[2:]
            gate = ["inference.max_dice_loss=1"] if "inference.int8=true" in typed else []
            JOBS[script](composed(Path(script).stem, [*typed, *on_cpu, *gate]))
    written = {file.name for file in (tmp_path / "runs/some/export").iterdir()}
    assert {"network.onnx", "network.pt2", "openvino"} <= written
    script = others[-1].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(script, shell=True, check=True, cwd=tmp_path, capture_output=True, timeout=300)
    with Image.open(tmp_path / "labels" / "photo_00_0.png") as mask:
        assert np.load(tmp_path / "labels" / "photo_00_0.npy").shape == mask.size[::-1]
