"""Export: what is written was compared with its network, and a bundle labels as predict does, without seglab."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from run_jobs import HARDWARE, SMALL, composed, read, train_in
from torch import Tensor

from seglab.errors import ConfigError
from seglab.inference.postprocess import Postprocess, Steps
from seglab.inference.tta import Views
from seglab.inference.windows import SlidingWindow
from seglab.run.checkpoints.checkpoint import find_checkpoint, load_task
from seglab.run.choose import FILE
from seglab.run.export import check_format, export
from seglab.run.exports.export_bundle import check_bundled
from seglab.run.exports.export_check import check_agreement, compared
from seglab.run.exports.int8 import check_gate
from seglab.run.exports.kept import made_once
from seglab.run.predict import predict
from seglab.run.predictions import FILE as RECORD
from seglab.run.predictions import LOCK
from seglab.run.record import write_json
from seglab.task.segmentation import SegmentationTask

Run = tuple[Path, dict[str, float]]
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "test=false"]
TINY = [*SMALL, *SHORT, "model.base_channels=4", "model.n_poolings=2", "data.batch_size=2", "logger=csv"]
CT = {
    "slices": ["data.n_slices=3", "data.patch_size=[64,64]"],
    "volumes": ["data.dims=3", "data.patch_size=[16,48,48]"],
}


@pytest.fixture
def task(crack_run: Run) -> SegmentationTask:
    return load_task(find_checkpoint(crack_run[0]))


@pytest.fixture
def run_dir(crack_run: Run, tmp_path: Path) -> Path:
    """A copy of a finished run on cracks, to write into."""
    return shutil.copytree(crack_run[0], tmp_path / "run", ignore=shutil.ignore_patterns("export"))


def exported(run_dir: Path, *overrides: str) -> object:
    return export(composed("export", [f"run={run_dir}", "n_windows=4", "trainer.threads=1", *overrides]))


def label(run_dir: Path, image: Path, output: Path, *overrides: str) -> Path:
    """The file that predict writes for one image."""
    arguments = [f"run={run_dir}", f"input={image}", f"output={output}", *HARDWARE[::2], *overrides]
    predict(composed("predict", arguments))
    (file,) = (file for file in output.iterdir() if file.name not in (RECORD, LOCK))
    return file


def label_without_seglab(bundle: Path, image: Path, output: Path, *missing: str) -> None:
    """Run the bundle's script where neither seglab nor what is named can be imported."""
    blocked = ["seglab", "torch", "lightning", "hydra", "cv2", *missing]
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked}));"
        f"sys.argv = {['predict.py', str(image), '--output', str(output), '--threads', '1']};"
        f"runpy.run_path({str(bundle / 'predict.py')!r}, run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=bundle, capture_output=True, timeout=300)


def wrong(task: SegmentationTask, name: str) -> Callable[[Tensor], Tensor]:
    ways = {
        "other labels": lambda logits: logits.flip(1),
        "not a number": lambda logits: logits * torch.nan,
        "the same labels from other logits": lambda logits: logits * 1.05,
    }
    return lambda batch: ways[name](task.logits(batch))


@pytest.mark.parametrize("name", ["other labels", "not a number", "the same labels from other logits"])
def test_a_file_that_computes_something_else_is_refused(task: SegmentationTask, name: str) -> None:
    windows = list(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    same = compared(task, task.logits, windows)
    check_agreement(same, task)
    assert (same.labels, same.logits, same.n_windows) == (1, 0, 2)
    with pytest.raises(ConfigError, match="something else than UNet"):
        check_agreement(compared(task, wrong(task, name), windows), task)


def test_what_cannot_be_written_is_refused_at_once(run_dir: Path, task: SegmentationTask) -> None:
    for typed in (["format=tflite"], ["format=torch_export", "int8=true"]):
        with pytest.raises(ConfigError, match="cannot be written so"):
            check_format(composed("export", [f"run={run_dir}", *typed]))
    task.sliding_window = SlidingWindow(tta=Views(flips=True))
    with pytest.raises(ConfigError, match="sees each window once"):
        check_bundled(task)


def test_8_bits_pass_up_to_the_largest_loss_and_never_unmeasured() -> None:
    measured = {"float32": 0.8, "int8": 0.795, "loss": 0.005, "n_cases": 3}
    check_gate(measured, 0.005, "")
    check_gate({**measured, "loss": -0.01}, 0.0, "")
    for loss in (0.0051, None):
        with pytest.raises(ConfigError, match="8 bits lose too much") as caught:
            check_gate({**measured, "loss": loss}, 0.005, "")
        assert "set int8=false, or raise max_dice_loss" in caught.value.fix


def test_a_kept_file_is_made_anew_when_it_is_not_as_it_was_made(tmp_path: Path) -> None:
    made = []

    def make(temporary: Path) -> None:
        made.append(temporary.write_text("whole"))

    for content in (None, "whole", "who", "other"):
        if content is not None:
            (tmp_path / "kept").write_text(content)
        assert made_once(tmp_path / "kept", "text", make).read_text() == "whole"
    assert len(made) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bundle_of_photos_labels_as_predict_does(run_dir: Path, crack_root: Path, tmp_path: Path) -> None:
    write_json(run_dir / FILE, Postprocess(0.6).to_dict())
    with Image.open(crack_root / "images" / "photo_00_1.png") as picture:
        photo = picture.convert("RGB").crop((0, 0, 109, 87))
    photo.save(tmp_path / "photo.png")
    np.save(tmp_path / "array.npy", np.asarray(photo))
    exported(run_dir, "format=bundle", f"output={tmp_path / 'bundle'}", "inference.window=[48,48]")
    with Image.open(label(run_dir, tmp_path / "photo.png", tmp_path / "out", "inference.window=[48,48]")) as mask:
        wanted = np.asarray(mask) > 0
    label_without_seglab(tmp_path / "bundle", tmp_path / "photo.png", tmp_path / "labels", "scipy", "nibabel")
    label_without_seglab(tmp_path / "bundle", tmp_path / "array.npy", tmp_path / "labels", "scipy", "nibabel", "PIL")
    settings = read(tmp_path / "bundle" / "bundle.json")
    assert settings["tiling"]["window"] == [48, 48] and settings["postprocess"]["threshold"] == 0.6
    assert wanted.any() and not wanted.all()
    for name in ("photo", "array"):
        given = np.load(tmp_path / "labels" / f"{name}.npy")
        assert given.shape == (87, 109) and (given == wanted).mean() >= 0.9999


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", CT)
def test_a_bundle_of_ct_labels_as_predict_does(kind: str, ct_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    run_dir, scan = tmp_path / "run", ct_root / "volume-1.nii.gz"
    train_in(run_dir, *TINY, *CT[kind], "data=lits", f"data.root={ct_root}", f"paths.cache_dir={cache_dir}")
    plain = nib.load(label(run_dir, scan, tmp_path / "plain"))
    post = Postprocess(None, {1: Steps(fill_holes=True, min_size=2000.0), 2: Steps(largest=True)})
    write_json(run_dir / FILE, post.to_dict())
    exported(run_dir, "format=bundle")
    label_without_seglab(run_dir / "export" / "bundle", scan, tmp_path / "labels")
    given, wanted = nib.load(tmp_path / "labels" / scan.name), nib.load(label(run_dir, scan, tmp_path / "out"))
    assert np.array_equal(given.affine, wanted.affine) and given.shape == wanted.shape
    labels = np.asarray(wanted.dataobj)
    assert len(np.unique(labels)) > 1 and not np.array_equal(labels, np.asarray(plain.dataobj))
    assert (np.asarray(given.dataobj) == labels).mean() >= 0.9999
    intensity = read(run_dir / "export" / "bundle" / "bundle.json")["intensity"]
    assert (intensity["low"], intensity["high"]) == (-200, 250)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_format_is_compared_and_a_kept_file_that_was_damaged_is_made_anew(run_dir: Path) -> None:
    for format_ in ("onnx", "torch_export", "openvino"):
        found = exported(run_dir, f"format={format_}")
        assert found.labels >= 0.9999 and found.logits < 1e-3 and found.n_windows == 4
    folder = run_dir / "export"
    assert all((folder / name).exists() for name in ("network.onnx", "network.pt2", "openvino/network.xml"))
    (kept,) = folder.glob("network-*.onnx")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert exported(run_dir, "format=onnx").labels >= 0.9999
    assert kept.read_bytes() == whole == (folder / "network.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_predict_in_8_bits_is_measured_once_and_refused_where_it_loses(
    run_dir: Path, crack_root: Path, tmp_path: Path
) -> None:
    image, eight = crack_root / "images" / "photo_00_1.png", ["inference.backend=openvino", "inference.int8=true"]
    with Image.open(label(run_dir, image, tmp_path / "float", "inference.backend=openvino")) as mask:
        wanted = np.asarray(mask)
    with Image.open(label(run_dir, image, tmp_path / "8", *eight, "inference.max_dice_loss=1")) as mask:
        assert (np.asarray(mask) == wanted).mean() > 0.9
    (file,) = (run_dir / "export").glob("*-int8-openvino.json")
    measured = read(file)
    assert measured["n_cases"] > 0 and measured["loss"] == measured["float32"] - measured["int8"]
    write_json(file, {**measured, "loss": 0.02})
    with pytest.raises(ConfigError, match="8 bits lose too much"):
        label(run_dir, image, tmp_path / "refused", *eight)
    with pytest.raises(ConfigError, match="does not compute in 8 bits"):
        label(run_dir, image, tmp_path / "refused", "inference.int8=true")
