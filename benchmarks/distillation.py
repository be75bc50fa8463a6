"""Distillation on electron microscopy: a 2-wide student alone, taught by a wide teacher, and the teacher itself.

python benchmarks/distillation.py --root path/to/em --runs runs/distillation --teacher 64

The paper (https://arxiv.org/abs/1812.00249): teacher 64-UNet 31,042,434 parameters, IoU 0.804; 2-UNet 30,902
parameters, distilled IoU 0.759; on other data (mitochondria). Here the IoU of the cells, mean over the test slices.
"""

import argparse
from pathlib import Path
from statistics import fmean

from runs import finish, score, table, train

TAUGHT = {"soft": ["task.hard_weight=0"], "mixed": []}
"""From the teacher's soft labels alone, or from these and the mask."""


def main() -> None:
    """Train what is missing, score teacher, student and distilled student, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with image/ and label/")
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--teacher", type=int, default=64, help="width of the teacher")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--teacher-epochs", type=int, default=150)
    parser.add_argument("--student-epochs", type=int, default=150)
    parser.add_argument("--ways", nargs="+", choices=TAUGHT, default=list(TAUGHT), help="of teaching the student")
    given = parser.parse_args()
    # without the precise statistics, the running ones of so short trainings lag behind the weights
    common = ["experiment=em_unet", "model.norm=batch", "callbacks=[default,batch_norm]", f"data.root={given.root}"]
    teacher = train(
        given.runs / f"teacher{given.teacher}",
        *common,
        f"model.base_channels={given.teacher}",
        f"trainer.max_epochs={given.teacher_epochs}",
    )
    student = [*common, "model.base_channels=2", f"trainer.max_epochs={given.student_epochs}"]
    found = {f"teacher, {given.teacher} wide": [score(teacher)]}
    for way in ("student alone", *given.ways):
        taught = ["task=distillation", f"first.run={teacher}", *TAUGHT[way]] if way in TAUGHT else []
        folders = {seed: given.runs / f"{way.replace(' ', '-')}-seed{seed}" for seed in given.seeds}
        found[way] = [score(train(folder, *student, *taught, f"seed={seed}")) for seed, folder in folders.items()]
    rows = []
    for name, runs in found.items():
        ious = ", ".join(f"{run['iou']:.4f}" for run in runs)
        milliseconds = 1000 * fmean(run["seconds_per_image"] for run in runs)
        rows.append(
            [
                name,
                f"{runs[0]['parameters']:,}",
                f"{fmean(run['iou'] for run in runs):.4f}",
                ious,
                f"{milliseconds:.1f}",
            ]
        )
    print(table(["network", "parameters", "mean IoU", "IoU by seed", "ms per image"], rows))
    mean_iou = {name: fmean(run["iou"] for run in runs) for name, runs in found.items()}
    gains = {way: mean_iou[way] - mean_iou["student alone"] for way in given.ways}
    finish({f"gain_of_the_student_{way}": (gain, "> 0", gain > 0) for way, gain in gains.items()})


if __name__ == "__main__":
    main()
