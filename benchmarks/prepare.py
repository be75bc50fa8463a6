"""prepare on a phantom LiTS: time, peak memory and size of the store, and what kill -9 at random moments leaves.

    python benchmarks/prepare.py <folder> [--volumes 20] [--shape 512 512 200] [--kills 10] [--first 0] [--workers 2]

The volumes are written into <folder>/raw once, unpacked as LiTS is published, and used again by the next run. Each is
noise around organs of constant HU, so it compresses like a CT. Goals: at most one volume at a time in each worker, that
is 8 bytes a voxel (what the reader, the mask and the checks of one case need) beside the interpreter; the store at most
half as large as the voxels; after every kill and start the same store, byte for byte. Time is told, as it depends on
the machine. Where ten kills take too long at once, --kills 5 and --kills 5 --first 5 are the same ten.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import nibabel as nib
import numpy as np
from runs import ROOT, finish
from scipy.ndimage import gaussian_filter

BYTES_PER_VOXEL = 8
INTERPRETER_MB = 700
LARGEST_STORE = 0.5


def main() -> None:
    """Measure once without, then kill."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 200), help="columns, rows, slices")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill, which draws its moment")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    raw = given.folder / f"raw-{'x'.join(map(str, given.shape))}"
    write_volumes(raw, given.volumes, tuple(given.shape))
    whole = given.folder / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    seconds, peak_mb = measured(raw, whole, given.workers)
    n_voxels = int(np.prod(given.shape))
    share = size_of(whole / "prepared" / "entries") / (given.volumes * n_voxels * 3)  # int16 and uint8
    allowed_mb = INTERPRETER_MB + BYTES_PER_VOXEL * n_voxels / 1e6
    print(f"{given.volumes} volumes in {seconds:.0f} s, {seconds / given.volumes:.1f} s each, {given.workers} workers")
    print(f"largest process {peak_mb:.0f} MB, store {share:.2f} of the voxels", flush=True)
    wanted, same, left = contents(whole / "prepared"), 0, 0
    for number in range(given.first, given.first + given.kills):
        is_same, n_left = killed(raw, given.folder / "killed", seconds, number, given.workers, wanted)
        same, left = same + is_same, left + n_left
    finish(
        {
            "peak_mb_per_process": (round(peak_mb), f"<= {allowed_mb:.0f}", peak_mb <= allowed_mb),
            "store_per_raw_voxel_bytes": (round(share, 3), f"<= {LARGEST_STORE}", share <= LARGEST_STORE),
            "same_store_after_kill": (same, f"== {given.kills}", same == given.kills),
            "remains_after_kill": (left, "== 0", left == 0),
        }
    )


def write_volumes(raw: Path, n_volumes: int, shape: tuple[int, ...]) -> None:
    """Write what is not there yet: a body with organs, and noise of one field for all volumes."""
    raw.mkdir(parents=True, exist_ok=True)
    if (raw / f"segmentation-{n_volumes - 1}.nii").is_file():
        return
    places = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    noise = np.random.default_rng(0).integers(-25, 25, shape, dtype=np.int16)
    affine = np.diag([-0.8, -0.8, 1.5, 1.0])
    for number in range(n_volumes):
        if (raw / f"segmentation-{number}.nii").is_file():
            continue
        rng = np.random.default_rng(number + 1)
        soft = gaussian_filter(rng.normal(size=[-(-n // 16) for n in shape]), 1.0)
        coarse = np.kron(soft, np.ones((16, 16, 16), np.float32))[: shape[0], : shape[1], : shape[2]]
        body = places[0] ** 2 / 0.7 + places[1] ** 2 / 0.4 < 1 + 0 * places[2]
        liver = (places[0] - 0.25) ** 2 + (places[1] + 0.05) ** 2 + (places[2] * 1.4) ** 2 < 0.12
        mask = (liver & body).astype(np.uint8)
        mask[liver & (coarse > np.quantile(coarse[liver], 0.97))] = 2
        hu = np.where(body, 20 + 120 * coarse, -1000) + 60 * (mask > 0) - 40 * (mask == 2)
        image = np.clip(hu + np.roll(noise, number * 7, axis=0), -1024, 3071).astype(np.int16)
        for name, array in (("volume", image), ("segmentation", mask)):
            nib.save(nib.Nifti1Image(array, affine), raw / f"part-{name}.nii")
            (raw / f"part-{name}.nii").rename(raw / f"{name}-{number}.nii")
        print(f"wrote volume {number + 1} of {n_volumes}", flush=True)


def start(raw: Path, cache: Path, workers: int) -> "subprocess.Popen[bytes]":
    """`python src/prepare.py` in a process group of its own."""
    overrides = ["data=lits", f"data.root={raw}", f"paths.cache_dir={cache}", f"n_workers={workers}"]
    fractions = ["data.val_fraction=0", "data.test_fraction=0"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "prepare.py"), *overrides, *fractions],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        process_group=0,
    )


def measured(raw: Path, cache: Path, workers: int) -> tuple[float, float]:
    """Seconds of a start, and the most memory of its own that one of its processes had, in MB."""
    begin, peak = time.perf_counter(), 0.0
    job = start(raw, cache, workers)
    while job.poll() is None:
        peak = max([peak, *map(private_mb, family(job.pid))])
        time.sleep(0.05)
    if job.returncode:
        sys.exit(f"prepare ended with {job.returncode}")
    return time.perf_counter() - begin, peak


def family(pid: int) -> list[int]:
    """A process and its children."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [pid, *map(int, file.read_text().split())]
    except OSError:
        return [pid]


def private_mb(pid: int) -> float:
    """Memory of a process without mapped files and without what it shares as it was forked: anonymous RSS."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return fmean([float(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon")] or [0.0])


def killed(
    raw: Path, cache: Path, seconds: float, number: int, workers: int, wanted: dict[str, str]
) -> tuple[bool, int]:
    """Kill a start at a random moment, start again; whether the store is the same, and what is half-written there."""
    shutil.rmtree(cache, ignore_errors=True)
    moment = float(np.random.default_rng(number).uniform(0.05, 0.95)) * seconds
    job = start(raw, cache, workers)
    try:
        job.wait(moment)
    except subprocess.TimeoutExpired:
        os.kill(job.pid, signal.SIGKILL)  # the process alone: its workers must end by themselves
    job.wait()
    done = len(list((cache / "prepared" / "entries").glob("[!.]*")))
    code = start(raw, cache, workers).wait()
    found = contents(cache / "prepared")
    left = len(list((cache / "prepared" / "entries").glob(".part-*")))
    print(
        f"killed after {moment:.1f} s with {done} cases done: exit code {code}, same store: {found == wanted}",
        flush=True,
    )
    return code == 0 and found == wanted, left


def contents(prepared: Path) -> dict[str, str]:
    """Hash of every file that belongs to the data."""
    files = [file for file in prepared.rglob("*") if file.is_file() and ".part-" not in str(file)]
    kept = [file for file in files if file.parent != prepared and file.name != "in_use"]
    return {str(file.relative_to(prepared)): hashlib.sha256(file.read_bytes()).hexdigest() for file in kept}


def size_of(folder: Path) -> int:
    """Bytes below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
