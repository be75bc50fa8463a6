"""A sweep of a program that takes no time: what `python app.py -m ...` does, in this process."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from seglab.run.catalogue import CONF

PROGRAM = r"""
import json, os, pathlib, signal, subprocess, sys, time
given = dict(text.partition("=")[::2] for text in sys.argv[1:])
folder = pathlib.Path(given["hydra.run.dir"].strip("'").replace("\\'", "'"))
with (folder.parent / "starts.txt").open("a") as stream:
    stream.write(given.get("a", "resumed") + "\n")
(folder / "run.json").write_text("{}")
(folder / "seen.json").write_text(json.dumps({"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd()}))
how = given.get("how", "")
while given.get("held") == given.get("a", "") and not (folder.parent / "go").exists():
    time.sleep(0.01)
if how == "fails" and given["a"] == "2" and not (folder.parent / "mended").exists():
    sys.exit("Traceback (most recent call last):\nValueError: a is too large\nfor this")
if how == "once" and not (folder.parent / "mended").exists():
    (folder.parent / "mended").touch()
    os.kill(os.getpid(), signal.SIGKILL)
if how == "meets":
    (folder.parent / f"here{given['a']}").touch()
    while not all((folder.parent / f"here{number}").exists() for number in (1, 2)):
        time.sleep(0.01)
if how in ("hangs", "deaf"):
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "60"])
    pids = folder.parent / f".pids{given['a']}"
    pids.write_text(f"{os.getpid()} {child.pid}")
    pids.rename(folder.parent / f"pids{given['a']}")
    time.sleep(60)
(folder / "result.json").write_text(json.dumps({"status": "finished", "value": 2 * float(given.get("a", 0))}))
"""
CONFIG = f"""
defaults: [_self_, {{override hydra/launcher: process}}]
a: 1
b: x
how: null
held: null
trainer: {{devices: 1, accelerator: auto}}
hydra:
  searchpath: ['file://{CONF}']
  sweep: {{dir: sweep, subdir: '${{hydra.job.num}}'}}
"""


def run_sweep(place: Path, *overrides: str, batches: Sequence[Sequence[Sequence[str]]] = ()) -> Any:
    """Sweep as typed in a folder.

    Args:
        place: working folder, holds the program and the sweep.
        overrides: as typed after -m.
        batches: overrides of the jobs of each batch, as a sweeper of another kind hands them out.

    Returns:
        What Hydra's sweeper returns, or the launcher and its answer to each batch.
    """
    place.mkdir(parents=True, exist_ok=True)
    (place / "app.py").write_text(PROGRAM)
    (place / "app.yaml").write_text(CONFIG)
    Plugins.instance()
    GlobalHydra.instance().clear()
    with patch.object(sys, "argv", ["app.py", "-m", *overrides]), initialize_config_dir(str(place), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("app", list(overrides), RunMode.MULTIRUN, with_log_configuration=False)
        config.hydra.runtime.cwd = str(place)
        parts: Any = {
            "config": config,
            "hydra_context": HydraContext(hydra.config_loader, Callbacks()),
            "task_function": lambda _: None,
        }
        if not batches:
            return Plugins.instance().instantiate_sweeper(**parts).sweep(list(config.hydra.overrides.task))
        config.hydra.sweeper._target_ = "another.Sweeper"
        launcher = Plugins.instance().instantiate_launcher(**parts)
        starts = [sum(map(len, batches[:n])) for n in range(len(batches))]
        return launcher, [launcher.launch(batch, start) for batch, start in zip(batches, starts, strict=True)]


def jobs(place: Path) -> dict[str, Any]:
    """What sweep.json says."""
    return json.loads((place / "sweep/sweep.json").read_text())  # type: ignore[no-any-return]


if __name__ == "__main__":
    run_sweep(Path(sys.argv[1]), *sys.argv[2:])
