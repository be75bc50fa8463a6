"""Small finished runs, and a clean environment for every test of a job."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_jobs import TINY_CRACK, clean_environment, train_in

Train = Callable[..., dict[str, float]]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No W&B key, no rank and no run id from outside; no Hydra state left behind."""
    with clean_environment():
        yield


@pytest.fixture
def train(crack_root: Path, cache_dir: Path) -> Train:
    """train(run_dir, *overrides) trains the smallest U-Net on the crack phantom."""
    data = [f"data.root={crack_root}", f"paths.cache_dir={cache_dir}"]

    def run(run_dir: Path, *overrides: str) -> dict[str, float]:
        return train_in(run_dir, *TINY_CRACK, *data, *overrides)

    return run


@pytest.fixture(scope="session")
def crack_run(
    tmp_path_factory: pytest.TempPathFactory, crack_root: Path, cache_dir: Path
) -> tuple[Path, dict[str, float]]:
    """A finished run of two epochs on cracks, and what fit returned; leave the folder as it is."""
    run_dir = tmp_path_factory.mktemp("runs") / "crack"
    with clean_environment():
        scores = train_in(
            run_dir,
            *TINY_CRACK,
            f"data.root={crack_root}",
            f"paths.cache_dir={cache_dir}",
            "trainer.max_epochs=2",
            "trainer.limit_train_batches=6",
            "trainer.log_every_n_steps=1",
        )
    return run_dir, scores
