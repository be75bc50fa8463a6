"""Batch norm folded into the convolution before it: in prediction both are linear, so one convolution does for both."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_weights, parametrize
from torch.overrides import TorchFunctionMode

Conv = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
Net = nn.Module

TOLERANCE = 1e-3
"""Of the largest logit: sums in another order differ by rounding only, which deep networks enlarge."""


def fold_batch_norm(net: Net, image: Tensor) -> tuple[Net, int]:
    """A copy of a network in which batch norms that follow a convolution directly are part of it.

    One forward pass shows what follows what. A pair is folded where every output of the convolution goes to this norm
    and nowhere else, and every input of the norm comes from this convolution; all other layers stay as they are.
    Source: Jacob et al. 2018, section 3.2 (https://arxiv.org/abs/1712.05877).

    Args:
        net: in eval mode; it is not changed.
        image: (N, C, *spatial) that the network takes; a small one does.

    Returns:
        The copy and how many norms were folded; the network itself and 0 where there are none, or where logits would
        differ by more than rounding.
    """
    folded = deepcopy(net).eval()
    with torch.no_grad():
        wanted, pairs = _observed(folded, image)
        for conv, norm in pairs.items():
            _absorb(conv, norm)
        _replace(folded, {norm: nn.Identity() for norm in pairs.values()})
        gap = (folded(image) - wanted).abs().max()
    return (folded, len(pairs)) if pairs and gap <= TOLERANCE * wanted.abs().max() else (net, 0)


def _observed(net: Net, image: Tensor) -> tuple[Tensor, Mapping[Conv, _BatchNorm]]:
    """Logits of an image, and the batch norm of each convolution that can be folded into it."""
    maker: dict[int, Conv] = {}
    made: dict[Conv, list[Tensor]] = {}  # keeps the tensors, so that no id is given twice
    taken: dict[_BatchNorm, list[tuple[Conv | None, int]]] = {}
    uses = _Uses()

    def after_conv(conv: Conv, _: Any, output: Tensor) -> None:
        """Note what a convolution has made."""
        maker[id(output)] = conv
        uses.count[id(output)] = 0  # the id may have been that of a tensor which is gone
        made.setdefault(conv, []).append(output)

    def before_norm(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        """Note whose output a norm takes."""
        taken.setdefault(norm, []).append((maker.get(id(inputs[0])), id(inputs[0])))

    hooks = [conv.register_forward_hook(after_conv) for conv in net.modules() if isinstance(conv, Conv)]
    hooks += [norm.register_forward_pre_hook(before_norm) for norm in net.modules() if _is_fixed(norm)]
    try:
        with uses:
            logits: Tensor = net(image)
    finally:
        for hook in hooks:
            hook.remove()
    pairs: dict[Conv, _BatchNorm] = {}
    for norm, inputs in taken.items():
        conv = inputs[0][0]
        if conv is not None and _can_absorb(conv):
            outputs = [(conv, id(output)) for output in made[conv]]
            if outputs == inputs and all(uses.count[each] == 1 for _, each in outputs):
                pairs[conv] = norm
    return logits, pairs


class _Uses(TorchFunctionMode):
    """Counts how often each tensor goes into an operation that gives tensors; asking for a shape is none."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):
            self.count.update({id(tensor) for tensor in _tensors([*args, *(kwargs or {}).values()])})
        return result


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _is_fixed(module: Net) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _can_absorb(conv: Conv) -> bool:
    is_transposed = isinstance(conv, nn.ConvTranspose2d | nn.ConvTranspose3d)
    return not parametrize.is_parametrized(conv) and not (is_transposed and conv.groups > 1)


def _absorb(conv: Conv, norm: _BatchNorm) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,  # type: ignore[arg-type]  # there are statistics, see _is_fixed
        norm.running_var,  # type: ignore[arg-type]
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(conv, nn.ConvTranspose2d | nn.ConvTranspose3d),
    )


def _replace(net: Net, new: Mapping[_BatchNorm, Net]) -> None:
    """Put modules in the place of others, wherever those stand."""
    for parent in net.modules():
        for name, child in parent._modules.items():
            if isinstance(child, _BatchNorm) and child in new:
                parent._modules[name] = new[child]
