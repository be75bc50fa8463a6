"""What a study searches: values typed in Hydra's syntax for sweeps, as distributions of Optuna."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from seglab.errors import ConfigError

EXAMPLE = "'optimizer.lr=tag(log,interval(1e-5,1e-2))'"
SPELLINGS = "choice(a,b), range(start,stop[,step]), interval(low,high), each of numbers also as tag(log,...)"
INTEGER = re.compile(r"\s*(\w+\s*=\s*)?[+-]?\d+\s*")


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a study.

    Args:
        distributions: by key, as it is typed before the `=`; choices are the texts that are typed after it.
        fixed: overrides that all trials share.
    """

    distributions: dict[str, BaseDistribution]
    fixed: list[str]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """What to type for a trial with these values."""
        return [*self.fixed, *(f"{key}={self.text(key, params[key])}" for key in self.distributions)]

    def text(self, key: str, value: Any) -> str:
        """A value as it is typed; a float of a range without the noise of its binary digits."""
        distribution = self.distributions[key]
        if isinstance(distribution, FloatDistribution) and distribution.step is not None:
            return f"{value:.12g}"
        return str(value)

    def first(self) -> dict[str, Any]:
        """The first choice or the lowest value of each parameter."""
        return {key: _values(one)[0] for key, one in self.distributions.items()}

    def choices(self) -> dict[str, list[str]]:
        """The choices of each parameter that has some."""
        found = self.distributions.items()
        return {key: _values(one) for key, one in found if isinstance(one, CategoricalDistribution)}

    def grid(self) -> list[dict[str, Any]]:
        """All combinations, the last parameter varying fastest.

        Raises:
            ConfigError: an interval has no end of values.
        """
        endless = [key for key, one in self.distributions.items() if not _is_finite(one)]
        if endless:
            raise ConfigError(
                "a grid needs values that can be counted",
                given=f"an interval for {', '.join(endless)} with hydra.sweeper.sampler=grid",
                allowed="choice(...), range(...) or a,b,c; an interval of integers, as int(interval(1,4))",
                fix=f"type {endless[0]}=choice(...), or hydra.sweeper.sampler=tpe",
            )
        values = [_values(one) for one in self.distributions.values()]
        return [dict(zip(self.distributions, point, strict=True)) for point in product(*values)]

    def numbers(self) -> list[str]:
        """The parameters that are numbers with an order."""
        return [key for key, one in self.distributions.items() if not isinstance(one, CategoricalDistribution)]


def parse_space(
    params: Mapping[str, Any], arguments: Sequence[str], config: DictConfig, loader: ConfigLoader | None = None
) -> SearchSpace:
    """The search space of a command line.

    Args:
        params: of the sweeper's yaml, in Hydra's syntax.
        arguments: as typed; they win over `params`.
        config: composed without what is searched; an interval for a float in it is of floats.
        loader: finds the names that glob(...) stands for.

    Raises:
        ConfigError: there is nothing to search, or a parameter has no values.
        HydraException: what was typed is no override.
    """
    parser = OverridesParser.create(config_loader=loader)
    given = parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *arguments])
    overrides = {(one.key_or_group, one.package): one for one in given}.values()  # the last one of a key counts
    searched = [one for one in overrides if one.is_sweep_override()]
    if not searched:
        raise ConfigError(
            "there is nothing to search",
            given=f"{len(given)} fixed value(s) and no range of values",
            allowed=SPELLINGS,
            fix=f"add {EXAMPLE}, or keys in hydra.sweeper.params",
        )
    fixed = [str(one.input_line) for one in overrides if not one.is_sweep_override()]
    return SearchSpace({one.get_key_element(): _distribution(one, config) for one in searched}, fixed)


def _distribution(override: Override, config: DictConfig) -> BaseDistribution:
    value = override.value()
    tags = set(getattr(value, "tags", ()))
    is_log = "log" in tags
    if tags - {"log"} or (is_log and override.is_choice_sweep()):
        raise _refused(override, "this tag means nothing here", "tag(log,...) of an interval or of a range of integers")
    if isinstance(value, IntervalSweep):
        return _interval(override, value, OmegaConf.select(config, override.key_or_group), is_log=is_log)
    if isinstance(value, RangeSweep):
        return _range(override, value, is_log=is_log)
    choices = list(dict.fromkeys(_ordered(override, value).sweep_string_iterator()))
    if not choices:
        raise _refused(override, "there is no value to choose", "at least one choice")
    return CategoricalDistribution(choices)


def _interval(override: Override, value: IntervalSweep, known: Any, *, is_log: bool) -> BaseDistribution:
    low, high = value.start, value.end
    if low is None or high is None or not low < high or not math.isfinite(high - low) or (is_log and low <= 0):
        raise _refused(override, "this is no interval", f"low < high{', above 0 for tag(log,...)' if is_log else ''}")
    if _is_of_integers(override, value, known):
        return IntDistribution(int(low), int(high), log=is_log)
    return FloatDistribution(float(low), float(high), log=is_log)


def _is_of_integers(override: Override, value: IntervalSweep, known: Any) -> bool:
    """Whether an interval was typed with integers, for a value that is no float in the configuration."""
    ends: list[Any] = [value.start, value.end]
    if all(isinstance(end, int) for end in ends):  # int(interval(...))
        return True
    text = override.get_value_string()
    inside = re.search(r"interval\(([^()]*)\)", text)
    is_typed_so = inside is not None and all(INTEGER.fullmatch(part) for part in inside[1].split(","))
    return is_typed_so and "float(" not in text and not isinstance(known, float)


def _range(override: Override, value: RangeSweep, *, is_log: bool) -> BaseDistribution:
    values = sorted(float(f"{number:.12g}") for number in value.range()) if value.step else []
    if not values or (is_log and (values[0] <= 0 or abs(value.step) != 1)):
        allowed = "integers above 0 with step 1" if is_log else "a start before its stop, and a step that leads there"
        raise _refused(override, "this is no range", allowed)
    if isinstance(value.range(), range):
        return IntDistribution(int(values[0]), int(values[-1]), log=is_log, step=abs(int(value.step)))
    return FloatDistribution(values[0], values[-1], step=float(f"{abs(value.step):.12g}"))


def _ordered(override: Override, value: Any) -> Override:
    """Leave the choices of shuffle(...) in their order: a study has the same ones each time it is taken up."""
    if isinstance(value, ChoiceSweep):
        value.shuffle = False
    return override


def _is_finite(distribution: BaseDistribution) -> bool:
    return not isinstance(distribution, FloatDistribution) or distribution.step is not None


def _values(distribution: BaseDistribution) -> list[Any]:
    """All values in order; the two ends of an interval of floats."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return list(choices)
        case IntDistribution(low=low, high=high, step=step):
            return list(range(low, high + 1, step))
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [float(f"{low + n * step:.12g}") for n in range(round((high - low) / step) + 1)]
        case FloatDistribution(low=low, high=high):
            return [low, high]
    return []


def _refused(override: Override, what: str, allowed: str) -> ConfigError:
    key = override.get_key_element()
    return ConfigError(what, given=str(override.input_line), allowed=allowed, fix=f"correct {key}=...: {SPELLINGS}")
