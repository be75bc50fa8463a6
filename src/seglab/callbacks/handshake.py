"""Handshake: processes of a run that do not agree on what they train stop before the first step."""

from collections.abc import Mapping, Sequence

import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer

from seglab.errors import ConfigError


class Handshake(Callback):
    """Compare the processes of a run at each set-up: their number, and what each of them says of itself.

    A sweep inside one process, ranks started by hand or a code base that is older on one machine all end in ranks that
    average the gradients of different trainings, without a word and with exit code 0.

    Args:
        facts: what must be equal on all processes, by name: hashes of configuration, code and data.
    """

    def __init__(self, facts: Mapping[str, str]) -> None:
        self.facts = dict(facts)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare, on all processes, once the process group exists.

        Raises:
            ConfigError: on all of them alike, with what differs.
        """
        n_ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if n_ranks != trainer.world_size:
            raise ConfigError(
                "the processes are not those that the trainer counts on",
                given=f"a process group of {n_ranks}, a trainer of {trainer.world_size}",
                allowed="one process group of exactly trainer.devices x trainer.num_nodes processes",
                fix="start each run in a process of its own; in a sweep with hydra/launcher=process",
            )
        if n_ranks > 1:
            everybody: list[dict[str, str]] = [{} for _ in range(n_ranks)]
            dist.all_gather_object(everybody, self.facts)
            check_agreement(everybody)


def check_agreement(everybody: Sequence[Mapping[str, str]]) -> None:
    """Refuse facts that are not the same for all ranks.

    Args:
        everybody: the facts of each rank, in the order of ranks.

    Raises:
        ConfigError: names each fact that differs, with its values by rank.
    """
    named = dict.fromkeys(name for facts in everybody for name in facts)
    values = {name: [facts.get(name, "missing") for facts in everybody] for name in named}
    differing = {name: found for name, found in values.items() if len(set(found)) > 1}
    if differing:
        raise ConfigError(
            "the processes of this run do not train the same",
            given="; ".join(f"{name}: {_by_rank(found)}" for name, found in differing.items()),
            allowed="equal configuration, code and data on all processes",
            fix="type the same command everywhere, on the same commit; in a sweep use hydra/launcher=process",
        )


def _by_rank(values: Sequence[str]) -> str:
    return ", ".join(f"{value} on rank {rank}" for rank, value in enumerate(values))
