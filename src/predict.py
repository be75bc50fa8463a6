"""Label images with a trained run: python src/predict.py run=runs/<run> input=photos output=labels."""

import hydra
from omegaconf import DictConfig

from seglab.run.catalogue import CONF
from seglab.run.cli import importing, launch, user_errors


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="predict")
def main(cfg: DictConfig) -> None:
    """Compose the configuration, then import what the job needs."""
    with user_errors():
        with importing():
            from seglab.run.predict import predict

        predict(cfg)


if __name__ == "__main__":
    launch(main, "predict")
