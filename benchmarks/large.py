"""Peak memory of predictions of a raster and of a CT that are larger than what it may take.

python benchmarks/large.py                             both, in full
python benchmarks/large.py --side 4000 --slices 100    a short version, whose figures are lower

`python src/predict.py` labels a GeoTIFF of three 8-bit bands (six classes, windows of 512x512 pixels) and a gzipped
NIfTI of 16-bit numbers with an intercept, as scanners store Hounsfield units (three classes, windows of 64x128x128
voxels), four windows at a time, each in a process of its own on one thread. Peak memory is VmHWM of that process: all
that was ever resident, libraries (some 850 MB with PyTorch for CUDA) and input included. What counts is what grows with
the image, so the network is small and not trained: a U-Net of one channel and one pooling without norm; windows overlap
by a tenth so that it ends in minutes. Neither changes the sums of a row of windows, which are the largest part.

Goals: at most 1500 MB for 20,000 x 20,000 pixels, at most 2000 MB for 1000 x 512 x 512 voxels.
"""

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
import torch
from rasterio.transform import Affine
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from runs import finish  # noqa: E402

from seglab.run import cli  # noqa: E402, F401  # registers the resolvers
from seglab.run.build import build_task  # noqa: E402
from seglab.run.catalogue import CONF  # noqa: E402
from seglab.run.record import write_json  # noqa: E402
from seglab.spec import DataSpec, Intensity  # noqa: E402

SMALL = ["model.base_channels=1", "model.n_poolings=1", "model.norm=null", "trainer.threads=1"]
BLOCK = 256


def main() -> None:
    """Predict both, print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="pixels of the raster along both axes; 0: no raster")
    parser.add_argument("--slices", type=int, default=1000, help="of the CT; 0: no CT")
    parser.add_argument("--maps", action="store_true", help="write probabilities and entropy too")
    given = parser.parse_args()
    more = ["probabilities=true", "entropy=true"] if given.maps else []
    figures: dict[str, tuple[float, str, bool]] = {}
    print("| input | seconds | peak, MB | output, MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.side:
            write_raster(folder / "scene.tif", given.side)
            peak = measured(
                write_run(folder / "raster", "rasters"),
                folder / "scene.tif",
                folder / "out",
                ["inference.window=[512,512]", *more],
            )
            check_raster(folder / "out" / "scene.tif", given.side)
            figures[f"raster of {given.side} x {given.side}, MB"] = (round(peak), "<= 1500", peak <= 1500)
        if given.slices:
            write_ct(folder / "ct.nii.gz", given.slices)
            peak = measured(
                write_run(folder / "volume", "lits"),
                folder / "ct.nii.gz",
                folder / "out",
                more,
            )
            check_ct(folder / "out" / "ct.nii.gz", given.slices)
            figures[f"CT of {given.slices} x 512 x 512, MB"] = (round(peak), "<= 2000", peak <= 2000)
    finish(figures)


def write_run(run_dir: Path, data: str) -> Path:
    """A run folder as training leaves it, with a network as it was initialised."""
    is_ct = data == "lits"
    n_classes, channels = (3, 1) if is_ct else (6, 3)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"data={data}", f"data.dims={3 if is_ct else 2}", *SMALL])
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    spec = DataSpec(
        name=data,
        kind="volume" if is_ct else "raster",
        spatial_dims=3 if is_ct else 2,
        in_channels=channels,
        class_names=tuple(f"class {index}" for index in range(n_classes)),
        class_colors=tuple((40 * index, 128, 255 - 40 * index) for index in range(n_classes)),
        mask_values=tuple(range(n_classes)),
        has_background=True,
        patch_size=(64, 128, 128) if is_ct else (512, 512),
        intensity=Intensity((0.0,), (100.0,), -200.0, 250.0) if is_ct else Intensity((128.0,) * 3, (64.0,) * 3),
    )
    torch.manual_seed(0)
    task = build_task(config, spec)
    (run_dir / "checkpoints").mkdir(parents=True)
    content = {"state_dict": task.state_dict(), "seglab": {"config": task.config, "spec": spec.to_dict()}}
    torch.save(content, run_dir / "checkpoints" / "best.ckpt")
    write_json(run_dir / "run.json", {"config": config, "precision": "32-true"})
    return run_dir


def write_raster(file: Path, side: int) -> None:
    """Three bands of coarse fields with noise, written row by row."""
    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6), "nodata": 0}
    size = {"count": 3, "height": side, "width": side, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "pixel"}
    with rasterio.open(file, "w", driver="GTiff", **size, **place, **tiles) as sink:
        for top in range(0, side, BLOCK):
            height = min(BLOCK, side - top)
            fields = rng.integers(30, 220, (3, -(-BLOCK // 64), -(-side // 64)), dtype=np.uint8)
            rows = fields.repeat(64, axis=1).repeat(64, axis=2)[:, :height, :side]
            noise = rng.integers(0, 30, (1, height, side), dtype=np.uint8)
            sink.write(rows + noise, window=Window(0, top, side, height))


def write_ct(file: Path, n_slices: int) -> None:
    """A body of organs with noise in air, slice by slice; the stored numbers lie 1024 above HU."""
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(np.broadcast_to(np.int16(0), (512, 512, n_slices)), np.diag([0.8, 0.8, 0.7, 1.0]))
    header = image.header
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, -1024)
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    x, y = np.mgrid[-1:1:512j, -1:1:512j]
    inside = x**2 / 0.7 + y**2 / 0.4 < 1
    noise = rng.integers(-30, 30, (512 + n_slices, 512))
    with gzip.open(file, "wb", 1) as stream:
        stream.write(header.binaryblock + bytes(4))
        for index in range(n_slices):
            organs = np.where(np.sin(9 * x + index / 40) * np.cos(7 * y - index / 30) > 0, 1084, 964)
            values = np.where(inside, organs, 24) + noise[index : index + 512]
            stream.write(values.astype("<i2").tobytes(order="F"))


def measured(run_dir: Path, given: Path, output: Path, more: list[str]) -> float:
    """Predict in a process of its own; its peak memory in MB."""
    arguments = [f"run={run_dir}", f"input={given}", f"output={output}", "inference.overlap=0.1", *more]
    arguments += ["trainer.accelerator=cpu", "trainer.threads=1"]
    start, peak = time.monotonic(), 0.0
    command = [sys.executable, str(ROOT / "src" / "predict.py"), *arguments]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as child:
        while child.poll() is None:
            peak = max(peak, peak_mb(child.pid))
            time.sleep(0.05)
    if child.returncode:
        sys.exit(f"prediction of {given.name} ended with {child.returncode}")
    written = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    print(f"| {given.name} | {time.monotonic() - start:.0f} | {peak:.0f} | {written:.0f} |", flush=True)
    return peak


def peak_mb(pid: int) -> float:
    """VmHWM of a process; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmHWM:")), 0.0)


def check_raster(file: Path, side: int) -> None:
    """Ends the benchmark when the output does not lie on the grid of the input."""
    with rasterio.open(file) as written:
        if written.shape != (side, side) or written.transform != Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6):
            sys.exit(f"{file} lies elsewhere: {written.shape}, {written.transform}")


def check_ct(file: Path, n_slices: int) -> None:
    """Ends the benchmark when the output does not lie on the grid of the input."""
    written = nib.load(file)
    if written.shape != (512, 512, n_slices) or not np.allclose(written.affine, np.diag([0.8, 0.8, 0.7, 1.0])):
        sys.exit(f"{file} lies elsewhere: {written.shape}")


if __name__ == "__main__":
    main()
