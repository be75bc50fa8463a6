"""Fetch and check a data set: python src/prepare.py data=lits data.root=data/lits data.download=true."""

import hydra
from omegaconf import DictConfig

from seglab.run.catalogue import CONF
from seglab.run.cli import importing, launch, user_errors


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="prepare")
def main(cfg: DictConfig) -> None:
    """Compose the configuration, then import what the job needs."""
    with user_errors():
        with importing():
            from seglab.run.prepare import prepare

        prepare(cfg)


if __name__ == "__main__":
    launch(main, "prepare")
