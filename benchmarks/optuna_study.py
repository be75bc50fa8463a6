"""What ending trials early saves: the same random search on the crack phantom with and without median pruning.

python benchmarks/optuna_study.py --runs runs/optuna --trials 20 --epochs 20

Both studies draw the same values, so a trial of one is that of the other until it is ended. They take turns, a few
trials each, so that what else the machine does slows both alike. A study that was stopped goes on, and one that is
complete is used again. Then two commands, started at once as on two machines, share the trials of one more study.
The last line says {name: {value, goal, ok}}.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
from runs import ONE_THREAD, ROOT, finish, table

from seglab.run.sweeps.study_storage import open_storage

SMALL = (
    "data.root=phantom data.batch_size=4 data.patch_size=[64,64] callbacks=checkpoint_only logger=csv test=false "
    "trainer.limit_train_batches=10 trainer.limit_val_batches=4"
)
SEARCHED = ["optimizer.lr=tag(log,interval(1e-4,3e-2))", "model.base_channels=choice(2,4,8)"]

TURNS = 4
"""How often each study has its turn."""

Trials = list[optuna.trial.FrozenTrial]


def command(folder: Path, n_epochs: int, **settings: object) -> list[str]:
    """The command line of a study in a folder."""
    chosen = ["hydra/sweeper=optuna", *(f"hydra.sweeper.{name}={value}" for name, value in settings.items())]
    job = [*ONE_THREAD, *SMALL.split(), f"trainer.max_epochs={n_epochs}", "trainer.precision=32-true"]
    return [sys.executable, "src/train.py", "-m", *chosen, *SEARCHED, *job, f"hydra.sweep.dir={folder.resolve()}"]


def search(folder: Path, pruner: str, n_trials: int, n_startup: int, n_epochs: int) -> Trials:
    """Run a study up to a number of trials, or what is missing of it; its trials."""
    settings = {"n_trials": n_trials, "sampler": "random", "seed": 0, "pruner": pruner}
    settings |= {"pruner_startup_trials": n_startup, "pruner_warmup_epochs": n_epochs // 5}
    subprocess.run(command(folder, n_epochs, **settings), cwd=ROOT, env=environment(), check=True)
    return optuna.load_study(study_name="sweep", storage=open_storage(None, folder)).trials


def search_at_once(folder: Path, n_trials: int) -> tuple[Trials, list[int]]:
    """Two commands on one new study of short trials; its trials, and how many each command ran."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    storage = f"journal:{folder.resolve() / 'shared.journal'}"
    places = [folder / name for name in ("first", "second")]
    settings = {"n_trials": n_trials, "sampler": "tpe", "storage": storage, "study_name": "shared"}
    both = [subprocess.Popen(command(place, 2, **settings), cwd=ROOT, env=environment()) for place in places]
    codes = [process.wait() for process in both]
    if any(codes):
        raise SystemExit("a command that shared the study failed; its output is above")
    trials = optuna.load_study(study_name="shared", storage=open_storage(storage, folder)).trials
    return trials, [len(list(place.glob("[0-9]*/result.json"))) for place in places]


def environment() -> dict[str, str]:
    """One thread a process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Run both studies, print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/optuna"))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    rows, found, studies = [], {}, {}
    for turn in range(1, TURNS + 1):
        for pruner in ("none", "median"):
            counts = (max(1, given.trials * turn // TURNS), given.trials // 4)
            studies[pruner] = search(given.runs / pruner, pruner, *counts, given.epochs)
    for pruner, trials in studies.items():
        best = max(trial.value for trial in trials if trial.state.name == "COMPLETE")
        n_epochs = sum(len(trial.intermediate_values) for trial in trials)
        seconds = sum(trial.duration.total_seconds() for trial in trials)
        n_pruned = sum(trial.state.name == "PRUNED" for trial in trials)
        found[pruner] = (best, n_epochs, seconds)
        rows.append([pruner, str(len(trials)), str(n_pruned), str(n_epochs), f"{seconds:.0f}", f"{best:.4f}"])
    print(table(["pruner", "trials", "pruned", "epochs", "seconds", "best val/dice/mean"], rows))
    shared, shares = search_at_once(given.runs / "at_once", given.trials)
    print(f"two commands at once: {len(shared)} trials of one study, {shares[0]} and {shares[1]} of them by each")
    are_whole = [trial.number for trial in shared if trial.state.name == "COMPLETE"] == list(range(given.trials))
    saved = [1 - median / none for median, none in zip(found["median"][1:], found["none"][1:], strict=True)]
    worse = found["none"][0] - found["median"][0]
    finish(
        {
            "epochs_saved": (saved[0], ">= 0.3 of all epochs", saved[0] >= 0.3),
            "time_saved": (saved[1], ">= 0.15 of the time of all trials, their start included", saved[1] >= 0.15),
            "trials_of_two_at_once": (len(shared), f"{given.trials}, all complete", are_whole),
            "trials_run_twice": (sum(shares) - len(shared), "0", sum(shares) == len(shared) and min(shares) > 0),
            "best_is_worse_by": (worse, "<= 0.01 of the best value without pruning", worse <= 0.01),
        }
    )


if __name__ == "__main__":
    main()
