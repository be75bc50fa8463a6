"""Every network of the zoo gets a plan on which it can train, whatever the memory, in two and in three dimensions."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from run_jobs import HARDWARE, composed

from seglab.run.build import build_data, build_task
from seglab.run.catalogue import names
from seglab.run.planning import GIB, fit_memory, step_bytes, with_depth
from seglab.run.preflight import check_patch

TASKS = {"implicit_unet": ["task=implicit"], "e1d3": ["task=regions", "loss=ce"]}
TASKS |= {"encoding_unet": ["task=label_encoding"], "bottleneck_head_unet": ["task=bottleneck_head"]}
ONLY = {"orthogonal": 3, "smp": 2, "cascade": None}
FEW = ("unet", "e1d3", "monai")
LANES = {True: pytest.mark.slow, False: pytest.mark.exhaustive}
ZOO = [pytest.param(name, marks=LANES[name in FEW]) for name in names("model")]
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("model", ZOO)
def test_a_network_can_train_on_what_is_planned(model: str, dims: int, ct_root: Path, cache_dir: Path) -> None:
    if ONLY.get(model) not in (None, dims):
        pytest.skip(f"{model} has {ONLY[model]} dimensions")
    given = [f"model={model}", "data=lits", f"data.root={ct_root}", f"data.dims={dims}", "data.plan=auto"]
    cfg = composed("train", [*HARDWARE, *given, *TASKS.get(model, []), f"paths.cache_dir={cache_dir}"])
    open_config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]  # a dict
    first = None
    for room in (1000 * GIB, GIB / 4, 1):
        data = build_data(open_config).load()
        config = with_depth(open_config, data.spec.patch_size)
        net = build_task(config, data.spec).net
        planned = fit_memory(config, data, net, room)
        patch, batch_size = tuple(planned["data"]["patch_size"]), planned["data"]["batch_size"]
        assert patch == data.spec.patch_size and min(patch) >= 16
        check_patch(build_task(with_depth(planned, patch), data.spec), batch_size)
        needed = step_bytes(net, patch, batch_size)
        first = first or needed
        assert needed is not None and needed <= first
    assert batch_size <= 2, "the least memory leaves the least batch"
