"""Pictures of the same few cases, and the scores that belong to the kept checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch.utils.data import DataLoader

from seglab.callbacks.best import KeptScores
from seglab.callbacks.images import PredictionImages
from seglab.callbacks.picture import EXTRA, HIT, MISSED, Example, cells, draw, to_rgb
from seglab.spec import IGNORE_INDEX, DataSpec, Intensity

SPEC = DataSpec(
    name="made_up",
    kind="photo",
    spatial_dims=2,
    in_channels=3,
    class_names=("background", "thing"),
    class_colors=((0, 0, 0), (255, 0, 0)),
    mask_values=(0, 255),
    has_background=True,
    patch_size=(16, 16),
    intensity=Intensity(mean=(127.0,) * 3, std=(50.0,) * 3),
)


class Scripted(LightningModule):
    """Logs a given score per epoch; what it trains does not matter."""

    spec = SPEC

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.layer, self.given = torch.nn.Linear(1, 1), scores

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        return None

    def on_validation_epoch_end(self) -> None:
        self.log_dict({"val/dice": self.given[self.current_epoch], "val/other": 10.0 * self.current_epoch})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(folder: Path, scores: list[float], *, monitor: str | None) -> KeptScores:
    kept = KeptScores()
    keeper = ModelCheckpoint(
        dirpath=folder, filename="best", monitor=monitor, mode="max", save_on_train_epoch_end=monitor is None
    )
    data = DataLoader(torch.ones(2, 1))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=len(scores), callbacks=[kept, keeper], **quiet)
    trainer.fit(Scripted(scores), data, data if monitor else None)
    return kept


@pytest.mark.parametrize(("scores", "best"), [([0.1, 0.7, 0.3], 1), ([0.9, 0.7], 0), ([0.5, 0.5, 0.6], 2), ([0.2], 0)])
def test_the_kept_scores_are_those_of_the_best_epoch_and_lie_in_its_checkpoint(
    scores: list[float], best: int, tmp_path: Path
) -> None:
    kept = train(tmp_path, scores, monitor="val/dice")
    expected = {"best/val/dice": scores[best], "best/val/other": 10.0 * best, "best/epoch": float(best)}
    assert kept.scores == pytest.approx(expected)
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert content["callbacks"]["KeptScores"]["scores"] == pytest.approx(expected) and content["epoch"] == best


def test_where_nothing_is_watched_the_last_epoch_is_kept(tmp_path: Path) -> None:
    assert train(tmp_path, [0.5, 0.1], monitor=None).scores == {"best/epoch": 1.0}
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["callbacks"]["KeptScores"]["scores"]["best/epoch"] == 1


def example(mask: list[list[int]], pred: list[list[int]]) -> Example:
    shape = np.array(mask).shape
    return Example("a", np.zeros((3, *shape), np.float32), np.array(mask, np.uint8), np.array(pred, np.uint8))


def test_errors_show_hits_extra_and_missed_pixels_and_nothing_where_ignored() -> None:
    one = example([[1, 0, 1, 0, IGNORE_INDEX]], [[1, 1, 0, 0, 1]])
    grey = cells(one, SPEC)[0][0, 3].astype(int)
    shown = cells(one, SPEC)[3][0].astype(int)
    for pixel, color in zip(shown[:3], (HIT, EXTRA, MISSED), strict=True):
        assert np.abs(pixel - color).max() < 40
    assert np.array_equal(shown[3], grey) and np.array_equal(shown[4], grey)


def test_a_photo_is_shown_in_its_own_colours() -> None:
    image = (np.array([[[0.0]], [[127.0]], [[255.0]]]) - 127) / 50
    assert np.abs(to_rgb(image.astype(np.float32), SPEC)[0, 0].astype(int) - [0, 127, 255]).max() <= 1


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_any_number_of_channels_and_any_size_is_drawn(n_channels: int) -> None:
    spec = DataSpec(
        **{**vars(SPEC), "in_channels": n_channels, "intensity": Intensity((0.0,) * n_channels, (1.0,) * n_channels)}
    )
    rng = np.random.default_rng(0)
    examples = [
        Example(str(size), rng.normal(size=(n_channels, *size)).astype(np.float32), *(np.ones((2, *size), np.uint8)))
        for size in ((5, 700), (300, 2), (1, 1))
    ]
    sheet = draw(examples, spec)
    assert sheet.width > 1000 and sheet.height > 3 * 320 and len(np.unique(np.array(sheet))) > 10


def test_the_first_cases_are_pictured_at_their_fullest_slice(tmp_path: Path) -> None:
    callback = PredictionImages(str(tmp_path), n_cases=2)
    for name in ("a", "b", "c"):
        mask = torch.zeros(4, 6, 6, dtype=torch.int64)
        mask[2, :3] = 1
        mask[1] = IGNORE_INDEX
        case = {"case": name, "image": torch.arange(4.0)[None, :, None, None].expand(3, 4, 6, 6), "mask": mask}
        callback._look({"pred": mask.clamp(max=1).to(torch.uint8)}, case)
    assert list(callback._picked) == ["a", "b"]
    n_foreground, shown = callback._picked["a"]
    assert n_foreground == 18 and shown.image.max() == 2 and shown.mask.shape == (6, 6)


def test_a_picture_is_written_after_the_test(tmp_path: Path) -> None:
    class Tested(Scripted):
        def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
            return {"pred": batch["mask"].to(torch.uint8)}

    cases = [{"case": f"c{i}", "image": torch.randn(3, 1, 9, 7), "mask": torch.ones(1, 9, 7).long()} for i in range(3)]
    callback = PredictionImages(str(tmp_path), n_cases=2)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", devices=1, callbacks=[callback], **quiet)
    trainer.test(Tested([]), DataLoader(cases, batch_size=None), verbose=False)
    with Image.open(callback.test_picture) as picture:
        assert picture.size[1] > 2 * 320
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["test.png"]
