"""From a configuration node to an object: the only place where a `_target_` is called."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from seglab.errors import ConfigError, SeglabError

ROOTS = ("seglab", "torch", "torchmetrics", "lightning", "segmentation_models_pytorch", "monai")
SPECIAL = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def make(node: Mapping[str, Any], path: str, **given: Any) -> Any:
    """Build what a node describes; nested nodes with a `_target_` are built first.

    Args:
        node: plain dict with `_target_` and constructor arguments.
        path: where it stands in the configuration, e.g. "model", for messages.
        given: arguments that the run decides; a differing value in the node is refused.

    Raises:
        ConfigError: unknown or forbidden target, unknown, missing or contradicting argument, or arguments that the
            constructor refuses.
    """
    for name, value in given.items():
        if name in node and node[name] != value:
            raise ConfigError(
                f"{path}.{name} comes from the data and the run",
                given=f"{path}.{name}={node[name]}",
                allowed=f"{value}",
                fix=f"leave {path}.{name} out",
            )
    check_node({**node, **dict.fromkeys(given)}, path)
    try:  # nested nodes first; the run's own arguments never pass through OmegaConf, which would copy them into dicts
        constructor = instantiate({**node, "_partial_": True}, _convert_="all")
        return partial(constructor, **given) if node.get("_partial_") else constructor(**given)
    except (InstantiationException, TypeError, ValueError) as error:
        cause = _innermost(error)
        if isinstance(cause, SeglabError):
            raise cause from None
        raise ConfigError(
            f"{path} could not be built",
            given=f"{node['_target_']}: {cause}",
            allowed="arguments that its constructor takes",
            fix=f"check the values of {path}.* with --cfg job",
        ) from error


def check_node(node: Mapping[str, Any], path: str) -> None:
    """Refuse a node, or one nested in it, whose target or arguments do not exist.

    Raises:
        ConfigError: names the nearest valid argument and the override to type.
    """
    for name, value in node.items():
        if isinstance(value, Mapping):
            check_node(value, f"{path}.{name}")
    if "_target_" in node:
        _check_arguments(node, path, locate(str(node["_target_"]), path))


def locate(target: str, path: str) -> Callable[..., Any]:
    """The class or function of a dotted name below one of the allowed packages.

    Raises:
        ConfigError: a forbidden package or a name that does not exist.
    """
    fault, found = None, None
    if target.partition(".")[0] not in ROOTS:
        fault = "is outside the allowed packages"
    else:
        try:
            found = get_object(target)
        except (ImportError, ValueError, AttributeError) as error:
            fault = f"cannot be imported ({error})"
    if callable(found):
        constructor: Callable[..., Any] = found
        return constructor
    raise ConfigError(
        f"{path}._target_ {fault or 'cannot be called'}",
        given=target,
        allowed=f"a class or function below {', '.join(ROOTS)}",
        fix=f"correct {path}._target_, or install the package it needs",
    )


def _check_arguments(node: Mapping[str, Any], path: str, target: Callable[..., Any]) -> None:
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in node.keys() - SPECIAL - parameters.keys():
        nearest = get_close_matches(name, parameters, n=1, cutoff=0.4)
        raise ConfigError(
            f"{path} has no argument {name!r}",
            given=f"{path}.{name}={node[name]}",
            allowed=", ".join(parameters),
            fix=f"type {path}.{nearest[0]}=..." if nearest else f"remove {path}.{name}",
        )
    required = {name for name, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
    missing = sorted(required - node.keys())
    if missing and not node.get("_partial_"):
        raise ConfigError(
            f"{path} lacks an argument",
            given=", ".join(sorted(node.keys() - SPECIAL)) or "nothing",
            allowed=f"{', '.join(missing)} must be given",
            fix=f"type +{path}.{missing[0]}=...",
        )


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
