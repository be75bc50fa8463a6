from pathlib import Path

import numpy as np
import pytest
import torch
from augment_parts import SPECS
from PIL import Image

from seglab.data.augment import Augment
from seglab.data.crack import CrackData
from seglab.data.lits import LitsData
from seglab.data.module import SegmentationData
from seglab.data.preview import CELL, cell_of, preview, shown
from seglab.data.satellite import SatelliteData


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", [(32, 48), (600, 300)])
def test_each_kind_is_shown_with_its_outlines(name: str, size: tuple[int, int]) -> None:
    spec = SPECS[name]
    depth = (5,) * (spec.spatial_dims == 3)
    mask = torch.zeros((*depth, *size), dtype=torch.uint8)
    mask[..., 8:20, 8:20] = 1
    picture = cell_of(torch.zeros(spec.in_channels, *depth, *size), mask, spec)
    assert max(picture.shape) == CELL and picture.shape[2] == 3
    outlined = (picture == spec.class_colors[1]).all(axis=2)
    assert 0 < outlined.sum() < 400 and not outlined[0].any()


def test_a_volume_shows_its_fullest_slice() -> None:
    mask = torch.zeros((3, 256, 256), dtype=torch.uint8)
    mask[0], mask[1, 100:110, 100:110] = 255, 1
    image = torch.arange(-1.0, 2.0)[None, :, None, None].expand(1, 3, 256, 256)
    middle = cell_of(image, mask, SPECS["ct volume"])
    assert middle[0, 0].tolist() == [int(255 * 220 / 450)] * 3


def test_stored_values_keep_their_colours() -> None:
    spec = SPECS["photo"]
    stored = np.array([255.0, 128.0, 0.0])
    values = ((stored - spec.intensity.mean) / spec.intensity.std).astype(np.float32)
    assert np.abs(shown(values[:, None, None], spec)[0, 0] - stored).max() <= 1


@pytest.mark.parametrize("kind", [CrackData, LitsData, SatelliteData])
def test_sixteen_samples_are_drawn_as_a_training_sees_them(
    kind: type[SegmentationData], crack_root: Path, ct_root: Path, scene_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    root = {CrackData: crack_root, LitsData: ct_root, SatelliteData: scene_root}[kind]
    data = kind(root=str(root), cache_dir=str(cache_dir), num_workers=0, patch_size=[64, 64], augment=Augment()).load()
    for name in ("one", "same"):
        preview(data, tmp_path / "new" / f"{name}.png")
    sheet = np.array(Image.open(tmp_path / "new" / "one.png"))
    cells = {sheet[y : y + 256, x : x + 256].tobytes() for y in range(4, 1040, 260) for x in range(4, 1040, 260)}
    assert sheet.shape == (1044, 1044, 3) and len(cells) == 16
    assert (tmp_path / "new" / "one.png").read_bytes() == (tmp_path / "new" / "same.png").read_bytes()
