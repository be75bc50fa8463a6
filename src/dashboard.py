"""Make a W&B workspace for runs like this one: python src/dashboard.py run=runs/<run>."""

import hydra
from omegaconf import DictConfig

from seglab.run.catalogue import CONF
from seglab.run.cli import importing, launch, user_errors


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="dashboard")
def main(cfg: DictConfig) -> None:
    """Compose the configuration, then import what the job needs."""
    with user_errors():
        with importing():
            from seglab.run.tracking.dashboard import dashboard

        dashboard(cfg)


if __name__ == "__main__":
    launch(main, "dashboard")
