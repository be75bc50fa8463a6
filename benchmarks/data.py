"""Reading training samples of CT: the store beside nnU-Net's layouts, MONAI's datasets, nibabel and plain npy.

python benchmarks/data.py [--ct volume.nii.gz --labels segmentation.nii.gz]

One CT of 200x512x512, synthetic or a real one of repeated slices, one thread, all in the page cache.
A sample is ready for training: float32 image, normalised, and its mask; random slices, five neighbouring slices (2.5-D)
and 64x128x128 patches. The ways take turns, and what counts is the time of the processor. Freed memory stays with the
process, for all ways, as in a loader's process. MONAI's cached datasets hold the volume in memory, the others read it.
"npy memmap" is the volume as it came, int16, mapped, and clipped and normalised as it is read; "npy, clipped" is what
the store would be without compression, read by the same code: the limit.

What the store owes its speed to: blocks are unpacked without blosc2 (seglab.data.unpacking), which takes 2 us for each
on top of the unpacking itself, and from there go to normalised float32 in one step; and they are packed by LZ4's
thorough packer, whose repetitions are fewer and longer. Patches of the real CT are read best from blocks of 64x64: from
32x128 they take a tenth longer, from 32x32 and 64x128 a sixth to a fifth; on the phantom the wider ones are a twentieth
faster. Not worth what they cost: adding to all values what makes the upper byte turn over less often (patches a tenth
to a fifth faster), keeping the box outside of which a mask is empty (a tenth), LZ4's highest level (at most a
twentieth, for up to three times the time of writing).
The last line is {name: {value, goal, ok}}.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import blosc2
import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from runs import finish, table

from seglab.data.dataset import Region, read_region
from seglab.data.lits import LitsData
from seglab.data.memory import keep_freed_memory
from seglab.data.preparation import Preparation
from seglab.data.store import Layout, Sample, Store, write_entry
from seglab.spec import DataSpec, Intensity

SHAPE = (200, 512, 512)
PATCH = (64, 128, 128)
WINDOW = (-200.0, 250.0)
INTENSITY = Intensity((0.0,), (100.0,), *WINDOW)
KINDS = ("slice", "2.5-D", "patch")
SIZES = {"slice": (1, 512, 512), "2.5-D": (5, 512, 512), "patch": PATCH}
NNUNET = {
    "nnU-Net v2, 2-D layout": ((1, 1, 512, 512), (1, 1, 64, 64)),
    "nnU-Net v2, 3-D layout": ((1, 80, 64, 64), (1, 16, 16, 16)),
}
"""Chunks and blocks that nnU-Net v2 plans for such a volume, in float32 with zstd 8."""

N_PLACES = 500
"""Drawn before the clock starts; whoever reads more of them begins anew."""

Read = Callable[[str, tuple[int, int, int]], Any]


def main() -> None:
    """Write everything, read in turns, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each way in each round")
    parser.add_argument("--ct", type=Path, help="NIfTI, slices of 512x512 along the last axis")
    parser.add_argument("--labels", type=Path, help="its mask")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if given.way:
        print(json.dumps(memory_of(given.way, given.folder)))
        return
    folder = Path(tempfile.mkdtemp(prefix="seglab-data-"))
    try:
        image, mask = phantom() if given.ct is None else repeated(given.ct, given.labels)
        raw = write_raw(folder, image, mask)
        sizes = write_all(folder, image, mask)
        ways = {name: make() for name, make in open_all(folder).items()}
        speeds = measure(ways, given.rounds, given.seconds)
        memory = {name: memory_apart(name, folder) for name in ways}
    finally:
        shutil.rmtree(folder)
    show(speeds, {name: size / raw for name, size in sizes.items()}, memory)


def write_raw(folder: Path, image: NDArray[np.int16], mask: NDArray[np.uint8]) -> int:
    """A CT with its mask as NIfTI; bytes of its voxels, mask included."""
    for name, array in (("volume-1", image), ("segmentation-1", mask)):
        stored = array[::-1, ::-1, ::-1].T  # the store reads it back in (D, H, W)
        for suffix in (".nii", ".nii.gz"):
            target = folder / "raw" / suffix.strip(".") / f"{name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.ascontiguousarray(stored), np.diag([0.8, 0.8, 2.0, 1.0])), target)
    return image.nbytes + mask.nbytes


def phantom() -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A body of noisy soft tissue with a liver and a tumour, in noisy air."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    body = np.broadcast_to((y / 0.7) ** 2 + (x / 0.9) ** 2 < 1, SHAPE)
    liver = ((x + 0.35) / 0.35) ** 2 + (y / 0.35) ** 2 + (z / 0.6) ** 2 < 1
    tumour = ((x + 0.3) / 0.08) ** 2 + (y / 0.08) ** 2 + (z / 0.1) ** 2 < 1
    image = rng.normal(0, 18, SHAPE).astype(np.float32)
    image += np.where(body, np.where(liver, 110, 40), -1000)
    image[tumour] -= 50
    return image.clip(-1024, 3000).astype(np.int16), (liver.astype(np.uint8) + tumour).astype(np.uint8)


def repeated(*files: Path) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A real CT and its mask, forwards and backwards until there are slices enough."""
    image, mask = (np.moveaxis(np.asarray(nib.load(file).dataobj), 2, 0) for file in files)
    order = np.pad(np.arange(len(image)), (0, max(0, SHAPE[0] - len(image))), mode="symmetric")[: SHAPE[0]]
    return image[order].astype(np.int16), mask[order].astype(np.uint8)


def write_all(folder: Path, image: NDArray[np.int16], mask: NDArray[np.uint8]) -> dict[str, int]:
    """Write every layout; bytes of each, image and mask."""
    data = LitsData(root=str(folder / "raw" / "nii"), cache_dir=str(folder))
    (case,) = data.find_cases(Path(data.root))
    store = Preparation(source=data, folder=folder / "seglab").store([case])
    plain = Layout(num_classes=3, clip=WINDOW, keeps_all=False)
    clipped = folder / "clipped" / "entries" / store.records[0].entry
    sample = Sample(image[None], mask, np.ones(mask.shape, bool), (2.0, 0.8, 0.8))
    clipped.parent.mkdir(parents=True)
    write_entry(clipped, lambda: sample, plain)
    shutil.copytree(store.folder, folder / "clipped" / store.folder.name)
    (folder / "npy").mkdir()
    for name, array in (("image", image), ("mask", mask)):
        np.save(folder / "npy" / name, array)
    sizes = {
        "seglab": size_of(folder / "seglab" / "entries"),
        "npy, clipped": size_of(folder / "clipped" / "entries"),
        "npy memmap": size_of(folder / "npy"),
    }
    normal = ((image.clip(*WINDOW) - 0) / 100).astype(np.float32)[None]
    for name, (chunks, blocks) in NNUNET.items():
        target = folder / name
        target.mkdir()
        packing = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=8, nthreads=1)
        for part, array in (("image", normal), ("mask", mask[None].astype(np.int8))):
            blosc2.asarray(array, urlpath=str(target / part), chunks=chunks, blocks=blocks, cparams=packing, mode="w")
        sizes[name] = size_of(target)
    return sizes | {
        "nibabel .nii": size_of(folder / "raw" / "nii"),
        "nibabel .nii.gz": size_of(folder / "raw" / "nii.gz"),
    }


def open_all(folder: Path) -> dict[str, Callable[[], Read]]:
    """How each way is opened."""
    ways: dict[str, Callable[[], Read]] = {
        "seglab": lambda: from_store(folder / "seglab"),
        "npy, clipped": lambda: from_store(folder / "clipped"),
        "npy memmap": lambda: from_npy(folder / "npy"),
    }
    ways |= {name: lambda name=name: from_nnunet(folder / name) for name in NNUNET}
    ways |= {f"nibabel .{end}": lambda end=end: from_nibabel(folder / "raw" / end) for end in ("nii", "nii.gz")}
    return ways | {
        "MONAI CacheDataset": lambda: from_monai(folder, "cache"),
        "MONAI CacheDataset, copy_cache=False": lambda: from_monai(folder, "shared"),
        "MONAI PersistentDataset": lambda: from_monai(folder, "persistent"),
    }


def from_store(folder: Path) -> Read:
    """Ours: what the training data sets call for each sample."""
    (cases,) = folder.glob("*/cases.json")
    store = Store(cases.parent)
    specs = {kind: spec_of(kind) for kind in KINDS}
    (record,) = store.records

    def read(kind: str, start: tuple[int, int, int]) -> Any:
        z = start[0] + 2 if kind == "2.5-D" else start[0]
        size = SIZES[kind] if kind == "patch" else (1, 512, 512)
        return read_region(store, Region(record, (z, *start[1:]), size), specs[kind])

    return read


def spec_of(kind: str) -> DataSpec:
    """What the data module tells of such samples."""
    is_patch, n_slices = kind == "patch", 5 if kind == "2.5-D" else 1
    return DataSpec(
        name="lits",
        kind="volume",
        spatial_dims=3 if is_patch else 2,
        in_channels=n_slices,
        class_names=LitsData.class_names,
        class_colors=LitsData.class_colors,
        mask_values=(0, 1, 2),
        has_background=True,
        patch_size=PATCH if is_patch else (512, 512),
        intensity=INTENSITY,
        n_slices=n_slices,
    )


def from_npy(folder: Path) -> Read:
    """The volume as it came, mapped: what a data set of a few lines does."""
    image, mask = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("image", "mask"))

    def read(kind: str, start: tuple[int, int, int]) -> Any:
        box = boxed(kind, start)
        values, labels = image[box].astype(np.float32), np.array(mask[box])
        return torch.from_numpy(values).clamp_(*WINDOW).div_(100), torch.from_numpy(labels)

    return read


def from_nnunet(folder: Path) -> Read:
    """nnU-Net's layout: float32, normalised when it was written."""
    image, mask = (
        blosc2.open(str(folder / part), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
        for part in ("image", "mask")
    )

    def read(kind: str, start: tuple[int, int, int]) -> Any:
        box = (slice(None), *boxed(kind, start))
        return torch.from_numpy(image[box]), torch.from_numpy(mask[box])

    return read


def from_nibabel(folder: Path) -> Read:
    """Slices of the file itself, and what remains to be done with them."""
    (image,), (mask,) = (list(folder.glob(f"{name}*")) for name in ("volume", "segmentation"))

    def read(kind: str, start: tuple[int, int, int]) -> Any:
        box = boxed(kind, start)[::-1]
        values = np.asarray(nib.load(image).dataobj[box], np.float32)
        labels = np.asarray(nib.load(mask).dataobj[box]).astype(np.int64)
        return torch.from_numpy(values).clamp_(*WINDOW).div_(100), torch.from_numpy(labels)

    return read


def from_monai(folder: Path, kind_of_cache: str) -> Read:
    """MONAI's dictionary transforms up to the crop in its cache, the crop anew for each sample."""
    from monai import transforms
    from monai.data import CacheDataset, PersistentDataset
    from monai.transforms.traits import RandomizableTrait

    class Crop(transforms.MapTransform, RandomizableTrait):  # type: ignore[misc]  # not cached
        def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
            return {key: data[key][place[0]] for key in ("image", "mask")}

    crop = Crop(["image", "mask"])
    (image,), (mask,) = (list((folder / "raw" / "nii.gz").glob(f"{name}*")) for name in ("volume", "segmentation"))
    keys = ["image", "mask"]
    steps = transforms.Compose(
        [
            transforms.LoadImaged(keys, ensure_channel_first=True),
            transforms.ScaleIntensityRanged("image", *WINDOW, -2.0, 2.5, clip=True),
            transforms.EnsureTyped(keys, track_meta=False),
            crop,
        ]
    )
    files = [{"image": str(image), "mask": str(mask)}]
    place: list[Any] = [None]
    data: Any
    if kind_of_cache == "persistent":
        data = PersistentDataset(files, steps, cache_dir=folder / "monai")
    else:
        data = CacheDataset(files, steps, copy_cache=kind_of_cache == "cache", progress=False, num_workers=1)

    def read(kind: str, start: tuple[int, int, int]) -> Any:
        place[0] = (slice(None), *boxed(kind, start)[::-1])
        return data[0]

    return read


def boxed(kind: str, start: tuple[int, int, int]) -> tuple[slice, ...]:
    """The box of a sample."""
    return tuple(slice(first, first + length) for first, length in zip(start, SIZES[kind], strict=True))


def starts(kind: str, seed: int) -> Iterator[tuple[int, int, int]]:
    """Random places."""
    rng = np.random.default_rng(seed)
    while True:
        z, y, x = (int(rng.integers(n - m + 1)) for n, m in zip(SHAPE, SIZES[kind], strict=True))
        yield z, y, x


def measure(ways: dict[str, Read], rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Samples per second of the processor, of each way and kind in each round; the ways take turns."""
    speeds: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in ways}
    for number in range(-1, rounds):  # the first warms the caches up
        for kind in KINDS:
            for name, read in ways.items():
                places = list(islice(starts(kind, number + 1), N_PLACES))
                n, start = 0, time.process_time()
                while n == 0 or time.process_time() - start < seconds:
                    read(kind, places[n % N_PLACES])
                    n += 1
                if number >= 0:
                    speeds[name][kind].append(n / (time.process_time() - start))
    return speeds


def memory_apart(way: str, folder: Path) -> float:
    """MiB that a process of its own grows by when it opens a way and reads a sample of each kind."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def memory_of(way: str, folder: Path) -> float:
    """The same in this process: the growth of its anonymous memory."""
    if way.startswith("MONAI"):
        import monai.data
        import monai.transforms  # noqa: F401  # what is imported does not count

    before = anonymous()
    read = open_all(folder)[way]()
    for kind in KINDS:
        read(kind, next(starts(kind, 0)))
    return anonymous() - before


def anonymous() -> float:
    """MiB of the process that are not a file's; the page cache is everybody's."""
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
    return (found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def show(speeds: dict[str, dict[str, list[float]]], sizes: dict[str, float], memory: dict[str, float]) -> None:
    """Print the table and the figures, and end."""
    rows = [
        [
            name,
            f"{sizes[name]:.3f}" if name in sizes else "",
            *(f"{median(found[kind]):.4g}" for kind in KINDS),
            f"{memory[name]:.0f}",
        ]
        for name, found in speeds.items()
    ]
    print(table(["way", "size / raw", "slices/s", "2.5-D/s", "patches/s", "MiB"], rows))

    def ratio(kind: str, peer: str) -> float:
        pairs = zip(speeds["seglab"][kind], speeds[peer][kind], strict=True)
        return median(ours / theirs for ours, theirs in pairs)

    two, three = NNUNET
    smaller = sizes["seglab"] / min(sizes[two], sizes[three])
    figures = {
        "slices_over_nnunet_2d": (ratio("slice", two), 5.0),
        "patches_over_nnunet_3d": (ratio("patch", three), 5.0),
        "slices_over_npy": (ratio("slice", "npy memmap"), 0.6),
        "patches_over_npy": (ratio("patch", "npy memmap"), 0.6),
    }
    least = {name: (value, f">= {goal}", value >= goal) for name, (value, goal) in figures.items()}
    finish(least | {"size_over_nnunet": (smaller, "<= 0.5", smaller <= 0.5)})


if __name__ == "__main__":
    main()
