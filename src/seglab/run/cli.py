"""The way from a shell to a job: resolvers, one call, and errors that say what to type. Imports hydra and yaml only."""

import gc
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from seglab.errors import ConfigError, SeglabError, relayed
from seglab.run.catalogue import CONF, config_dirs, help_lines, names
from seglab.run.ids import run_dir, run_id

_FIELD = re.compile(r"(?<!\$)\{\w+\}")
_DICTIONARY = re.compile(r"\{\s*\w+\s*:")

OPTIONAL = ("augment", "debug", "experiment", "logger", "sweep")
"""Groups that a run can do without."""

N_PLACES = 3
"""In how many places a key may stand for all of them to be told to who looks for it elsewhere."""


class Refused(SystemExit):
    """The end of a job after an error that the user can mend; its message has been shown."""


@contextmanager
def user_errors() -> Iterator[None]:
    """End with exit code 1 and the message alone, no traceback, when the user can mend the error.

    In a sweep whose jobs share this process (hydra/launcher=basic) it goes on to Hydra, so that the others still run.
    """
    try:
        yield
    except (SeglabError, MissingMandatoryValue, RuntimeError) as error:
        shown = _shown(error)
        if shown is None or (HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN):
            raise
        sys.stderr.write(f"\nError: {shown}\n")
        raise Refused(1) from None


@contextmanager
def importing() -> Iterator[None]:
    """Load modules without looking for garbage: what they leave in memory stays until the end, and none of it is.

    It saves a quarter of the time that a job takes to start, and what a collection during the job would spend on it.
    """
    if gc.get_freeze_count():  # a further job of the same process: all is loaded, and what the last one left is garbage
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _shown(error: Exception) -> str | None:
    """What the user is told of an error; None of one that the user cannot mend."""
    if isinstance(error, MissingMandatoryValue):
        return str(_missing(str(error.full_key)))
    return relayed(error) if isinstance(error, RuntimeError) else str(error)


def _missing(key: str) -> ConfigError:
    return ConfigError(
        f"{key} must be given", given=f"no {key}=...", allowed="see --help for examples", fix=f"type {key}=<value>"
    )


def _no_yaml(error: yaml.YAMLError) -> ConfigError:
    return ConfigError(
        "a configuration file is no YAML",
        given=" ".join(str(error).split()),
        allowed="name: value, one to a line",
        fix="correct that line of the file",
    )


def _run_dir(runs_dir: str, resume: str | None) -> str:
    with user_errors():
        return run_dir(runs_dir, resume)


def _choices(group: str) -> str:
    """The choices of a group where they are shown; Hydra resolves the text of the help before every job, too."""
    is_asked = any(text == "-h" or text.startswith("--h") for text in sys.argv[1:])
    return help_lines(group, config_dirs(sys.argv[1:])) if is_asked else ""


OmegaConf.register_new_resolver("run_id", run_id, replace=True)
OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
OmegaConf.register_new_resolver("choices", _choices, replace=True)


def launch(main: Callable[[], None], config_name: str) -> None:
    """Run a hydra entry point; after a refused override, say which names exist.

    Args:
        main: the function decorated by `hydra.main`.
        config_name: name of its primary config.
    """
    sys.argv[1:] = quote_patterns(sys.argv[1:])
    with user_errors():
        refuse_empty_groups(sys.argv[1:])
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.__context__, yaml.YAMLError):
            sys.stderr.write(f"\nError: {_no_yaml(stop.__context__)}\n")
        elif stop.code == 1 and not isinstance(stop, Refused):
            explain(sys.argv[1:], config_name)
        raise


def quote_patterns(arguments: Sequence[str]) -> list[str]:
    """Put values with a field in braces, such as masks/{case}.png, into the quotes that Hydra asks for.

    Hydra's own braces enclose a dictionary, with colons, or follow a dollar; a name alone in them means nothing to it.
    A dictionary of patterns is left as it is: its values need quotes of their own.
    """
    quoted = []
    for text in arguments:
        key, sign, value = text.partition("=")
        is_written = value.startswith(("'", '"')) or _DICTIONARY.match(value)
        is_pattern = sign and not is_written and _FIELD.search(value)
        quoted.append(f"{key}='{value}'" if is_pattern and "'" not in value else text)
    return quoted


def refuse_empty_groups(arguments: Sequence[str]) -> None:
    """Refuse null for a group of the configuration, and nothing at all for one that a run needs.

    Raises:
        ConfigError: names what leaves a group out.
    """
    for text in arguments:
        place, _, value = text.partition("=")
        group = place.partition("@")[0]
        is_empty = value == "null" or (value == "[]" and group not in OPTIONAL)
        if is_empty and (CONF / group).is_dir():
            raise ConfigError(
                f"{place} is a group of the configuration, which cannot be {value}",
                given=text,
                allowed=", ".join([*names(group), *(["[] for none"] if group in OPTIONAL else [])]),
                fix=f"type {place}=[]" if group in OPTIONAL else f"leave {place} out, or choose one of the names above",
            )


def explain(arguments: list[str], config_name: str) -> None:
    """Write to stderr what is wrong with the overrides, if anything is."""
    texts = [text for text in arguments if "=" in text and not text.startswith("-")]
    try:
        folders = config_dirs(arguments)
        overrides = OverridesParser.create().parse_overrides(texts)
        for override in overrides:
            check_override(override, overrides, config_name, folders)
        refuse_bare_words(arguments, config_name)
    except ConfigError as error:
        sys.stderr.write(f"\nError: {error}\n")
    except HydraException:
        return  # a syntax error: hydra's own message names the place


def refuse_bare_words(arguments: Sequence[str], config_name: str) -> None:
    """Refuse a word that names no key, such as `list` for `what=list`; what follows an option is the option's.

    Raises:
        ConfigError: says how a key is given.
    """
    for before, word in pairwise(["", *arguments]):
        if not ("=" in word or word.startswith(("-", "~")) or before.startswith("-")):
            key = (
                "what" if config_name == "prepare" else next((g for g in ("data", "model") if word in names(g)), "key")
            )
            raise ConfigError(
                "a word stands alone",
                given=word,
                allowed="key=value, and options such as --help",
                fix=f"type {key}={word}",
            )


def check_override(
    override: Override, overrides: list[Override], config_name: str, folders: Sequence[Path] = (CONF,)
) -> None:
    """Refuse an override whose group, choice or key does not exist.

    Args:
        override: to check.
        overrides: all that were typed; they choose the files whose keys are known.
        config_name: name of the primary config.
        folders: that configurations are read from, ours first.

    Raises:
        ConfigError: names the nearest valid name.
    """
    key, value, text = override.key_or_group, override.value(), override.get_value_string()
    choices = value.list if isinstance(value, ChoiceSweep) else _listed(value)
    groups = [path.name for folder in folders for path in folder.iterdir() if path.is_dir()]
    places = _places(config_name)
    if override.package is not None and not override.is_add():
        allowed = [f"{group}@{place}" for place, group in places.items()]
        _check_name(_typed(override), allowed, "", f"there is no group {_typed(override)!r}", f"={text}")
    if key in groups:
        for choice in choices:
            _check_name(str(choice), names(key, folders), f"{_typed(override)}=", f"there is no {key} named {choice!r}")
    elif not override.is_add() and not key.startswith("hydra"):
        chosen = [
            str(o.input_line)
            for o in overrides
            if o.key_or_group in groups
            and set(_listed(o.value())) <= set(names(o.key_or_group, folders))
            and (o.package is None or places.get(o.package) == o.key_or_group)
        ]
        _check_key(key, text, _compose(config_name, chosen, folders), groups, places)


def _listed(value: Any) -> list[Any]:
    """The choices of a group: `callbacks=[default,ema]` has two."""
    return value if isinstance(value, list) else [value]


def _typed(override: Override) -> str:
    return override.key_or_group + (f"@{override.package}" if override.package is not None else "")


def _places(config_name: str) -> dict[str, str]:
    """Keys that a group is put at other than its own, by the primary config: {"first.model": "model"}."""
    defaults = yaml.safe_load((CONF / f"{config_name}.yaml").read_text(encoding="utf-8"))["defaults"]
    keys = [str(key).split("@") for entry in defaults if isinstance(entry, dict) for key in entry if "@" in key]
    return {place: group for group, place in keys}


def _check_key(key: str, value: str, config: DictConfig, groups: list[str], places: dict[str, str]) -> None:
    node: Any = config
    path, parts = "", key.split(".")
    for place, part in enumerate(parts, start=1):
        allowed = [str(name) for name in node] if isinstance(node, DictConfig) else []
        if part not in allowed:
            if f"{path}{part}" in places:
                raise _not_chosen(f"{path}{part}", key, value, places)
            extra = groups if not path else []
            suffix = "".join(f".{rest}" for rest in parts[place:]) + f"={value}"
            elsewhere = list(_keys_named(parts[-1], config))
            is_telling = 0 < len(elsewhere) <= N_PLACES
            remedy = "type " + " or ".join(f"{found}={value}" for found in elsewhere) if is_telling else None
            _check_name(part, sorted({*allowed, *extra} - {"hydra"}), path, f"there is no key {key!r}", suffix, remedy)
            return
        node, path = node[part] if not OmegaConf.is_missing(node, part) else None, f"{path}{part}."


def _keys_named(name: str, node: Any, path: str = "") -> Iterator[str]:
    """Keys of a configuration that end in this name, wherever they stand."""
    for part in map(str, node) if isinstance(node, DictConfig) else ():
        if part == name:
            yield f"{path}{part}"
        if not OmegaConf.is_missing(node, part):
            yield from _keys_named(name, node[part], f"{path}{part}.")


def _not_chosen(place: str, key: str, value: str, places: dict[str, str]) -> ConfigError:
    group = f"{places[place]}@{place}"
    return ConfigError(
        f"{place} has not been chosen",
        given=f"{key}={value}",
        allowed=f"{group}=<name>, with the names of {places[place]}=..., and keys of what it chooses",
        fix=f"type {group}={value}" if key == place else f"add {group}=<name>",
    )


def _check_name(
    name: str, allowed: list[str], prefix: str, what: str, suffix: str = "", remedy: str | None = None
) -> None:
    """Refuse a name that is not allowed; the remedy is the nearest one that is, unless a better one is known."""
    if name in allowed or name == "None":
        return
    nearest = get_close_matches(name, allowed, n=1, cutoff=0.4)
    nearby = f"type {prefix}{nearest[0]}{suffix}" if nearest else "choose one of the names above"
    raise ConfigError(
        what,
        given=f"{prefix}{name}{suffix}",
        allowed=", ".join(allowed) or "nothing below this key",
        fix=remedy or nearby,
    )


def _compose(config_name: str, overrides: list[str], folders: Sequence[Path]) -> DictConfig:
    searched = ",".join("'file://{}'".format(str(folder).replace("'", r"\'")) for folder in folders[1:])
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config_name, overrides=[*overrides, f"hydra.searchpath=[{searched}]"])
