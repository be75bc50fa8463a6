"""A cross-validation from the command line: folds that share nothing, a joined table, an ensemble that labels."""

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "trainer.accelerator=cpu", "trainer.threads=1", "trainer.precision=32-true", "data.num_workers=0", "logger=csv",
    "model.base_channels=2", "data.batch_size=2", "data.patch_size=[32,32]", "trainer.max_epochs=1",
    "trainer.limit_train_batches=2", "data.n_folds=2", "data.fold=0,1",
]  # fmt: skip

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(300)]


def job(python: str, *command: str) -> str:
    own = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "WANDB_MODE": "offline"}
    done = subprocess.run(
        [python, *command], cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_folds_are_joined_and_label_together(python: str, crack_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    paths = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"paths.runs_dir={tmp_path}"]
    said = job(python, "src/train.py", "experiment=crossval", *TINY, *paths)
    (sweep,) = tmp_path.iterdir()
    splits = [read(sweep / number / "split.json") for number in "01"]
    assert splits[0]["test"] == splits[1]["test"] and not {*splits[0]["val"]} & {*splits[1]["val"]}
    assert {*splits[0]["val"]} == {*splits[1]["train"]} and {*splits[1]["val"]} == {*splits[0]["train"]}

    table, summary = rows(sweep / "cases.csv"), read(sweep / "folds.json")
    assert {row["fold"] for row in table} == {"0", "1"}
    cases = [row["case"] for row in table]
    assert len(cases) == len(set(cases)) == 4 * sum(len(split["val"]) for split in splits)
    values = [read(sweep / number / "evaluate" / "val" / "metrics.json")["test/dice/mean"] for number in "01"]
    assert summary["val"]["dice/mean"]["values"] == values
    assert summary["val"]["dice/mean"]["mean"] == pytest.approx(sum(values) / 2)
    assert "2 folds" in said and "dice/mean" in said

    job(python, "src/evaluate.py", f"run={sweep}", f"output={tmp_path / 'scores'}", "trainer.accelerator=cpu")
    together = rows(tmp_path / "scores" / "cases.csv")
    assert [row["case"] for row in together] == [row["case"] for row in rows(sweep / "0" / "cases.csv")]
    image = next((crack_root / "images").iterdir())
    job(
        python,
        "src/predict.py",
        f"run={sweep}",
        f"input={image}",
        f"output={tmp_path / 'labels'}",
        "trainer.accelerator=cpu",
    )
    assert len(list((tmp_path / "labels").glob("*.png"))) == 1
