"""What ending trials early saves: the same random search on the crack phantom with and without median pruning.

python benchmarks/optuna_study.py --runs runs/optuna --trials 20 --epochs 20

Both studies draw the same values, so a trial of one is that of the other until it is ended. They take turns, a few
trials each, so that what else the machine does slows both alike. A study that was stopped goes on, and one that is
complete is used again. The last line says {name: {value, goal, ok}}.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import optuna
from runs import ONE_THREAD, ROOT, finish, table

from seglab.run.study_storage import open_storage

SMALL = (
    "data.root=phantom data.batch_size=4 data.patch_size=[64,64] callbacks=checkpoint_only logger=csv test=false "
    "trainer.limit_train_batches=10 trainer.limit_val_batches=4"
)
SEARCHED = ["optimizer.lr=tag(log,interval(1e-4,3e-2))", "model.base_channels=choice(2,4,8)"]


TURNS = 4
"""How often each study has its turn."""


def search(folder: Path, pruner: str, n_trials: int, n_startup: int, n_epochs: int) -> list[optuna.trial.FrozenTrial]:
    """Run a study up to a number of trials, or what is missing of it; its trials."""
    settings = {"n_trials": n_trials, "sampler": "random", "seed": 0, "pruner": pruner}
    settings |= {"pruner_startup_trials": n_startup, "pruner_warmup_epochs": n_epochs // 5}
    chosen = ["hydra/sweeper=optuna", *(f"hydra.sweeper.{name}={value}" for name, value in settings.items())]
    job = [*ONE_THREAD, *SMALL.split(), f"trainer.max_epochs={n_epochs}", "trainer.precision=32-true"]
    command = [sys.executable, "src/train.py", "-m", *chosen, *SEARCHED, *job, f"hydra.sweep.dir={folder.resolve()}"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return optuna.load_study(study_name="sweep", storage=open_storage(None, folder)).trials


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
    saved = [1 - median / none for median, none in zip(found["median"][1:], found["none"][1:], strict=True)]
    worse = found["none"][0] - found["median"][0]
    finish(
        {
            "epochs_saved": (saved[0], ">= 0.3 of all epochs", saved[0] >= 0.3),
            "time_saved": (saved[1], ">= 0.15 of the time of all trials, their start included", saved[1] >= 0.15),
            "best_is_worse_by": (worse, "<= 0.01 of the best value without pruning", worse <= 0.01),
        }
    )


if __name__ == "__main__":
    main()
