"""Every command of docs/predict.md runs and writes what the page says; every key in its text exists."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from identity import write_run  # noqa: E402
from run_jobs import HARDWARE, clean_environment, composed  # noqa: E402

from seglab.run.predict import predict  # noqa: E402

TEXT = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
KEYS = re.findall(r"`\.?([a-z_.]+)=[^`]*`", TEXT)


def test_the_commands_run_and_write_what_the_page_says(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    run_dir = write_run(tmp_path / "run", "rasters", (0, 1, 2))
    values = np.random.default_rng(0).integers(0, 3, (1, 40, 30)).astype(np.uint8)
    scene = write_raster(tmp_path / "scenes" / "scene.tif", values)
    places = {"<run>": run_dir, "<file, folder, glob or CSV>": scene, "<folder>": scene.parent, "<scene.tif>": scene}
    written = set()
    with clean_environment():
        for number, command in enumerate(COMMANDS):
            python, script, *typed = shlex.split(re.sub(r"<[^>]+>", lambda found: str(places[found[0]]), command))
            assert (python, script) == ("python", "src/predict.py") and "output=labels" in typed
            output = tmp_path / str(number)
            overrides = [f"output={output}" if text == "output=labels" else text for text in typed]
            predict(composed("predict", [*overrides, *HARDWARE[::2]]))
            written |= {file.name for file in output.iterdir() if not file.name.startswith(".")}
    assert written == {"scene.tif", "scene.probs.tif", "scene.entropy.tif", "scene.geojson", "predictions.jsonl"}
    assert all(f"`<name>.{part}`" in TEXT for part in ("probs", "entropy", "geojson"))


def test_every_key_in_the_text_exists() -> None:
    with clean_environment():
        cfg = composed("predict", ["run=r", "input=i", "output=o"])
        known = {"model.padding"} | {"rotations", "scales"}  # a network's; short for two keys
        assert len(KEYS) > 10
        for key in set(KEYS) - known:
            assert OmegaConf.select(cfg, key, default="missing") != "missing", key


def test_links_and_named_benchmarks_are_there() -> None:
    assert all((ROOT / "docs" / target).is_file() for target in re.findall(r"\]\(([\w/]+\.md)\)", TEXT))
    assert all((ROOT / name).is_file() for name in re.findall(r"benchmarks/\w+\.py", TEXT))
