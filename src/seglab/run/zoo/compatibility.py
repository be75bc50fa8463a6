"""What works where, measured: each network of conf/model with torch.compile, ONNX, bfloat16 and channels_last."""

import platform
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.files import write_text
from seglab.nets.base import SegmentationNet
from seglab.run.catalogue import names
from seglab.run.zoo.networks import chosen, narrow_nets
from seglab.task.sizes import memory_layout

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TITLES = {"compile": "torch.compile", "onnx": "ONNX", "bf16": "bfloat16", "channels_last": "channels_last"}
TOLERANCE = 1e-3  # of the largest logit, between two ways to the same logits, which order their sums differently
SPREAD = 10 * TOLERANCE
"""Share of the largest logit by which each class varies at least; else two constants would be compared."""

MADE = "<!-- python src/info.py what=compatibility output=docs/zoo makes this file. -->"
EXPLANATION = """\
Measured on a CPU on narrow networks with two classes or the fewest that they take, whose weights are drawn so that the
logits vary over the image.

- **torch.compile** (`trainer.compile=true`): the network is one graph (`fullgraph=True`) with the same logits.
- **ONNX**: `torch.onnx.export(net, (image,), dynamo=True)` for a fixed size; onnxruntime gives the same logits.
- **bfloat16** (`trainer.precision=bf16-mixed`): outputs and gradients of a training step are finite. On CPUs torch gets
  the gradient of a 3-D convolution wrong where its input has several slices, but fewer than its kernel; such a run is
  refused, or trains in 32-true with `trainer.precision=auto`.
- **channels_last** (`trainer.channels_last=true`, the default): the same logits, and finite gradients."""


def write_compatibility(folder: Path, only: Sequence[str] | None = None) -> Path:
    """Measure networks one after the other, a minute each on a quiet core, and write them into compatibility.md.

    Args:
        folder: of the file, whose rows of other networks are kept.
        only: choices of conf/model; None for all.

    Raises:
        ConfigError: an unknown network, or the packages for ONNX are not installed.
    """
    wanted = chosen(only)
    _check_packages()
    file = folder / "compatibility.md"
    known = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows: list[str] = []
    for name in names("model"):
        if name in wanted:
            nets = [net for dims in (2, 3) if (net := varied_net(name, dims)) is not None]
            rows += [_row([name, f"{net.spatial_dims}-D", *measure(net).values()]) for net in nets]
        else:
            rows += [line for line in known if line.startswith(f"| {name} |")]
    versions = [f"{package} {version(package)}" for package in ("torch", *PACKAGES)]
    table = "\n".join([_row(["network", "", *TITLES.values()]), _row(["---"] * (len(TITLES) + 2)), *rows])
    python = f"Python {platform.python_version()} on {platform.machine()}"
    parts = [MADE, "# What works where", table, EXPLANATION, f"Last measured with {', '.join([python, *versions])}."]
    write_text(file, "\n\n".join(parts) + "\n")
    return file


def varied_net(name: str, dims: int) -> SegmentationNet | None:
    """The narrowest network of a choice of conf/model whose logits vary: narrow ones may be dead and give zeros only.

    Returns:
        None if it does not exist in these dimensions.
    """
    net = None
    for net in narrow_nets(name, dims):
        if varies(plain_logits(net, example(net))):
            break
    return net


def measure(net: SegmentationNet) -> dict[str, str]:
    """Cell of the table for each title: yes, or no and why."""
    image = example(net)
    return {name: "no: " + why if (why := fault(name, net, image)) else "yes" for name in TITLES}


def example(net: SegmentationNet) -> Tensor:
    """Two small random images; in 3-D so deep that no level has fewer slices than a kernel, see `EXPLANATION`."""
    shortest = net.input_size_for([1] * net.spatial_dims)
    size = net.input_size_for([shortest[0] * times for times in {2: (1, 2), 3: (5, 1, 1)}[net.spatial_dims]])
    return torch.rand(2, net.in_channels, *size, generator=torch.Generator().manual_seed(1))


def fault(ability: str, net: SegmentationNet, image: Tensor) -> str:
    """Why something does not work with a network, empty where it works; what the network says itself comes first."""
    if ability in net.unsupported:
        return net.unsupported[ability]
    ways = {"compile": compiled_logits, "onnx": onnx_logits, "channels_last": channels_last_logits}
    try:
        if ability in ways and (gap := difference(ways[ability](net, image), plain_logits(net, image))):
            return gap
        is_trained = ability in ("bf16", "channels_last")
        return training_fault(net, image, **{ability: True}) if is_trained else ""
    except (RuntimeError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]


def plain_logits(net: SegmentationNet, image: Tensor) -> Tensor:
    """Logits in eval mode."""
    with torch.no_grad():
        return net.eval()(image)  # type: ignore[no-any-return]


def compiled_logits(net: SegmentationNet, image: Tensor) -> Tensor:
    """The same from one graph, compiled with the default backend."""
    torch._dynamo.reset()
    with torch.no_grad():
        return torch.compile(net.eval(), fullgraph=True)(image)  # type: ignore[no-any-return]


def onnx_logits(net: SegmentationNet, image: Tensor) -> Tensor:
    """The same from onnxruntime."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(net.eval(), (image,), dynamo=True, verbose=False)
    return program(image)[0]  # type: ignore[misc]


def channels_last_logits(net: SegmentationNet, image: Tensor) -> Tensor:
    """The same from weights and image in the channels-last layout."""
    layout = memory_layout(net.spatial_dims)
    logits = plain_logits(net.to(memory_format=layout), image.to(memory_format=layout))
    net.to(memory_format=torch.contiguous_format)
    return logits


def training_fault(net: SegmentationNet, image: Tensor, *, bf16: bool = False, channels_last: bool = False) -> str:
    """What is not finite in a training step: empty, an output or the first parameter's gradient."""
    layout = memory_layout(net.spatial_dims) if channels_last else torch.contiguous_format
    net.to(memory_format=layout).train().zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        outputs = net.training_outputs(image.to(memory_format=layout))
    loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    faults = ["an output" for output in outputs if not output.isfinite().all()]
    for name, parameter in net.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            faults.append(f"the gradient of {name}")
    return f"{faults[0]} is not finite" if faults else ""


def difference(logits: Tensor, wanted: Tensor) -> str:
    """Largest difference where it is more than rounding, empty where the logits are the same.

    Logits that do not vary are a difference too: a wrong network would give them as well.
    """
    if not varies(wanted):
        return "the logits hardly vary, so nothing is compared"
    largest, allowed = (logits - wanted).abs().max(), TOLERANCE * wanted.abs().max()
    return "" if largest <= allowed else f"logits of {wanted.abs().max():.2g} differ by {largest:.2g}"


def varies(logits: Tensor) -> bool:
    """Whether what tells each class of (N, K, *spatial) from the others differs over the images.

    A class may be 0 everywhere by design, as the background is where the others are logits against it.
    """
    by_class = (logits - logits.mean(dim=1, keepdim=True)).transpose(0, 1).flatten(1)
    spread = by_class.amax(dim=1) - by_class.amin(dim=1)
    return bool((spread > SPREAD * logits.abs().max()).all())


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _check_packages() -> None:
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise ConfigError(
            "the compatibility with ONNX cannot be measured",
            given=f"an environment without {', '.join(missing)}",
            allowed=f"one with {', '.join(PACKAGES)}",
            fix="type pip install -e '.[dev]'",
        )
