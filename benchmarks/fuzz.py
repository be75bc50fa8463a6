"""Fuzz: damaged files end in a named finding or are read whole; never a traceback, a hang, or too much memory.

    python benchmarks/fuzz.py [n]          n damaged files of each format, 500 by default

Damage: bytes changed anywhere or in the header, the end cut off, a part left out, a part repeated. Most formats carry
no checksum of their pixels, so a changed byte may be read; a file that was cut may not, unless nothing was lost.
Each file is read in a process of its own, forked from one that has imported the readers, with 10 s of the processor
and 2 GB; a minute by the clock ends one that waits for nothing, and spares one that others keep from the processor.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks"), str(ROOT / "tests")]

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import rasterio  # noqa: E402
from dicom_writer import hu, write_series  # noqa: E402
from PIL import Image  # noqa: E402

from seglab.data.formats import dicom, itk, nifti, photo, raster  # noqa: E402
from seglab.errors import SeglabError  # noqa: E402

SECONDS, WAITING, MEMORY = 10, 60, 2 << 30
FINDING, READ = "named finding", "read whole"
Damage = Callable[[bytearray, random.Random], bytearray]


def flip(content: bytearray, rng: random.Random) -> bytearray:
    """Change one to twenty bytes anywhere."""
    for _ in range(rng.randint(1, 20)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return content


def flip_header(content: bytearray, rng: random.Random) -> bytearray:
    """Change one to eight bytes among the first 400."""
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(min(400, len(content)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return content


def cut(content: bytearray, rng: random.Random) -> bytearray:
    """Keep the first part."""
    return content[: rng.randrange(len(content))]


def drop(content: bytearray, rng: random.Random) -> bytearray:
    """Leave out a part in the middle."""
    start = rng.randrange(len(content))
    del content[start : start + rng.randint(1, 64)]
    return content


def repeat(content: bytearray, rng: random.Random) -> bytearray:
    """Insert a copy of a part of itself."""
    start, place = rng.randrange(len(content)), rng.randrange(len(content))
    return content[:place] + content[start : start + rng.randint(1, 64)] + content[place:]


DAMAGES: tuple[Damage, ...] = (flip, flip_header, cut, drop, repeat)


def write_samples(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A sound file of each format, and what reads it; a DICOM file lies in its series."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 48, 3)).astype(np.uint8)
    ct = rng.integers(-1000, 1000, (16, 14, 10)).astype(np.int16)
    for name in ("a.nii.gz", "a.nii"):
        nib.save(nib.Nifti1Image(ct, np.diag([0.8, 0.8, 2.5, 1])), folder / name)
    for name in ("a.png", "a.jpg", "a.bmp"):
        Image.fromarray(pixels).save(folder / name)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 46e5)}
    size = {"count": 4, "height": 40, "width": 48, "dtype": "uint16", "compress": "deflate"}
    with rasterio.open(folder / "a.tif", "w", driver="GTiff", **place, **size) as sink:
        sink.write(rng.integers(1, 3000, (4, 40, 48)).astype(np.uint16))
    plain = write_series(folder / "plain", hu((3, 45, 44)))
    packed = write_series(folder / "packed", hu((3, 45, 44)), packed=True)
    return {
        "nifti gz": (folder / "a.nii.gz", nifti.read_volume),
        "nifti": (folder / "a.nii", nifti.read_volume),
        "png": (folder / "a.png", photo.read_photo),
        "jpg": (folder / "a.jpg", photo.read_photo),
        "bmp": (folder / "a.bmp", photo.read_photo),
        "tiff": (folder / "a.tif", raster.read_raster),
        "dicom": (plain[1], lambda file: dicom.read_volume(file.parent)),
        "dicom jpeg2000": (packed[1], lambda file: dicom.read_volume(file.parent)),
        **itk_samples(folder, ct),
    }


def itk_samples(folder: Path, ct: np.ndarray) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """The same volume as MHA and NRRD."""
    import SimpleITK as sitk  # noqa: N813

    for name in ("a.mha", "a.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(ct), str(folder / name), True)
    return {"mha": (folder / "a.mha", itk.read_volume), "nrrd": (folder / "a.nrrd", itk.read_volume)}


def damaged(sample: Path, number: int, folder: Path) -> tuple[Path, str]:
    """A copy with one kind of damage, the same for the same number; slices come with the rest of their series."""
    rng = random.Random(f"{sample.name} {number}")  # noqa: S311  # repeatable, not secret
    damage = DAMAGES[number % len(DAMAGES)]
    target = folder / sample.name
    if sample.suffix == ".dcm":
        for other in sample.parent.iterdir():
            (folder / other.name).write_bytes(other.read_bytes())
    target.write_bytes(damage(bytearray(sample.read_bytes()), rng))
    return target, damage.__name__


def outcome(file: Path, read: Callable[[Path], Any], sound: np.ndarray | None = None) -> str:
    """What reading a file comes to, in a process of its own; a cut file may only be read as the `sound` image."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        _read_and_exit(file, read, sound, into)
    os.close(into)
    with os.fdopen(out) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "hang" if name in ("SIGALRM", "SIGPROF") else f"killed by {name}"
    return text or "no answer"


def _read_and_exit(file: Path, read: Callable[[Path], Any], sound: np.ndarray | None, into: int) -> None:
    code = "no answer"
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _used_memory(), resource.RLIM_INFINITY))
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)  # ends the process, also within a library
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        image = _image(read(file))
        code = READ if np.isfinite(np.asarray(image, float)).all() and image.ndim == 4 else "not finite"
        if sound is not None and not np.array_equal(image, sound):
            code = "a cut file was read as if it were whole"
    except SeglabError as error:
        is_whole = error.given and error.allowed and error.fix and str(file.parent) in str(error)
        code = FINDING if is_whole else f"finding without a part: {error}"
    except MemoryError:
        code = "out of memory"
    except BaseException:  # noqa: BLE001  # whatever it is, it is counted
        code = f"traceback: {traceback.format_exc(limit=-3)}"
    os.write(into, code.encode())
    os._exit(0)


def _image(found: Any) -> np.ndarray:
    return found[0] if isinstance(found, tuple) else found


def _used_memory() -> int:
    """Address space of this process, which the libraries take."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def fuzz(n: int, folder: Path, only: str | None = None) -> dict[str, Counter[str]]:
    """Outcomes of n damaged files of each format, or of one."""
    samples = {name: sample for name, sample in write_samples(folder).items() if only in (None, name)}
    counts: dict[str, Counter[str]] = {}
    for name, (sample, read) in samples.items():
        if outcome(sample, read) != READ:
            raise RuntimeError(f"the sound {name} file is not read: {outcome(sample, read)}")
        counts[name], whole = Counter(), _image(read(sample))
        for number in range(n):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                file, kind = damaged(sample, number, Path(place))
                result = outcome(file, read, whole if kind == "cut" else None)
            counts[name][result if result in (FINDING, READ) else f"#{number} {kind}: {result}"] += 1
    return counts


def main() -> None:
    """Fuzz every format; the last line is one JSON object."""
    from runs import finish, table

    parser = argparse.ArgumentParser()
    parser.add_argument("n", type=int, nargs="?", default=500)
    parser.add_argument("--only", help="one format")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        counts = fuzz(arguments.n, Path(place), arguments.only)
    rows, figures = [], {}
    for name, found in counts.items():
        wrong = {what: times for what, times in found.items() if what not in (FINDING, READ)}
        rows.append([name, str(found[FINDING]), str(found[READ]), str(sum(wrong.values()))])
        figures[f"{name}: crashes, hangs, tracebacks"] = (float(sum(wrong.values())), "= 0", not wrong)
        for what in list(wrong)[:5]:
            print(f"{name} {what}")
    print(table(["format", "refused by a named finding", "read whole", "neither"], rows))
    finish(figures)


if __name__ == "__main__":
    main()
