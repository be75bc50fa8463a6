"""The loss of a run: named terms, each with a weight."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from seglab.errors import ConfigError


class CompositeLoss(nn.Module):
    """Weighted sum of named losses, which reports every term beside the sum.

    Args:
        terms: a loss on (logits, mask) by name; the names appear in the log.
        weights: the factor of each term, under the same names.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> {"loss": weighted sum, <name>: unweighted term}, scalars.

    Raises:
        ConfigError: no terms, a term called "loss", names that differ, or weights that are negative or all zero.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        _check_names(terms, weights)
        _check_weights(weights)
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = {name: float(weights[name]) for name in terms}

    def forward(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Every term and, under "loss", their weighted sum."""
        values: dict[str, Tensor] = {name: term(logits, mask) for name, term in self.terms.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return {"loss": total, **values}


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
