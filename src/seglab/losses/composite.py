"""The loss of a run: named terms, each with a weight."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.losses.inputs import full_precision


class CompositeLoss(nn.Module):
    """Weighted sum of named losses, which reports every term beside the sum.

    Args:
        terms: a loss on (logits, mask) by name; the names appear in the log. A loss with an attribute `map_name` is
            called with (logits, mask, distance), distance being the map of that name.
        weights: the factor of each term, under the same names.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64, maps by name (N, *spatial) float32 -> {"loss": weighted sum,
        <name>: unweighted term}, scalars.

    Raises:
        ConfigError: no terms, a term called "loss", names that differ, weights that are negative or all zero, or a map
            that is missing.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        _check_names(terms, weights)
        _check_weights(weights)
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = {name: float(weights[name]) for name in terms}

    @property
    def map_names(self) -> tuple[str, ...]:
        """The distance maps that the terms need, each once."""
        wanted = (getattr(term, "map_name", None) for term in self.terms.values())
        return tuple(dict.fromkeys(name for name in wanted if name is not None))

    def forward(self, logits: Tensor, mask: Tensor, maps: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Every term and, under "loss", their weighted sum."""
        maps = {} if maps is None else maps
        _check_maps(self.map_names, maps)
        logits = full_precision(logits, mask)  # losses of other packages would work in half precision
        values = {name: _value(term, logits, mask, maps) for name, term in self.terms.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return {"loss": total, **values}


def _value(term: nn.Module, logits: Tensor, mask: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
    name = getattr(term, "map_name", None)
    value: Tensor = term(logits, mask) if name is None else term(logits, mask, maps[name])
    return value.sum() if value.numel() == 0 else value  # SMP's Lovász is empty where every pixel is ignored


def _check_maps(wanted: Iterable[str], given: Iterable[str]) -> None:
    missing = [name for name in wanted if name not in given]
    if missing:
        raise ConfigError(
            "the loss needs a distance map that the batch lacks",
            given=f"maps {sorted(given)}",
            allowed=f"maps {sorted(wanted)}",
            fix=f"set map_names={tuple(wanted)!r} on the data before its loaders are made, and hand batch['maps'] on",
        )


def _check_names(terms: Iterable[str], weights: Iterable[str]) -> None:
    names, given = set(terms), set(weights)
    if not names or "loss" in names:
        raise ConfigError(
            "a composite loss needs terms with names of their own",
            given=f"terms {sorted(names)}",
            allowed='at least one term, none called "loss"',
            fix="choose loss=dice_ce, or name the terms in loss.terms",
        )
    if names != given:
        wrong = sorted(given - names) or sorted(names - given)
        nearest = get_close_matches(wrong[0], sorted(names), n=1, cutoff=0.0)[0]
        raise ConfigError(
            "the weights of the loss do not name its terms",
            given=f"weights {sorted(given)} for terms {sorted(names)}",
            allowed="one weight for each term, under the term's name",
            fix=f"set loss.weights.{nearest}=1.0 and drop weights without a term",
        )


def _check_weights(weights: Mapping[str, float]) -> None:
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ConfigError(
            "a loss cannot have these weights",
            given=", ".join(f"{name}={weight}" for name, weight in weights.items()),
            allowed="numbers from 0 up, at least one above 0",
            fix=f"set loss.weights.{next(iter(weights))}=1.0",
        )
