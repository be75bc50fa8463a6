"""The networks under contract: a new network adds a row to TABLE, and its published parameters to COUNTS."""

import hashlib
import json
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from seglab.nets.base import SegmentationNet
from seglab.nets.unet import UNet
from seglab.nets.unetpp import UNetPlusPlus

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
    # SDU-Net sees over 1,400 px to each side, so its file has the shift test: these names do not end in 2d.
    "sdunet-2d-batch": ("sdunet.SDUNet", {"spatial_dims": 2, "base_channels": 16}, 32),
    "sdunet-3d-batch": ("sdunet.SDUNet", {"spatial_dims": 3, "base_channels": 16}, 32),
    "sdunet-2d-group": ("sdunet.SDUNet", {"spatial_dims": 2, "base_channels": 16, "norm": "group"}, 64),
    "full-attention-2d": ("full_attention_unet.FullAttentionUNet", {"spatial_dims": 2, "base_channels": 2}, 32),
    "full-attention-3d": ("full_attention_unet.FullAttentionUNet", {"spatial_dims": 3, "base_channels": 2}, 32),
    "full-attention-advanced-2d": (
        "full_attention_unet.FullAttentionUNet",
        {"spatial_dims": 2, "base_channels": 2, "variant": "advanced", "double_sigmoid": True},
        32,
    ),
    # 32-fold strides and fields of hundreds of pixels: shifted in test_bsunet.py, so the 2-D names do not end in 2d
    "bsunet": ("bsunet.BSUNet", {"spatial_dims": 2, "base_channels": 4}, 64),
    "bsunet-3d": ("bsunet.BSUNet", {"spatial_dims": 3, "base_channels": 2}, 32),
    "encoding-unet": ("bsunet.EncodingUNet", {"spatial_dims": 2, "base_channels": 4}, 64),
    "encoding-unet-3d": ("bsunet.EncodingUNet", {"spatial_dims": 3, "base_channels": 2}, 32),
    "residual-unet-2d": ("residual_unet.ResidualUNet", {"spatial_dims": 2, "base_channels": 4, "n_blocks": 1}, 32),
    "residual-unet-3d": ("residual_unet.ResidualUNet", {"spatial_dims": 3, "base_channels": 4}, 32),
    "bottleneck-head-2d": (
        "bottleneck_head_unet.BottleneckHeadUNet",
        {"spatial_dims": 2, "base_channels": 4, "head_channels": 8},
        32,
    ),
    "bottleneck-head-3d": (
        "bottleneck_head_unet.BottleneckHeadUNet",
        {"spatial_dims": 3, "base_channels": 4, "head_channels": 8, "norm": "batch", "use_relu": False},
        32,
    ),
    "bottleneck-dense-2d": (
        "bottleneck_head_unet.BottleneckHeadUNet",
        {"spatial_dims": 2, "base_channels": 4, "head": "dense", "head_channels": 8, "image_size": [32, 32]},
        32,
    ),
    # an instance norm sees the whole image, so these names do not end in 2d: there is no shift to test
    "e1d3-2d-instance": ("e1d3.E1D3UNet", {"spatial_dims": 2, "base_channels": 8}, 32),
    "e1d3-3d": ("e1d3.E1D3UNet", {"spatial_dims": 3, "base_channels": 2}, 32),
    # V-Net sees up to 275 px to each side, so its file has the shift test
    "vnet-2d-paper": ("vnet.VNet", {"spatial_dims": 2, "base_channels": 2}, 32),
    "vnet-3d": ("vnet.VNet", {"spatial_dims": 3, "base_channels": 2}, 16),
    "vnet-2d-prototxt": ("vnet.VNet", {"spatial_dims": 2, "base_channels": 4, "layout": "prototxt"}, 32),
    "vnet-batch-3d": (
        "vnet.VNet",
        {"spatial_dims": 3, "base_channels": 2, "layout": "prototxt", "norm": "batch", "dropout": 0.5},
        32,
    ),
    "unet3d-2d": ("unet3d.UNet3D", {"spatial_dims": 2, "base_channels": 2}, 32),
    "unet3d-3d": ("unet3d.UNet3D", {"spatial_dims": 3, "base_channels": 2}, 16),
    "unet3d-none-3d": ("unet3d.UNet3D", {"spatial_dims": 3, "base_channels": 2, "norm": None}, 16),
    "r2unet-2d": ("r2unet.R2UNet", {"spatial_dims": 2, "base_channels": 2}, 32),
    "r2unet-3d": ("r2unet.R2UNet", {"spatial_dims": 3, "base_channels": 4}, 32),
    "r2attunet-2d": ("r2unet.R2UNet", {"spatial_dims": 2, "base_channels": 4, "attention": True}, 32),
    "r2unet-per-step-2d": (
        "r2unet.R2UNet",
        {"spatial_dims": 2, "base_channels": 2, "norm_statistics": "per_step"},
        32,
    ),
    "r2attunet-3d": ("r2unet.R2UNet", {"spatial_dims": 3, "base_channels": 2, "n_steps": 1, "attention": True}, 32),
    "unetpp-2d": ("unetpp.UNetPlusPlus", {"spatial_dims": 2, "base_channels": 4}, 32),
    "unetpp-3d": ("unetpp.UNetPlusPlus", {"spatial_dims": 3, "base_channels": 2}, 32),
    "unetpp-heads-2d": ("unetpp.UNetPlusPlus", {"spatial_dims": 2, "base_channels": 4, "deep_supervision": True}, 32),
    "unetpp-heads-3d": (
        "unetpp.UNetPlusPlus",
        {"spatial_dims": 3, "base_channels": 4, "up": "transposed", "norm": None, "deep_supervision": True},
        16,
    ),
    "inception-unet-2d": ("inception_unet.InceptionUNet", {"spatial_dims": 2, "base_channels": 4}, 32),
    "inception-unet-3d": ("inception_unet.InceptionUNet", {"spatial_dims": 3, "base_channels": 4}, 32),
    "dense-unet-2d": (
        "dense_unet.DenseUNet",
        {"spatial_dims": 2, "base_channels": 4, "growth": 2, "n_layers": 2},
        32,
    ),
    "dense-unet-3d": ("dense_unet.DenseUNet", {"spatial_dims": 3, "base_channels": 4, "growth": 2}, 32),
    # coordinates tell places apart, so a shift changes the logits: the 2-D name does not end in 2d
    "implicit-unet": ("implicit_unet.ImplicitUNet", {"spatial_dims": 2, "base_channels": 2}, 32),
    "implicit-unet-3d": ("implicit_unet.ImplicitUNet", {"base_channels": 4, "n_poolings": 2, "spatial_dims": 3}, 16),
    "unet-no-bias-3d": (
        "unet.UNet",
        {"spatial_dims": 3, "base_channels": 4, "norm": "instance", "n_poolings": 2, "conv_bias": False},
        16,
    ),
    # three classes at least, and fields of two networks: these names do not end in 2d, there is no shift test
    "cascade": (
        "cascade.Cascade",
        {"spatial_dims": 2, "first": partial(UNet, base_channels=4), "second": partial(UNet, base_channels=4)},
        32,
    ),
    "cascade-heads": (
        "cascade.Cascade",
        {
            "spatial_dims": 2,
            "first": partial(UNet, base_channels=4, n_poolings=1),
            "second": partial(UNetPlusPlus, base_channels=4, deep_supervision=True),
        },
        32,
    ),
    "cascade-3d": (
        "cascade.Cascade",
        {
            "spatial_dims": 3,
            "first": partial(UNet, base_channels=2, n_poolings=2),
            "second": partial(UNet, base_channels=4, n_poolings=3),
        },
        16,
    ),
    "orthogonal-3d": (
        "orthogonal.OrthogonalFusion",
        {"spatial_dims": 3, "plane": partial(UNet, base_channels=2, n_poolings=3)},
        16,
    ),
    "orthogonal-learned-3d": (
        "orthogonal.OrthogonalFusion",
        {"spatial_dims": 3, "plane": partial(UNet, base_channels=4, n_poolings=3), "fusion": "learned", "shared": True},
        16,
    ),
    # group and instance norms see the whole image
    "monai-segresnet-2d-group": ("monai.MONAI", {"spatial_dims": 2, "base_channels": 8}, 32),
    "monai-segresnet-3d": ("monai.MONAI", {"spatial_dims": 3, "base_channels": 8}, 16),
    "monai-dynunet-2d-instance": ("monai.MONAI", {"spatial_dims": 2, "arch": "DynUNet", "base_channels": 4}, 64),
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
    ("bsunet.BSUNet", {"in_channels": 1, "num_classes": 1}, 9_163_177, 9_166_105),
    ("bsunet.EncodingUNet", {"in_channels": 1, "num_classes": 1}, 8_884_521, 8_887_449),
    ("residual_unet.ResidualUNet", {"in_channels": 1, "num_classes": 1}, 3_996_769, None),
    ("residual_unet.ResidualUNet", {"in_channels": 1, "num_classes": 1, "n_blocks": 1}, 2_030_817, None),
    ("bottleneck_head_unet.BottleneckHeadUNet", {"in_channels": 1, "num_classes": 1}, 31_293_250, None),
    ("sdunet.SDUNet", {"in_channels": 1, "num_classes": 1}, 5_997_681, None),
    ("sdunet.SDUNet", {"in_channels": 3, "num_classes": 1}, 5_998_257, None),
    ("full_attention_unet.FullAttentionUNet", {"in_channels": 1, "num_classes": 1}, 54_068_973, None),
    ("full_attention_unet.FullAttentionUNet", {"in_channels": 3, "num_classes": 1}, 54_070_125, None),
    ("e1d3.E1D3UNet", {"in_channels": 4, "num_classes": 4}, 34_937_961, None),
    ("vnet.VNet", {"in_channels": 1, "num_classes": 2}, 65_175_314, None),
    ("vnet.VNet", {"in_channels": 1, "num_classes": 2, "layout": "prototxt"}, 61_982_682, None),
    ("unet3d.UNet3D", {"in_channels": 3, "num_classes": 3}, 19_069_955 + 4_672, None),  # published without batch norms
    ("r2unet.R2UNet", {"in_channels": 3, "num_classes": 1}, 39_091_393, None),
    ("r2unet.R2UNet", {"in_channels": 1, "num_classes": 1}, 39_091_265, None),
    ("r2unet.R2UNet", {"in_channels": 3, "num_classes": 1, "attention": True}, 39_442_925, None),
    ("unetpp.UNetPlusPlus", {"in_channels": 3, "num_classes": 1}, 9_163_329, None),
    ("unetpp.UNetPlusPlus", {"in_channels": 3, "num_classes": 1, "deep_supervision": True}, 9_163_428, None),
    ("unetpp.UNetPlusPlus", {"in_channels": 1, "num_classes": 1, "norm": None, "up": "transposed"}, 9_041_601, None),
    ("inception_unet.InceptionUNet", {"in_channels": 1, "num_classes": 1}, 8_163_105, None),
    ("dense_unet.DenseUNet", {"in_channels": 1, "num_classes": 1}, 2_099_809, None),
    ("implicit_unet.ImplicitUNet", {"in_channels": 1, "num_classes": 2}, 14_746_146, None),
    (  # the convolutional twin of Implicit U-Net
        "unet.UNet",
        {
            "in_channels": 1,
            "num_classes": 2,
            "spatial_dims": 3,
            "base_channels": 32,
            "norm": "instance",
            "conv_bias": False,
        },
        22_578_306,
        None,
    ),
]


def class_of(name: str) -> type[SegmentationNet]:
    """The class of a row; a name without a package lies below seglab.nets."""
    module, _, cls = name.rpartition(".")
    found: type[SegmentationNet] = getattr(import_module(f"seglab.nets.{module}" if "." not in module else module), cls)
    return found


def build(name: str, in_channels: int = 1, num_classes: int = 2) -> SegmentationNet:
    """The small network of a row, its weights drawn from seed 0; with more classes where it needs more."""
    cls, arguments, _ = TABLE[name]
    num_classes = max(num_classes, class_of(cls).min_classes)
    torch.manual_seed(0)
    return class_of(cls)(in_channels=in_channels, num_classes=num_classes, **arguments)


@cache
def built(name: str) -> SegmentationNet:
    """The same in eval mode, built once for all tests; leave it as it is."""
    return build(name).eval()


def images(name: str, n: int = 2, in_channels: int = 1) -> torch.Tensor:
    """Random images of the row's size, drawn from seed 1; volumes are half as deep and high where that is legal."""
    _, arguments, size = TABLE[name]
    dims = arguments["spatial_dims"]
    shape = (size // 2, size // 2, size) if dims == 3 else (size,) * dims
    shape = shape if built(name).input_size_for(shape) == shape else (size,) * dims
    torch.manual_seed(1)
    return torch.rand(n, in_channels, *shape)


def keys_of(name: str) -> dict[str, Any]:
    """What the golden file holds of a row's state dict."""
    keys = list(built(name).state_dict())
    digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]
    return {"n": len(keys), "first": keys[0], "last": keys[-1], "sha256": digest}


if __name__ == "__main__":  # adds the keys of new rows and drops those of removed ones; known keys are never changed
    golden = json.loads(GOLDEN_FILE.read_text())
    lines = [f'"{name}": {json.dumps(golden.get(name) or keys_of(name))}' for name in TABLE]
    GOLDEN_FILE.write_text("{\n" + ",\n".join(f"  {line}" for line in lines) + "\n}\n")
