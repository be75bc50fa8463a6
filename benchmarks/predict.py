"""Time of the network in prediction beside eager float32: torch alone, and OpenVINO in 8 bits with the Dice it costs.

python benchmarks/predict.py --runs runs/predict --epochs 30

Trains a U-Net in 2-D and in 3-D on the CT phantom, kept in --runs, then computes windows in turn: eager float32 in
torch's own layout under inference_mode, what predict does by default on a processor with bfloat16, the same with
inference.fold=true, and OpenVINO in 8 bits (`pip install -e '.[export]'`), whose Dice is measured on the validation
cases. One thread; medians of the processor time of rounds. In 2-D an epoch takes a minute on one core, in 3-D longer;
training goes on where it was interrupted.
"""

import argparse
import time
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from runs import finish, opened, table, train

from seglab.inference.network import Predict
from seglab.run.exports.backends import BackendChoice, computing, onnx_file, runtime
from seglab.run.exports.int8 import check_dice, int8_file
from seglab.run.record import read_run
from seglab.run.trained import TrainedRun

SETTINGS = {
    2: ["data.patch_size=[64,64]", "data.batch_size=8", "model.base_channels=32"],
    3: ["data.patch_size=[32,64,64]", "data.batch_size=2", "model.base_channels=16", "model.n_poolings=3"],
}
WINDOW = {2: (256, 256), 3: (64, 96, 96)}
GOALS = {2: (0.35, 0.20), 3: (0.27, 0.13)}
LARGEST_LOSS = 0.005
HALF = "bf16-mixed"


def main() -> None:
    """Train, measure, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/predict"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures, rows = {}, []
    for dims, settings in SETTINGS.items():
        common = ["data=lits", "data.root=phantom", f"data.dims={dims}", "model=unet", "model.norm=batch", "test=false"]
        length = [f"trainer.max_epochs={given.epochs}", "callbacks.early_stopping=null"]
        run_dir = train(given.runs / f"unet-{dims}d", *common, *settings, *length)
        ways, loss = ways_of(run_dir)
        seconds = measured(ways, torch.randn(1, 1, *WINDOW[dims]), given.rounds)
        ratios = {name: value / seconds["eager float32"] for name, value in seconds.items()}
        rows += [[f"{dims}-D", name, f"{seconds[name]:.3f} s", f"{ratio:.3f}"] for name, ratio in ratios.items()]
        torch_goal, int8_goal = GOALS[dims]
        for name, way, goal in (
            ("torch", "torch bfloat16", torch_goal),
            ("folded", "torch bfloat16, folded", torch_goal),
            ("int8", "OpenVINO int8", int8_goal),
        ):
            figures[f"{name}_{dims}d"] = (ratios[way], f"<= {goal}", ratios[way] <= goal)
        figures[f"dice_loss_{dims}d"] = (loss, f"<= {LARGEST_LOSS}", loss <= LARGEST_LOSS)
    print(table(["network", "way", "processor time", "ratio"], rows))
    finish(figures)


def ways_of(run_dir: Path) -> tuple[dict[str, Predict], float]:
    """Four ways to the logits of a run, and the Dice that 8 bits lose."""
    config = read_run(run_dir)["config"]
    run, for_folding = (
        TrainedRun(run_dir=run_dir, member_dir=run_dir, task=opened(run_dir), config=config) for _ in range(2)
    )
    eager = deepcopy(run.task.net).to(memory_format=torch.contiguous_format)
    file = int8_file(run, onnx_file(run))
    rounded = runtime(file, "openvino")
    loss = check_dice(run, file, rounded, backend="openvino", max_loss=1.0, keys="")["loss"]
    ways: dict[str, Predict] = {
        "eager float32": eager,
        "torch bfloat16": computing(run, BackendChoice(), HALF, scored=HALF),
        "torch bfloat16, folded": computing(for_folding, BackendChoice(fold=True), HALF, scored=HALF),
        "OpenVINO int8": rounded,
    }
    return ways, float("nan") if loss is None else loss


@torch.inference_mode()
def measured(ways: dict[str, Predict], window: torch.Tensor, n_rounds: int) -> dict[str, float]:
    """Median processor seconds of each way, one after the other in every round; the first rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds + 5):
        for name, way in ways.items():
            start = time.process_time()
            way(window)
            times[name].append(time.process_time() - start)
    return {name: median(values[5:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
