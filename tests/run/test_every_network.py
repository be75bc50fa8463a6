"""Every network and way of training goes all the way: train, evaluate, predict, as the command line composes it."""

import json
from pathlib import Path

import pytest
from run_jobs import HARDWARE, SMALL, composed, train_in

from seglab.run.catalogue import names
from seglab.run.evaluate import evaluate
from seglab.run.predict import predict
from seglab.run.predictions import FILE, LOCK

SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "logger=csv"]
ENCODING = ["model@first.model=encoding_unet", "task@first.task=label_encoding", "first.model.base_channels=2"]
CRACKS = ["data=crack", "data.patch_size=[64,64]", "data.batch_size=2"]
SLICES = ["data=lits", "data.patch_size=[64,64]", "data.batch_size=2"]
VOLUMES = ["data=lits", "data.dims=3", "data.patch_size=[32,32,32]", "data.batch_size=2", "inference.overlap=0"]

# what to type after model=...; a network that is not here takes model.base_channels=4 and crack photos
MODELS = {
    "cascade": [*SLICES, "model.first.base_channels=4", "model.second.base_channels=4"],
    "orthogonal": [*VOLUMES, "model.plane.base_channels=4"],
    "encoding_unet": [*CRACKS, "model.base_channels=2", "task=label_encoding"],
    "sdunet": [*CRACKS, "model.base_channels=16"],
    "smp": CRACKS,
    "monai": [*CRACKS, "model.base_channels=8"],
    "vnet": [*VOLUMES, "model.base_channels=2"],
    "unet3d": [*VOLUMES, "model.base_channels=4"],
}
TASKS = {
    "deep_supervision": [*CRACKS, "model=unetpp", "model.base_channels=4", "model.deep_supervision=true"],
    "regions": [*SLICES, "model=e1d3", "model.base_channels=4", "loss=ce"],
    "bottleneck_head": [*CRACKS, "model=bottleneck_head_unet", "model.base_channels=4"],
    "bottleneck_supervision": [*CRACKS, "model=bsunet", "model.base_channels=2", *ENCODING],
    "distillation": [*CRACKS, "model.base_channels=2", "model@first.model=unet", "first.model.base_channels=4"],
    "adversarial": [*CRACKS, "model.base_channels=4", "task.base_channels=4", "task.n_layers=2"],
    "implicit": [*VOLUMES, "model=implicit_unet", "model.base_channels=4", "task.n_points=512"],
}


def go_all_the_way(run_dir: Path, overrides: list[str], crack_root: Path, ct_root: Path, cache_dir: Path) -> None:
    root = ct_root if "data=lits" in overrides else crack_root
    cache = f"paths.cache_dir={cache_dir}"
    tested = train_in(run_dir, *SMALL, *SHORT, *overrides, f"data.root={root}", cache)
    again = evaluate(composed("evaluate", [f"run={run_dir}", "metrics=[]", *HARDWARE, "data.num_workers=0", cache]))
    for name in json.loads((run_dir / "metrics.json").read_text()):
        assert again[name] == pytest.approx(tested[name], nan_ok=True), name
    if "task=label_encoding" not in overrides:
        file = next(root.glob("volume-0*")) if root == ct_root else next((root / "images").glob("*.png"))
        output = run_dir / "labels"
        predict(composed("predict", [f"run={run_dir}", f'input="{file}"', f"output={output}", *HARDWARE[::2]]))
        labels = [path.name.partition(".")[0] for path in output.iterdir() if path.name not in (FILE, LOCK)]
        assert labels == [file.name.partition(".")[0]]


@pytest.mark.slow
@pytest.mark.parametrize("model", names("model"))
def test_every_network_trains_is_scored_and_predicts(
    model: str, tmp_path: Path, crack_root: Path, ct_root: Path, cache_dir: Path
) -> None:
    small = MODELS.get(model, [*CRACKS, "model.base_channels=4"])
    go_all_the_way(tmp_path / "run", [f"model={model}", *small], crack_root, ct_root, cache_dir)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_way_of_training_trains_is_scored_and_predicts(
    task: str, tmp_path: Path, crack_root: Path, ct_root: Path, cache_dir: Path
) -> None:
    go_all_the_way(tmp_path / "run", [f"task={task}", *TASKS[task]], crack_root, ct_root, cache_dir)
