"""Secrets: whatever form they come in, none is in anything that a run writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_jobs import TINY_CRACK, read
from wandb_log import read_wandb

from seglab.run.secrets import scrub, scrub_config, scrub_override

ROOT = Path(__file__).resolve().parents[2]
KEY = 4 * "0a1b2c3d4e"
MARK = "-".join(("ge", "he", "im"))
"""Part of each planted secret, put together here, as a run notes uncommitted changes of this file too; a W&B key, which
is hexadecimal, is searched for as well."""

# What is typed, and the environment beside it.
TYPED = [
    f"+plant.token={MARK}01",
    f"+plant.password={MARK}02",
    f"+plant.api_key={MARK}03",
    f"+plant.apikey={MARK}04",
    f"+plant.client_secret={MARK}05",
    f"+plant.aws.secret_access_key={MARK}06",
    f"+plant.auth={MARK}07",
    f"+plant.deep={{list: [{{passwd: {MARK}08}}]}}",
    f"+plant.url='https://user:{MARK}09@host/path'",
    f"+plant.db='postgresql://user:{MARK}@10@host:5432/db'",
    f"+plant.bearer='Bearer {MARK}111111'",
    f"+plant.link='https://host/x?token={MARK}12&a=1'",
    f"+plant.signed='https://host/x?a=1&X-Amz-Signature={MARK}13'",
    f"+plant.git=ghp_{'x' * 28}{MARK}14",
    f"+plant.hub=hf_{'x' * 28}{MARK}15",
    f"+plant.note='the key is {KEY}'",
    "+plant.from_env='${oc.env:MY_PASSWORD}'",
    "+plant.inside='postgresql://user:${oc.env:MY_PASSWORD}@host/db'",
    "+plant.storage='${oc.env:MY_STORAGE}'",
    f"logger.wandb.notes='{KEY}'",
]
PLANTED = {"MY_PASSWORD": f"{MARK}17-18", "MY_STORAGE": f"mysql://user:{MARK}19@host/db", "WANDB_API_KEY": KEY}


def test_twenty_secrets_are_in_no_byte_of_the_run_folder(crack_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    assert len(TYPED) == 20
    where = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}", f"hydra.run.dir={tmp_path}/run"]
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger.wandb.mode=offline"]
    command = [sys.executable, "src/train.py", *TINY_CRACK, *where, *short, *TYPED]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | PLANTED, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    run_dir = tmp_path / "run"
    files = [file for file in run_dir.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"run.json", "best.ckpt", "train.log", "output.log"} <= names and any(n.endswith(".wandb") for n in names)
    assert not [file for file in files if MARK.encode() in file.read_bytes() or KEY.encode() in file.read_bytes()]
    assert MARK not in done.stdout + done.stderr and KEY not in done.stdout + done.stderr
    arguments = read_wandb(run_dir).arguments
    assert "+plant.token=***" in arguments and "model.base_channels=4" in arguments
    plant = read(run_dir / "run.json")["config"]["plant"]
    assert plant["from_env"] == "${oc.env:MY_PASSWORD}" and plant["storage"] == "${oc.env:MY_STORAGE}"
    assert (
        plant["inside"] == "postgresql://user:${oc.env:MY_PASSWORD}@host/db" and plant["url"] == "https://***@host/path"
    )


@pytest.mark.parametrize(
    "harmless",
    [
        "data.root=/data/hub/snapshots/" + KEY + "/x",
        "git@github.com:group/name.git",
        "https://example.com/a?b=1",
        "optimizer.lr=1e-3",
        "+x.n_tokens=30",
        "model.token_mixing=conv",
        "seed=0,1,2",
        "data.root=local_scratch_of_the_experiments",
        "study.storage=${oc.env:STORAGE}",
        "study.storage=postgresql://me@host:5432/studies",
        "study.storage='postgresql+psycopg://me@host/studies'",
    ],
)
def test_what_is_no_secret_stays_as_it_is(harmless: str) -> None:
    assert scrub_override(harmless) == harmless == scrub(harmless) == scrub_config([harmless])[0]


def test_numbers_and_switches_under_a_secret_name_stay() -> None:
    config = {"password": None, "token": 3, "secret": True, "api_key": "", "rest": [1.5, ("a",)]}
    assert scrub_config(config) == config | {"rest": [1.5, ["a"]]}
    assert scrub_override("+x={secret: null, token: true}") == "+x={secret: null, token: true}"


def test_a_variable_that_names_a_place_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_CREDENTIALS", str(tmp_path))
    monkeypatch.setenv("APP_PASSWORD", "correct horse battery")
    assert scrub_config(f"{tmp_path}/x") == f"{tmp_path}/x"
    assert scrub("wrong: correct horse battery") == "wrong: ***"
    assert scrub_config({"a": ["correct horse battery"]}) == {"a": ["${oc.env:APP_PASSWORD}"]}
