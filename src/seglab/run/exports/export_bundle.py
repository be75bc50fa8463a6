"""A bundle: a folder with the network, what is known of its data, and a script that labels images without seglab."""

import shutil
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from seglab import __version__
from seglab.errors import ConfigError
from seglab.inference.backend_onnx import SizeRule
from seglab.run.choose import stored_postprocess
from seglab.run.exports import export_runner
from seglab.run.record import write_json
from seglab.run.trained import TrainedRun
from seglab.task.segmentation import SegmentationTask


def check_bundled(task: SegmentationTask) -> None:
    """Refuse what the script of a bundle cannot do.

    Raises:
        ConfigError: test-time augmentation.
    """
    if not task.sliding_window.tta.is_plain:
        raise ConfigError(
            "a bundle sees each window once",
            given="a run with inference.tta",
            allowed="inference.tta without flips, rotations and scales",
            fix="train with inference.tta=null, or predict with src/predict.py",
        )


def write_bundle(run: TrainedRun, file: Path, folder: Path) -> None:
    """Write network.onnx, bundle.json and predict.py into a new folder.

    Args:
        run: that was exported.
        file: its network as ONNX.
        folder: to make.
    """
    folder.mkdir()
    shutil.copyfile(file, folder / "network.onnx")
    shutil.copyfile(Path(export_runner.__file__), folder / "predict.py")
    write_json(folder / "bundle.json", settings_of(run))


def settings_of(run: TrainedRun) -> dict[str, Any]:
    """All that the script needs to know, as plain data."""
    spec, windows, net = run.task.spec, run.task.sliding_window, run.task.net
    records = run.data.store.records
    post = stored_postprocess(run.run_dir)
    return {
        "seglab": __version__,
        "data": spec.name,
        "kind": spec.kind,
        "spatial_dims": spec.spatial_dims,
        "in_channels": spec.in_channels,
        "n_slices": spec.n_slices,
        "class_names": list(spec.class_names),
        "class_colors": [list(color) for color in spec.class_colors],
        "mask_values": list(spec.mask_values),
        "intensity": asdict(spec.intensity),
        "spacing": [median(record.spacing[axis] for record in records) for axis in range(3)],
        "tiling": {
            "window": list(windows.window or run.task.window),
            "overlap": windows.overlap,
            "blending": windows.blending,
        },
        "sizes": asdict(SizeRule.of(net.input_size_for, net.spatial_dims)),
        "postprocess": None if post is None else post.to_dict(),
    }
