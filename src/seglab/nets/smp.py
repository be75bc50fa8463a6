"""Any 2-D network of segmentation_models_pytorch (https://github.com/qubvel-org/segmentation_models.pytorch)."""

import difflib
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet

TIMM_PREFIX = "tu-"
HUB_TIMEOUT_S = 5.0


class SMP(SegmentationNet):
    """A network of segmentation_models_pytorch for 2-D images: any architecture on any encoder; returns logits.

    Sizes are multiples of the encoder's output stride: 32 for most, 16 for DeepLabV3Plus and PAN (PAN from 128 px up),
    8 for DeepLabV3 and PSPNet, 32 for DPT. The tests build every architecture on resnet18, Segformer on mit_b0 and DPT
    on a small vision transformer. DeepLabV3, DeepLabV3Plus, PAN, PSPNet and UPerNet pool down to one pixel in front of
    a batch norm: in training they need two images per step and device.

    Args:
        in_channels: channels of the image.
        num_classes: classes of the logits.
        spatial_dims: 2.
        arch: class name of the architecture, such as "Unet", "FPN", "Segformer".
        encoder: name of an encoder, such as "resnet34", or "tu-" before the name of a timm model; DPT takes only those.
        weights: name of pretrained encoder weights, such as "imagenet", for timm models a tag such as "a1_in1k"; None
            trains from scratch.

    Shape:
        image (N, in_channels, H, W) -> logits (N, num_classes, H, W).

    Raises:
        ConfigError: unknown names, a pair that does not fit, or weights that cannot be fetched.
        ShapeError: from `forward`, names the size to pad to.
    """

    supported_dims = (2,)
    paper = "https://github.com/qubvel-org/segmentation_models.pytorch"
    faithfulness = "reference"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        arch: str = "Unet",
        encoder: str = "resnet34",
        weights: str | None = None,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        import segmentation_models_pytorch as smp  # seconds to import, so only where it is used

        archs = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
        _check_name("arch", arch, list(archs))
        _check_encoder(encoder)
        if weights is not None:
            _check_weights(encoder, weights)
        self.net = _build(archs[arch], encoder, weights, in_channels, num_classes)
        stride = int(self.net.encoder.output_stride)
        # DPT merges maps at 1/4 to 1/32; PAN halves the last map three more times.
        self.size_multiple = 32 if arch == "DPT" else stride
        self.smallest = 8 * stride if arch == "PAN" else self.size_multiple

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image; shapes as in the class."""
        self.check_input(image)
        return self.net(image)  # type: ignore[no-any-return]

    def input_size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Smallest input size the network takes whose output covers `size`."""
        return tuple(max(length, self.smallest) for length in super().input_size_for(size))


def _build(cls: Any, encoder: str, weights: str | None, in_channels: int, num_classes: int) -> Any:
    """Build the network; a pair that the library refuses and a broken download become ConfigErrors."""
    is_timm = encoder.startswith(TIMM_PREFIX)
    name = f"{encoder}.{weights}" if is_timm and weights else encoder
    options = {"dynamic_img_size": True} if cls.__name__ == "DPT" else {}
    try:
        net = cls(
            encoder_name=name,
            encoder_weights=True if is_timm and weights else weights,
            in_channels=in_channels,
            classes=num_classes,
            **options,
        )
    except OSError as error:
        raise _unfetchable(encoder, weights, error) from error
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise _unfit(cls.__name__, encoder, str(error) or type(error).__name__) from error
    if 32 % int(net.encoder.output_stride):
        raise _unfit(cls.__name__, encoder, f"patches of {net.encoder.output_stride} px do not divide 32")
    return net


def _check_encoder(encoder: str) -> None:
    """Refuse an encoder that neither the library nor timm knows."""
    from segmentation_models_pytorch.encoders import get_encoder_names

    names = list(get_encoder_names())
    if encoder.startswith(TIMM_PREFIX):
        import timm

        names += [TIMM_PREFIX + name for name in timm.list_models()]
    _check_name("encoder", encoder, names, hint=f"{TIMM_PREFIX}<name> for each of timm.list_models()")


def _check_weights(encoder: str, weights: str) -> None:
    """Refuse weights that do not exist, or that are neither in the hub's cache nor within reach."""
    from huggingface_hub import try_to_load_from_cache

    if encoder.startswith(TIMM_PREFIX):
        import timm

        name = encoder.removeprefix(TIMM_PREFIX)
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
        _check_name("weights", weights, [*tags, "null"])
        repo_id, revision = f"timm/{name}.{weights}", None
    else:
        from segmentation_models_pytorch.encoders import encoders

        known = encoders[encoder]["pretrained_settings"]
        _check_name("weights", weights, [*known, "null"])
        repo_id, revision = known[weights]["repo_id"], known[weights]["revision"]
    if not isinstance(try_to_load_from_cache(repo_id, "model.safetensors", revision=revision), str):
        _check_hub(encoder, weights)


def _check_hub(encoder: str, weights: str) -> None:
    """Ask the hub once, because its own client retries for most of a minute when there is no network."""
    from huggingface_hub.constants import ENDPOINT

    request = urllib.request.Request(ENDPOINT, method="HEAD")  # noqa: S310  (the hub client's own address)
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # it answered, if only to refuse this request
    except OSError as error:
        raise _unfetchable(encoder, weights, error) from error


def _check_name(argument: str, given: str, allowed: list[str], hint: str = "") -> None:
    """Refuse an unknown name; say the allowed ones (without timm's thousand) and the nearest."""
    if given in allowed and given != "null":
        return
    nearest = difflib.get_close_matches(given, allowed, n=3, cutoff=0.3) or allowed[:1]
    shown = [name for name in allowed if not name.startswith(TIMM_PREFIX)] + ([hint] if hint else [])
    raise ConfigError(
        f"SMP knows no such {argument}",
        given=f"{argument}={given}",
        allowed=", ".join(shown),
        fix=f"set model.{argument}={nearest[0]}" + (f" (or {', '.join(nearest[1:])})" if nearest[1:] else ""),
    )


def _unfetchable(encoder: str, weights: str | None, error: OSError) -> ConfigError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ConfigError(
        f"the pretrained weights {weights} of the encoder {encoder} could not be fetched",
        given=f"encoder={encoder}, weights={weights} ({reason})",
        allowed="weights that are in the hub's cache or can be downloaded",
        fix="set model.weights=null to train from scratch, or run once with a network",
    )


def _unfit(arch: str, encoder: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the architecture {arch} cannot be built on the encoder {encoder}",
        given=f"arch={arch}, encoder={encoder} ({reason})",
        allowed="DPT on a vision transformer of timm; every other architecture on most of the encoders",
        fix=f"set model.encoder={'tu-vit_tiny_patch16_224' if arch == 'DPT' else 'resnet34'}",
    )
