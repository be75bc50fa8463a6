"""One job of a sweep as a process: what it is started with, and what is known of it when it has ended."""

import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Quote, QuotedString

from seglab.run.sweeps.sweep_record import read_result

OF_A_SWEEP = ("hydra.mode", "hydra.run.dir", "hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher")
RAISED = re.compile(r"[\w.]+(Error|Exception|Interrupt)\b")
ADVICE = "Set the environment variable HYDRA_FULL_ERROR=1"


@dataclass(frozen=True)
class Program:
    """What all jobs of a sweep are started with.

    Args:
        script: as it was typed.
        arguments: of the sweep, as they were typed.
        flags: --config-path, --config-name and --config-dir among them.
        hydra: overrides of Hydra's own part which are for jobs too.
        cwd: where the sweep was started.
    """

    script: str
    arguments: list[str]
    flags: list[str]
    hydra: list[str]
    cwd: Path

    @classmethod
    def typed(cls, argv: Sequence[str], hydra_overrides: Sequence[str], cwd: Path) -> "Program":
        """From the command line of the sweep.

        Args:
            argv: of the process.
            hydra_overrides: as Hydra parsed them.
            cwd: where the sweep was started.
        """
        given = vars(get_args_parser().parse_args(list(argv[1:])))
        names = ("config_path", "config_name", "config_dir")
        flags = [f"--{name.replace('_', '-')}={given[name]}" for name in names if given[name] is not None]
        kept = [override for override in hydra_overrides if not override.lstrip("+~").startswith(OF_A_SWEEP)]
        return cls(argv[0], list(argv[1:]), flags, kept, cwd)

    @property
    def name(self) -> list[str]:
        """What tells its jobs from those of another program in the same folder."""
        return [Path(self.script).name, *self.flags]

    def command(self, overrides: Sequence[str], folder: Path, number: int) -> list[str]:
        """The command of one job: a plain single run in its folder."""
        place = ["hydra.mode=RUN", f"hydra.run.dir={quoted(folder)}"]
        numbered = [f"hydra.job.num={number}", f"hydra.job.id={number}"]
        return [sys.executable, self.script, *self.flags, *self.hydra, *overrides, *place, *numbered]

    def again(self, folder: Path) -> str:
        """What to type to go on with the sweep in this folder."""
        arguments = [text for text in self.arguments if not text.startswith("hydra.sweep.dir=")]
        plain = re.fullmatch(r"[\w./-]+", str(folder))
        place = f"hydra.sweep.dir={folder if plain else quoted(folder)}"
        return shlex.join(["python", self.script, *arguments, place])


def quoted(path: Path) -> str:
    """A path as the value of an override, whatever characters it has."""
    return QuotedString(str(path), Quote.single).with_quotes()


def first_overrides(folder: Path, overrides: list[str]) -> list[str]:
    """What to start a job with in its folder: to resume from its newest checkpoint, else from the beginning.

    What an earlier start left without a checkpoint is set aside under another name; a first stage stays.

    Args:
        folder: of the job, made here.
        overrides: of the job.
    """
    traces = [folder / "run.json", folder / "result.json"]
    if traces[0].is_file() and any(folder.glob("checkpoints/*.ckpt")):
        traces[1].unlink(missing_ok=True)  # of the start that failed
        return [f"resume={quoted(folder)}"]
    if any(file.is_file() for file in traces):
        names = (folder.with_name(f"{folder.name}-aside-{n}") for n in count(1))
        aside = folder.rename(next(name for name in names if not name.exists()))
        folder.mkdir()
        if (aside / "first").is_dir():
            (aside / "first").rename(folder / "first")
    folder.mkdir(parents=True, exist_ok=True)
    return overrides


def cause(folder: Path, exit_code: int, said: str) -> str:
    """Why a job failed, in one line.

    Args:
        folder: of the job; the error in its result.json comes first.
        exit_code: 128 + n after signal n.
        said: what the job wrote to its log.
    """
    if error := read_result(folder).get("error"):
        return str(error).partition("\n")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(ADVICE)]
    ours = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    named = ours or [line for line in lines if RAISED.match(line)]
    if named:
        return named[-1]
    if exit_code > 128 and exit_code - 128 in set(signal.Signals):
        return f"ended by {signal.Signals(exit_code - 128).name}"
    return lines[-1] if lines else f"exit code {exit_code}"
