"""Hydra and Lightning as they are mostly put together: a decorated main, a Trainer, and nothing that guards them.

It takes the same keys as `src/train.py` in sweep_truth.py. The network is one layer, the data are 20 numbered rows.
"""

from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from lightning import LightningModule, Trainer, seed_everything
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, Dataset

N_SAMPLES, BATCH = 20, 5

CONFIG = {
    "seed": 0,
    "optimizer": {"lr": 0.01},
    "trainer": {"devices": 1},
    "callbacks": {"witness": {"_target_": "plain_witness.Witness", "file": "???", "fails": False}},
}
ConfigStore.instance().store(name="plain", node=CONFIG)


class Rows(Dataset[dict[str, Any]]):
    """20 rows of eight numbers, each with its number as a name."""

    def __len__(self) -> int:
        return N_SAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = torch.sin(torch.arange(8.0) + index)
        return {"row": row, "target": row.sum(), "case": str(index)}


class Line(LightningModule):
    """A linear layer that learns the sum of a row.

    Args:
        lr: learning rate.
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.layer, self.lr = nn.Linear(8, 1), lr

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Squared error of a batch."""
        loss: Tensor = (self.layer(batch["row"])[:, 0] - batch["target"]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        """Plain gradient descent."""
        return SGD(self.parameters(), lr=self.lr)


@hydra.main(version_base="1.3", config_path=None, config_name="plain")
def main(cfg: DictConfig) -> float:
    """Train one epoch; the last loss, for a sweeper."""
    seed_everything(cfg.seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=cfg.trainer.devices,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[instantiate(node) for node in cfg.callbacks.values()],
    )
    trainer.fit(Line(cfg.optimizer.lr), DataLoader(Rows(), batch_size=BATCH, shuffle=True))
    return float(trainer.callback_metrics["loss"])


if __name__ == "__main__":
    main()
