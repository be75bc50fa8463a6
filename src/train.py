"""Train a segmentation network: python src/train.py model=unet data=crack data.root=phantom."""

import hydra
from omegaconf import DictConfig

from seglab.run.catalogue import CONF
from seglab.run.cli import importing, launch, user_errors


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> None:
    """Compose the configuration, then import what the job needs."""
    with user_errors():
        with importing():
            from seglab.run.fit import fit

        fit(cfg)


if __name__ == "__main__":
    launch(main, "train")
