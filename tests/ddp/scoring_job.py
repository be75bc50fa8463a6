"""Scores two networks on folders of photos, on as many processes as there are; `train` as first argument trains them.

To be started by torchrun, or alone: scoring_job.py score|train <folder> <cache_dir> <root of the training> <root> ...
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "run")]
WORLD = int(os.environ.get("WORLD_SIZE", "1"))
NETS = {
    "unet": ["model=unet", "model.norm=batch", "model.n_poolings=2"],
    "attention_unet": ["model=attention_unet"],
}
CPU = ["trainer.accelerator=cpu", "trainer.threads=1", f"trainer.devices={WORLD}"]
SMALL = [
    "data.batch_size=2", "data.patch_size=[32,32]", "data.num_workers=0", "model.base_channels=4", "logger=[]",
    "trainer.precision=32-true", "callbacks.progress=null", "callbacks.images=null", "test=false",
]  # fmt: skip
STEPS = {"plain": ["model.norm=null"], "shared": ["model.norm=batch", "trainer.sync_batchnorm=true"]}
PLAIN = ["model.n_poolings=2", "loss=ce", "optimizer=sgd", "scheduler=constant", "augment=default", "seed=2"]
"""With seeds 2 to 5 weights differ by 1e-7 at most between one, two and three processes. With 0 and 1 some differ by
1e-5 between one and several: rounding in shared batch norm seems to decide what passes a ReLU or a pool."""


def score(run_dir: Path, root: Path, cache_dir: Path) -> dict[str, Any]:
    """Test and validation scores of a run on all photos of a folder, and its table of cases."""
    from run_jobs import composed

    from seglab.run.build import build_data
    from seglab.run.checkpoints.checkpoint import find_checkpoint, load_task
    from seglab.run.engine import Engine
    from seglab.run.evaluate import evaluate
    from seglab.run.record import read_run

    output = run_dir / f"{root.name}-on-{WORLD}"
    job = [f"run={run_dir}", f"data.root={root}", f"paths.cache_dir={cache_dir}", f"output={output}", *CPU]
    tested = evaluate(composed("evaluate", job, output))
    task, config = load_task(find_checkpoint(run_dir)), read_run(run_dir)["config"]
    config["data"] |= {"root": str(root), "cache_dir": str(cache_dir), "split_file": None}
    data = build_data(config).load(spec=task.spec, test_split="all")
    data.records["val"] = data.records["all"]
    engine = Engine(accelerator="cpu", devices=WORLD, threads=1, precision="32-true")
    trainer = engine.trainer(callbacks=[], loggers=[], run_dir=output)
    trainer.validate(task, data, verbose=False)
    validated = {name: float(value) for name, value in trainer.callback_metrics.items()}
    cases = (output / "cases.csv").read_text() if trainer.is_global_zero else ""
    return {"test": tested, "validation": validated, "cases": cases}


def write_uneven(file: Path) -> None:
    """What shared batch norm makes of batches of 1, 2, ... images, and plain batch norm of all of them in one."""
    import torch
    import torch.distributed as dist

    from seglab.task.shared_norm import share_batch_norm

    torch.manual_seed(5)
    sizes = list(range(1, WORLD + 1))
    images, wanted = 3 + 2 * torch.randn(sum(sizes), 4, 5, 6), torch.randn(sum(sizes), 4, 5, 6)
    rank = dist.get_rank()
    own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    found = {}
    for name, part in {"joined": slice(None), "shared": own}.items():
        net = torch.nn.Sequential(torch.nn.BatchNorm2d(4))
        torch.nn.init.uniform_(net[0].weight, generator=torch.Generator().manual_seed(1))
        n_shared = share_batch_norm(net) if name == "shared" else 0
        image = images[part].clone().requires_grad_()
        (net(image) * wanted[part]).sum().backward()
        gradients = [parameter.grad for parameter in net.parameters()]
        if n_shared:
            for gradient in gradients:
                dist.all_reduce(gradient)
        whole = image.grad if name == "shared" else image.grad[own]
        found[name] = [whole, *gradients, *net.buffers()]
    everybody: list[Any] = [None] * WORLD
    dist.all_gather_object(everybody, found)
    if rank == 0:
        torch.save(everybody, file)


def main() -> None:
    """Train where asked for, score, and write <folder>/scores-<processes>.json."""
    from run_jobs import train_in

    what, folder, cache_dir, train_root, *roots = sys.argv[1:]
    paths = [f"data.root={train_root}", f"paths.cache_dir={cache_dir}"]
    epochs = ["trainer.max_epochs=1"]
    if what == "train":
        for name, net in NETS.items():
            train_in(Path(folder) / name, *CPU, *SMALL, *net, *paths, *epochs, "trainer.limit_train_batches=20")
    batch = [
        f"data.batch_size={6 // WORLD}",
        "data.val_fraction=0",
        "data.test_fraction=0.1",
        "callbacks.checkpoint=null",
    ]
    for name, net in STEPS.items():
        step = [*CPU, *SMALL, *PLAIN, *net, *paths, *epochs, *batch, "trainer.limit_train_batches=1"]
        train_in(Path(folder) / f"{name}-{WORLD}", *step)
    if WORLD > 1:
        write_uneven(Path(folder) / f"uneven-{WORLD}.pt")
    found = {
        f"{name} {Path(root).name}": score(Path(folder) / name, Path(root), Path(cache_dir))
        for name in NETS
        for root in roots
    }
    if os.environ.get("RANK", "0") == "0":
        (Path(folder) / f"scores-{WORLD}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
