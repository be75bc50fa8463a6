"""Checkpoints are plain data that open alone; what is broken or foreign is said to be so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seglab.errors import CheckpointError
from seglab.run.checkpoints.checkpoint import find_checkpoint, load_task, load_weights, read_checkpoint

Run = tuple[Path, dict[str, float]]


@pytest.mark.parametrize("name", ["best", "last"])
def test_every_checkpoint_opens_as_plain_data_and_gives_its_network(crack_run: Run, name: str) -> None:
    file = crack_run[0] / "checkpoints" / f"{name}.ckpt"
    content = torch.load(file, weights_only=True)
    assert json.loads(content["seglab"]["config"])["model"]["base_channels"] == 4
    assert content["seglab"]["spec"]["class_names"] in (("background", "crack"), ["background", "crack"])
    task = load_task(find_checkpoint(crack_run[0], name))
    assert not task.training and task(torch.zeros(1, 3, 40, 50)).shape == (1, 2, 40, 50)
    assert all(torch.equal(value, content["state_dict"][key]) for key, value in task.state_dict().items())


@pytest.mark.slow
def test_a_fresh_process_needs_only_the_file(crack_run: Run, tmp_path: Path) -> None:
    alone = tmp_path / "model.ckpt"
    alone.write_bytes((crack_run[0] / "checkpoints" / "best.ckpt").read_bytes())
    code = (
        "import sys, pathlib; from seglab.run.checkpoints.checkpoint import load_task;"
        "print(type(load_task(pathlib.Path(sys.argv[1])).net).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, alone], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "UNet" in done.stdout


def test_the_checkpoint_of_another_network_lists_the_keys_that_do_not_fit(crack_run: Run) -> None:
    file = crack_run[0] / "checkpoints" / "best.ckpt"
    task, content = load_task(file), read_checkpoint(file)
    content["state_dict"]["net.extra"] = content["state_dict"].pop("net.head.bias")
    content["state_dict"]["net.head.weight"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        load_weights(task, content, file)
    for name in ("net.extra", "net.head.bias", "net.head.weight"):
        assert name in caught.value.given


def test_broken_files_are_told_from_foreign_ones(crack_run: Run, tmp_path: Path) -> None:
    whole = (crack_run[0] / "checkpoints" / "best.ckpt").read_bytes()
    broken = {"half": whole[: len(whole) // 2], "empty": b"", "text": b"no checkpoint", "zeros": bytes(1000)}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "pickled.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "pickled.ckpt")
    for name, foreign in {"weights": {"a": torch.zeros(1), 3: 4}, "tensor": torch.zeros(2), "list": [1]}.items():
        torch.save(foreign, tmp_path / name)
        with pytest.raises(CheckpointError, match="not written by seglab"):
            read_checkpoint(tmp_path / name)


def test_a_checkpoint_cannot_call_what_is_no_class_of_the_allowed_packages(crack_run: Run, tmp_path: Path) -> None:
    content = torch.load(crack_run[0] / "checkpoints" / "best.ckpt", weights_only=True)
    config = json.loads(content["seglab"]["config"])
    for target in ("os.system", "torch.hub.load", "seglab.run.record.subprocess.run", "seglab.files.write_text"):
        config["model"] = {"_target_": target}
        content["seglab"]["config"] = json.dumps(config)
        torch.save(content, tmp_path / "evil.ckpt")
        with pytest.raises(Exception, match=r"model\._target_"):
            load_task(tmp_path / "evil.ckpt")


def test_a_named_checkpoint_that_is_not_there_is_never_replaced_by_another(crack_run: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="best, last"):
        find_checkpoint(crack_run[0], "epoch=7")
    with pytest.raises(CheckpointError, match="train it again"):
        find_checkpoint(tmp_path)
