"""From a configuration node to an object: the only place where a `_target_` is called."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from seglab.errors import ConfigError, SeglabError

ROOTS = ("seglab", "torch", "torchmetrics", "lightning", "segmentation_models_pytorch", "monai")
OWN_PACKAGES = "SEGLAB_PACKAGES"  # variable of the shell: the user's own packages, mynets,others
FUNCTIONS = ("seglab.task.schedules",)
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
    if "_target_" not in node:
        raise ConfigError(
            f"{path} does not say what to build",
            given=", ".join(f"{path}.{name}" for name in node) or f"an empty {path}",
            allowed="a node with _target_, as in the files of conf/",
            fix=f"choose one of its files, {path.partition('.')[0]}=..., or remove {path}",
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
            given=f"{node['_target_']} with {_shown(node)}: {cause}{_place(cause)}",
            allowed="arguments that its constructor takes",
            fix=f"check the values of {path}.* with --cfg job",
        ) from error


def check_node(node: Mapping[str, Any], path: str) -> None:
    """Refuse a node, or one nested in it, whose target or arguments do not exist.

    Raises:
        ConfigError: names the nearest valid argument and the override to type.
    """
    for name, value in node.items():
        _check_value(value, f"{path}.{name}")
    if "_target_" in node:
        _check_arguments(node, path, locate(str(node["_target_"]), path))


def locate(target: str, path: str) -> Callable[..., Any]:
    """The class, or the function of `FUNCTIONS`, of a dotted name below one of the allowed packages.

    Raises:
        ConfigError: a forbidden package, a name that does not exist, or a name that leads out of its package.
    """
    root, roots = target.partition(".")[0], allowed_roots()
    fault, remedy = None, ""
    if root not in roots:
        fault, remedy = "is outside the allowed packages", f", or allow your own package with {OWN_PACKAGES}=<name>"
    try:
        found: Any = None if fault else get_object(target)
    except (ImportError, ValueError, AttributeError) as error:
        found, fault = None, f"cannot be imported ({error})"
        remedy = ", install the package it needs, or name the folder of your own package with PYTHONPATH=<folder>"
    home = str(getattr(found, "__module__", None))
    if not fault and home.partition(".")[0] != root:
        fault = f"leads to {home}, outside its package"
    elif not fault and not inspect.isclass(found) and home not in FUNCTIONS:
        fault = "is not a class"
    if fault is None:
        constructor: Callable[..., Any] = found
        return constructor
    raise ConfigError(
        f"{path}._target_ {fault}",
        given=target,
        allowed=f"a class below {', '.join(roots)}, or a function of {', '.join(FUNCTIONS)}",
        fix=f"correct {path}._target_{remedy}",
    )


def allowed_roots() -> tuple[str, ...]:
    """Packages whose classes may be built: `ROOTS`, and the user's own, which the variable SEGLAB_PACKAGES names.

    Only the shell can name them: a value that a configuration sets (`hydra.job.env_set`) counts for nothing. Modules of
    Python itself are nobody's own, so a checkpoint cannot talk its reader into allowing subprocess.
    """
    is_configured = HydraConfig.initialized() and OWN_PACKAGES in HydraConfig.get().job.env_set
    given = "" if is_configured else os.environ.get(OWN_PACKAGES, "")
    own = [name.strip() for name in given.split(",")]
    return (*ROOTS, *(name for name in own if name and name not in (*ROOTS, *sys.stdlib_module_names)))


def _check_value(value: Any, path: str) -> None:
    """Check what is nested at any depth; an interpolation would be resolved, perhaps to a target, after all checks."""
    if isinstance(value, Mapping):
        check_node(value, path)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_value(item, path)
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(
            f"{path} is not resolved",
            given=f"{path}={value}",
            allowed="plain values; interpolations are resolved when the configuration is composed",
            fix=f"set {path} to the value itself",
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
            given=_shown(node),
            allowed=f"{', '.join(missing)} must be given",
            fix=f"type +{path}.{missing[0]}=...",
        )


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _shown(node: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in node.items() if name not in SPECIAL and not isinstance(value, Mapping)}
    return ", ".join(f"{name}={value}" for name, value in plain.items()) or "nothing"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
