"""Kills in the middle of a prediction.

python benchmarks/predict_kills.py --kills 50

A tiny network is trained on the phantom of cracks; 50 photos are predicted with probabilities once without a kill. Then
the same is done by processes that are killed with SIGKILL at random moments and started again, in one output folder
until all is done, and in an empty one again until there were enough kills. After each kill every file under a final
name must be whole, byte for byte that of the undisturbed prediction; at the end all must be there, nothing more, and
files that were noted as done before a start must not have been written again.

Goals: 0 broken files, 0 files done twice, the same files at the end, 0 temporary files left.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from hydra import compose, initialize_config_dir  # noqa: E402
from PIL import Image  # noqa: E402
from runs import finish, train  # noqa: E402

from seglab.data.phantoms import cracks  # noqa: E402
from seglab.run import cli  # noqa: E402, F401  # registers the resolvers
from seglab.run.catalogue import CONF  # noqa: E402
from seglab.run.predict import predict  # noqa: E402
from seglab.run.predictions import FILE, LOCK, PART  # noqa: E402

TINY = ["data=crack", "data.root=phantom", "model.base_channels=4", "data.batch_size=2", "data.patch_size=[64,64]"]
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "test=false"]

State = dict[str, tuple[int, int]]


def main() -> None:
    """Kill as often as asked for, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run_dir = train((given.runs / "predict_kills").resolve(), *TINY, *SHORT)
    with tempfile.TemporaryDirectory(dir=given.runs) as name:
        folder = Path(name)
        write_photos(folder / "photos", given.files)
        job = prediction(run_dir, folder)
        seconds = undisturbed(job, folder / "expected")
        counts = kill_often(job, folder, given.kills, seconds, np.random.default_rng(given.seed))
    n_in_part = counts.pop("kills_within_a_file")
    print(f"{given.kills} kills, {n_in_part} of them with a half-written file, {seconds:.1f} s for all without a kill")
    finish({"kills": (given.kills, "> 0", True)} | {name: (n, "0", n == 0) for name, n in counts.items()})


def write_photos(folder: Path, n_files: int) -> None:
    """Photos of a phantom under names of their own."""
    with tempfile.TemporaryDirectory() as name:
        cracks.write(Path(name), n_photos=-(-n_files // 4))
        files = sorted((Path(name) / "images").iterdir())[:n_files]
        folder.mkdir()
        for number, file in enumerate(files):
            with Image.open(file) as picture:
                picture.resize((448, 448)).save(folder / f"photo_{number:02}.png")


def prediction(run_dir: Path, folder: Path) -> Callable[[Path], None]:
    """What predicts all photos into a folder, composed as the command line does."""

    def job(output: Path) -> None:
        overrides = [f"run={run_dir}", f"input={folder / 'photos'}", f"output={output}", "probabilities=true"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("predict", overrides=[*overrides, "trainer.accelerator=cpu", "trainer.threads=1"])
        predict(cfg)

    return job


def undisturbed(job: Callable[[Path], None], output: Path) -> float:
    """Predict without a kill; the seconds it took."""
    start = time.monotonic()
    os.waitpid(started(job, output), 0)
    return time.monotonic() - start


def started(job: Callable[[Path], None], output: Path) -> int:
    """A process that predicts; its id."""
    child = os.fork()
    if child == 0:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        job(output)
        os._exit(0)
    return child


def kill_often(
    job: Callable[[Path], None], folder: Path, n_kills: int, seconds: float, rng: np.random.Generator
) -> dict[str, int]:
    """Kill and start again; how often something was found that must not be."""
    expected = contents(folder / "expected")
    counts = {
        "kills_within_a_file": 0,
        "broken_files": 0,
        "files_done_twice": 0,
        "files_that_differ": 0,
        "left_over": 0,
    }
    n_done, turn = 0, 0
    while n_done < n_kills:
        output, before = folder / f"killed_{turn}", dict[str, tuple[int, int]]()
        finished = False
        while not finished:
            is_killed = n_done < n_kills
            child = started(job, output)
            if is_killed:
                time.sleep(float(rng.uniform(0.0, seconds / 4)))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            n_done += is_killed and os.WIFSIGNALED(status)
            after = states(output)
            counts["files_done_twice"] += sum(after.get(name) != state for name, state in before.items())
            counts["broken_files"] += sum(expected.get(name) != content for name, content in contents(output).items())
            counts["kills_within_a_file"] += any(output.glob(f"{PART}*"))
            before, finished = after, len(after) == len(expected) or not is_killed
        os.waitpid(started(job, output), 0)
        counts["files_that_differ"] += contents(output) != expected
        counts["files_done_twice"] += sum(states(output).get(name) != state for name, state in before.items())
        counts["left_over"] += len(list(output.glob(f"{PART}*")))
        turn += 1
    return counts


def finals(output: Path) -> list[Path]:
    """Files under final names."""
    files = output.iterdir() if output.is_dir() else ()
    return sorted(file for file in files if file.is_file() and file.name not in (FILE, LOCK, ".writable"))


def contents(output: Path) -> dict[str, bytes]:
    """Bytes of the files under final names."""
    return {file.name: file.read_bytes() for file in finals(output)}


def states(output: Path) -> State:
    """Which file each final name of a whole case (labels and probabilities) holds: its number on the disk, its time."""
    files = {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in finals(output)}
    stems = {name.partition(".")[0] for name in files}
    whole = {stem for stem in stems if {f"{stem}.png", f"{stem}.probs.npy"} <= files.keys()}
    return {name: state for name, state in files.items() if name.partition(".")[0] in whole}


if __name__ == "__main__":
    main()
