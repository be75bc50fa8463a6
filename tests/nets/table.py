"""The networks under contract: a new network adds a row to TABLE, and its published parameters to COUNTS."""

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from seglab.nets.base import SegmentationNet

GOLDEN_FILE = Path(__file__).parent / "golden_keys.json"  # python tests/nets/table.py adds the keys of new rows

# name: (module.Class below seglab.nets or a full dotted name, small arguments, a legal size per axis)
TABLE: dict[str, tuple[str, dict[str, Any], int]] = {
    "unet-2d": ("unet.UNet", {"spatial_dims": 2, "base_channels": 4}, 32),
    "unet-3d": ("unet.UNet", {"spatial_dims": 3, "base_channels": 4, "n_poolings": 3}, 16),
    "unet-batch-2d": ("unet.UNet", {"spatial_dims": 2, "base_channels": 4, "norm": "batch", "dropout": 0.5}, 32),
    "unet-instance-3d": ("unet.UNet", {"spatial_dims": 3, "base_channels": 4, "norm": "instance", "n_poolings": 2}, 16),
    "unet-group-2d": ("unet.UNet", {"spatial_dims": 2, "base_channels": 4, "norm": "group"}, 32),
    "attention-lee-2d": ("attention_unet.AttentionUNet", {"spatial_dims": 2, "base_channels": 4}, 32),
    "attention-lee-3d": ("attention_unet.AttentionUNet", {"spatial_dims": 3, "base_channels": 4, "form": "lee2d"}, 32),
    "attention-grid-2d": (
        "attention_unet.AttentionUNet",
        {"spatial_dims": 2, "base_channels": 4, "form": "grid3d"},
        32,
    ),
    "attention-grid-3d": ("attention_unet.AttentionUNet", {"spatial_dims": 3, "base_channels": 4}, 32),
    "attention-none-3d": (
        "attention_unet.AttentionUNet",
        {"spatial_dims": 3, "base_channels": 4, "gates": "none"},
        32,
    ),
    "dcunet-2d": ("dcunet.DCUNet", {"spatial_dims": 2, "base_channels": 4}, 32),
    "dcunet-3d": ("dcunet.DCUNet", {"spatial_dims": 3, "base_channels": 4}, 32),
    "multiresunet-2d": ("multiresunet.MultiResUNet", {"spatial_dims": 2, "base_channels": 4}, 32),
    "multiresunet-3d": ("multiresunet.MultiResUNet", {"spatial_dims": 3, "base_channels": 4}, 32),
    "smp-unet": ("smp.SMP", {"spatial_dims": 2, "arch": "Unet", "encoder": "resnet18"}, 64),
}

# (module.Class, arguments, trainable parameters, the same with running statistics as Keras counts, where published)
COUNTS: list[tuple[str, dict[str, Any], int, int | None]] = [
    ("unet.UNet", {"in_channels": 1, "num_classes": 2}, 31_030_658, None),
    ("unet.UNet", {"in_channels": 1, "num_classes": 1}, 31_030_593, None),
    ("unet.UNet", {"in_channels": 3, "num_classes": 1}, 31_031_745, None),
    ("unet.UNet", {"in_channels": 3, "num_classes": 2}, 31_031_810, None),
    ("unet.UNet", {"in_channels": 1, "num_classes": 1, "base_channels": 32}, 7_759_521, None),
    ("unet.UNet", {"in_channels": 1, "num_classes": 2, "norm": "batch"}, 31_042_434, None),
    ("unet.UNet", {"in_channels": 1, "num_classes": 2, "norm": "batch", "base_channels": 2}, 30_902, None),
    ("dcunet.DCUNet", {"in_channels": 1, "num_classes": 1}, 10_040_236, 10_069_640),
    ("dcunet.DCUNet", {"in_channels": 3, "num_classes": 1}, 10_040_524, 10_069_928),
    ("multiresunet.MultiResUNet", {"in_channels": 3, "num_classes": 1}, 7_238_228, 7_262_750),
    ("multiresunet.MultiResUNet", {"in_channels": 1, "num_classes": 1}, 7_237_982, 7_262_504),
    ("multiresunet.MultiResUNet", {"in_channels": 4, "num_classes": 1, "spatial_dims": 3}, 18_633_167, 18_657_689),
    ("attention_unet.AttentionUNet", {"in_channels": 3, "num_classes": 1}, 34_878_573, None),
    ("attention_unet.AttentionUNet", {"in_channels": 1, "num_classes": 1}, 34_877_421, None),
    ("attention_unet.AttentionUNet", {"in_channels": 1, "num_classes": 4, "spatial_dims": 3}, 6_473_322, None),
    (
        "attention_unet.AttentionUNet",
        {"in_channels": 1, "num_classes": 4, "spatial_dims": 3, "gates": "single"},
        6_214_151,
        None,
    ),
    (
        "attention_unet.AttentionUNet",
        {"in_channels": 1, "num_classes": 4, "spatial_dims": 3, "gates": "none"},
        5_888_004,
        None,
    ),
]


def class_of(name: str) -> type[SegmentationNet]:
    """The class of a row; a name without a package lies below seglab.nets."""
    module, _, cls = name.rpartition(".")
    found: type[SegmentationNet] = getattr(import_module(f"seglab.nets.{module}" if "." not in module else module), cls)
    return found


def build(name: str, in_channels: int = 1, num_classes: int = 2) -> SegmentationNet:
    """The small network of a row, its weights drawn from seed 0."""
    cls, arguments, _ = TABLE[name]
    torch.manual_seed(0)
    return class_of(cls)(in_channels=in_channels, num_classes=num_classes, **arguments)


def images(name: str, n: int = 2, in_channels: int = 1) -> torch.Tensor:
    """Random images of the row's size, drawn from seed 1."""
    _, arguments, size = TABLE[name]
    torch.manual_seed(1)
    return torch.rand(n, in_channels, *[size] * arguments["spatial_dims"])


def keys_of(name: str) -> dict[str, Any]:
    """What the golden file holds of a row's state dict."""
    with torch.device("meta"):
        keys = list(build(name).state_dict())
    digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]
    return {"n": len(keys), "first": keys[0], "last": keys[-1], "sha256": digest}


if __name__ == "__main__":  # adds the keys of new rows and drops those of removed ones; known keys are never changed
    golden = json.loads(GOLDEN_FILE.read_text())
    lines = [f'"{name}": {json.dumps(golden.get(name) or keys_of(name))}' for name in TABLE]
    GOLDEN_FILE.write_text("{\n" + ",\n".join(f"  {line}" for line in lines) + "\n}\n")
