"""Fingerprint of a data set: sizes, spacings, classes and intensities of its cases, measured once."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.arrays import read_box
from seglab.data.contents import code_version
from seglab.data.store import Record, Store
from seglab.files import write_text

PERCENTILES = (0.5, 50.0, 99.5)
Fingerprint = dict[str, Any]


def fingerprint(store: Store, class_names: Sequence[str], *, has_background: bool) -> Fingerprint:
    """Describe the cases of a store; what was measured before is read from fingerprint.json.

    Args:
        store: with one case or more.
        class_names: index is the class.
        has_background: class 0 is background and stays out of the intensities.

    Returns:
        Plain data: n_cases, channels, "shape" and "spacing" as min, median and max along (D, H, W), "classes" with
        each class's share of the labelled pixels and of the cases, and "foreground" with percentiles, mean and standard
        deviation of each channel's stored values at the kept pixels of foreground classes.
    """
    file, version = store.folder / "fingerprint.json", code_version((sys.modules[__name__],))
    if file.is_file():
        known: Fingerprint = json.loads(file.read_text(encoding="utf-8"))
        if known.pop("version") == version:
            return known
    values = np.concatenate([_values(store, record, first=int(has_background)) for record in store.records], axis=1)
    found: Fingerprint = {
        "n_cases": len(store.records),
        "channels": store.records[0].shape[0],
        "shape": _range([record.shape[1:] for record in store.records]),
        "spacing": _range([record.spacing for record in store.records]),
        "classes": dict(zip(class_names, _classes(store.records), strict=True)),
        "foreground": [_intensity(channel) for channel in values],
    }
    write_text(file, json.dumps({"version": version, **found}, indent=1))
    return found


def told(found: Fingerprint) -> str:
    """A fingerprint in one line."""
    shape, spacing = ("x".join(f"{n:.4g}" for n in found[name]["median"]) for name in ("shape", "spacing"))
    classes = ", ".join(f"{name} {each['pixels']:.2%}" for name, each in found["classes"].items())
    spans = [(each["percentiles"]["0.5"], each["percentiles"]["99.5"]) for each in found["foreground"] if each]
    values = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in spans) or "none"
    return (
        f"{found['n_cases']} cases, median {shape} at {spacing} (depth x height x width); pixels: {classes}; "
        f"foreground values: {values}"
    )


def _classes(records: Sequence[Record]) -> Iterator[dict[str, float]]:
    pixels = np.array([record.class_pixels for record in records])
    totals = pixels.sum(axis=0)
    for label, total in enumerate(totals):
        yield {"pixels": float(total / max(totals.sum(), 1)), "cases": float((pixels[:, label] > 0).mean())}


def _range(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    return {
        name: how(np.array(rows), axis=0).tolist()
        for name, how in (("min", np.min), ("median", np.median), ("max", np.max))
    }


def _values(store: Store, record: Record, *, first: int) -> NDArray[np.float64]:
    """Stored values at the kept pixels of the classes from `first` on, (C, n)."""
    rows = store.foreground(record.id)
    places = np.array(rows[rows[:, 0] >= first, 1:])
    image = store.image(record.id)
    n_channels, _, height, width = image.shape
    found = [np.empty((n_channels, 0))]
    for depth in np.unique(places[:, 0]).tolist():
        rows, columns = places[places[:, 0] == depth, 1:].T
        plane = read_box(image, (depth, 0, 0), (depth + 1, height, width))[:, 0]
        found.append(plane[:, rows, columns].astype(np.float64))
    return np.concatenate(found, axis=1)


def _intensity(values: NDArray[np.float64]) -> dict[str, Any] | None:
    if not len(values):
        return None
    percentiles = dict(zip(map(str, PERCENTILES), np.percentile(values, PERCENTILES).tolist(), strict=True))
    return {"percentiles": percentiles, "mean": float(values.mean()), "std": float(values.std())}
