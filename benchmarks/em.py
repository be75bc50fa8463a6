"""U-Net, MultiResUNet and DC-UNet on electron microscopy (ISBI-2012), beside the figures of DC-UNet's paper.

python benchmarks/em.py --root path/to/em --runs runs/em --epochs unet=150 multiresunet=150 dcunet=150

Slices 0-23 train, 24-29 test, at 256x256, the paper's recipe, no model selection: the last state is scored. The paper
has 5-fold cross-validation over the 30 slices, in which neighbours of a test slice are trained on; blocks are harder.
Finished runs are used again, so the benchmark can be stopped and started.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev

from runs import draw, finish, losses, score, table, train

PUBLISHED = {"unet": 91.1, "multiresunet": 92.0, "dcunet": 92.6}  # mean similarity, %


def main() -> None:
    """Train what is missing, score all runs, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with image/ and label/")
    parser.add_argument("--runs", type=Path, default=Path("runs/em"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", nargs="*", default=[], help="model=epochs; 150 where not given")
    parser.add_argument("--curves", type=Path, default=Path("docs/zoo/em_curves.svg"), help="drawing of the losses")
    parser.add_argument("--compile", nargs="*", default=[], choices=PUBLISHED, help="networks to train compiled")
    parser.add_argument("--precision", default="auto", help="auto: bfloat16 where the processor computes in it")
    parser.add_argument("--train-only", nargs="*", choices=PUBLISHED, help="train these networks, and score nothing")
    given = parser.parse_args()
    epochs = dict.fromkeys(PUBLISHED, 150) | {model: int(n) for model, n in (pair.split("=") for pair in given.epochs)}
    folders = {
        model: [
            train(
                given.runs / f"{model}-seed{seed}",
                f"experiment=em_{model}",
                f"data.root={given.root}",
                f"seed={seed}",
                f"trainer.max_epochs={epochs[model]}",
                f"trainer.precision={given.precision}",
                f"trainer.compile={str(model in given.compile).lower()}",
            )
            for seed in given.seeds
        ]
        for model in given.train_only or PUBLISHED
    }
    if given.train_only:
        return
    rows, figures, drawn = [], {}, {}
    for model, published in PUBLISHED.items():
        found = [score(run_dir) for run_dir in folders[model]]
        curves = [losses(run_dir) for run_dir in folders[model]]
        iou, similarity = ([100 * each[name] for each in found] for name in ("iou", "tanimoto"))
        spread = {name: stdev(values) if len(values) > 1 else 0.0 for name, values in (("i", iou), ("t", similarity))}
        rows.append(
            [
                model,
                f"{found[0]['parameters']:,}",
                str(epochs[model]),
                f"{fmean(iou):.1f} ± {spread['i']:.1f}",
                f"{fmean(similarity):.1f} ± {spread['t']:.1f}",
                f"{published}",
                f"{fmean(curve[-1] for curve in curves):.3f}",
            ]
        )
        drawn[model] = curves
        figures[f"{model}_tanimoto"] = (
            fmean(similarity),
            f">= {published - 5} (published {published})",
            fmean(similarity) >= published - 5,
        )
    draw(given.curves, drawn)
    print(table(["network", "parameters", "epochs", "IoU %", "Tanimoto %", "published %", "last loss"], rows))
    finish(figures)


if __name__ == "__main__":
    main()
