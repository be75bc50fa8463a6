"""What a data set must fulfil as a whole: legal numbers, distinct names, equal channels, a fitting network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from seglab.data.store import Record
from seglab.errors import ConfigError, DataError
from seglab.spec import Case, DataSpec


def check_numbers(
    *, batch_size: int | None, samples_per_epoch: int | None, foreground_fraction: float, num_workers: int | None
) -> None:
    """Refuse sizes and shares that mean nothing, before any file is read.

    Raises:
        ConfigError: names the argument.
    """
    rules = (
        ("batch_size", batch_size, batch_size is None or batch_size >= 1, "null, 1 or more"),
        (
            "samples_per_epoch",
            samples_per_epoch,
            samples_per_epoch is None or samples_per_epoch >= 1,
            "null, 1 or more",
        ),
        ("foreground_fraction", foreground_fraction, 0 <= foreground_fraction <= 1, "0 to 1"),
        ("num_workers", num_workers, num_workers is None or num_workers >= 0, "null, 0 or more"),
    )
    for name, value, is_legal, allowed in rules:
        if not is_legal:
            raise ConfigError(
                f"data.{name} is out of range",
                given=f"data.{name}={value}",
                allowed=allowed,
                fix=f"leave data.{name} out for the default",
            )


def check_unique(cases: Sequence[Case]) -> None:
    """Refuse two cases of one id: each has a folder of its own.

    Raises:
        DataError: names the ids and the files.
    """
    counts = Counter(case.id for case in cases)
    twice = [case for case in cases if counts[case.id] > 1]
    if twice:
        raise DataError(
            "two cases get the same name",
            given=", ".join(f"{case.id}: {case.image_file}" for case in twice[:4]),
            allowed="names that differ in letters, digits, dot, dash or underscore",
            fix="rename one of the files or folders",
        )


def check_undeclared(declared: Mapping[str, Sequence[str]] | None) -> None:
    """Refuse to cut scenes that name their splits themselves.

    Raises:
        ConfigError: says what to leave out.
    """
    if declared is not None:
        raise ConfigError(
            "scenes with splits of their own cannot be cut into blocks",
            given="data.block_px beside a split of each case",
            allowed="one of both",
            fix="set data.block_px=null, or remove the column split",
        )


def odds_of(
    class_odds: Mapping[str, float] | None, class_names: Sequence[str], *, has_background: bool
) -> tuple[float, ...]:
    """How often each class is aimed at: as named, else once; a background that is not named never.

    Raises:
        ConfigError: an unknown class or a negative number.
    """
    given = class_odds or {}
    wrong = [f"{name}: {odds}" for name, odds in given.items() if name not in class_names or not odds >= 0]
    if wrong:
        raise ConfigError(
            "data.class_odds names an unknown class or a negative number",
            given=", ".join(wrong),
            allowed=f"0 and more for any of {', '.join(class_names)}",
            fix=f"set data.class_odds='{{{class_names[-1]}: 2}}', or null for all alike",
        )
    return tuple(
        float(given.get(name, 0 if label == 0 and has_background else 1)) for label, name in enumerate(class_names)
    )


def check_fits(spec: DataSpec, class_names: tuple[str, ...], example: Record) -> None:
    """Refuse data that a trained network cannot be scored on.

    Raises:
        DataError: other channels or other classes than the network's.
    """
    n_channels = spec.in_channels // spec.n_slices
    if (example.shape[0], class_names) != (n_channels, spec.class_names):
        raise DataError(
            "this data does not fit the network",
            given=f"{example.shape[0]} channels in {example.image_file}; classes {', '.join(class_names)}",
            allowed=f"{n_channels} channels; classes {', '.join(spec.class_names)}",
            fix="evaluate on data of the kind the network was trained on",
        )


def check_channels(records: Sequence[Record]) -> None:
    """Refuse cases of different channel counts.

    Raises:
        DataError: names one file of each count.
    """
    check_same_channels({record.shape[0]: record.image_file for record in records})


def check_same_channels(examples: Mapping[int, Path | str]) -> None:
    """Refuse different channel counts.

    Args:
        examples: a file of each count that was found.

    Raises:
        DataError: names them.
    """
    if len(examples) > 1:
        raise DataError(
            "the images have different numbers of channels",
            given="; ".join(f"{n}: {file}" for n, file in sorted(examples.items())),
            allowed="the same bands in every image",
            fix="take the odd ones out, or write the missing bands",
        )
