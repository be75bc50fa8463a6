"""Cases that show the same: found by their signs, proven by their pixels.

Two images that merely look alike share most signs too, so no pair is told before its fine structure agrees. Volumes are
compared slice by slice, which also finds one that is a part of another.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.contents import code_version
from seglab.data.signs import LOW, N_BITS, planes
from seglab.data.store import Record, Store
from seglab.files import write_text

MAX_DIFFERENT = 8
"""Signs in which a copy may differ: copies differ in 0 to 4, unlike images in 14 and more."""

MIN_AGREEMENT = 0.85
"""Correlation of the fine structure of two copies."""

FINE_SIDE, BLUR_PX = 64, 3.0
N_PROBES = 8
"""Slices of a volume that are looked for in the others."""

N_PLACES = 16
"""Slices that look most like a probe, of which the fine structure tells the right one from its neighbours."""

BLOCK = 4096


@dataclass(frozen=True)
class Pair:
    """Two cases that show the same.

    Args:
        one: id of a case.
        other: id of another, or of a volume that holds all slices of `one`.
        same_group: both belong to one patient, photo or scene.
        mirrored: one is a mirrored or turned copy.
        same_mask: their masks are equal; None where sizes or orientations differ, and no pixel can be compared.
        slices: (slice of `one`, the same slice of `other`), from 0; one pair for photos and rasters.
    """

    one: str
    other: str
    same_group: bool
    mirrored: bool
    same_mask: bool | None
    slices: tuple[tuple[int, int], ...]


def duplicates(store: Store) -> tuple[Pair, ...]:
    """All pairs of cases that show the same; kept beside the cases of a store that is written, as they never change."""
    file, version = store.folder / "duplicates.json", code_version((sys.modules[__name__],))
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] == version:
            return tuple(_pair(entry) for entry in content["pairs"])
    pairs = tuple(_found(store))
    if store.is_written:
        write_text(file, json.dumps({"version": version, "pairs": [asdict(pair) for pair in pairs]}))
    return pairs


def _found(store: Store) -> Iterator[Pair]:
    hashes = {record.id: store.signs(record.id) for record in store.records}
    alike = _candidates(store.records, hashes)
    by_id = {record.id: record for record in store.records}
    for (one, other), places in sorted(alike.items()):
        pair = _compared(store, by_id[one], by_id[other], places, n_probes=len(_probes(hashes[one])))
        if pair is not None:
            yield pair


def _candidates(
    records: Sequence[Record], hashes: dict[str, NDArray[np.int8]]
) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Slices that look alike, for each pair of cases; the probes are those of the case with fewer slices.

    Returns:
        (slice of the first, slice of the second) for each pair of ids, of each first one up to `N_PLACES`.
    """
    probes = [(record, place) for record in records for place in _probes(hashes[record.id])]
    slices = [(record, place) for record in records for place in range(len(hashes[record.id]))]
    if not probes:
        return {}
    rank = {record.id: (len(hashes[record.id]), number) for number, record in enumerate(records)}
    wanted = np.stack([hashes[record.id][place] for record, place in probes])
    given = np.concatenate([hashes[record.id] for record in records])
    found: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for row, column, agreement in _hits(wanted, given):
        (one, probe), (other, place) = probes[row], slices[column]
        if rank[one.id] < rank[other.id]:
            found.setdefault((one.id, other.id, probe), []).append((-agreement, place))
    alike: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for (one_id, other_id, probe), places in sorted(found.items()):
        alike.setdefault((one_id, other_id), []).extend((probe, place) for _, place in sorted(places)[:N_PLACES])
    return alike


def _hits(wanted: NDArray[np.int8], given: NDArray[np.int8]) -> Iterator[tuple[int, int, int]]:
    """Rows of two tables of signs that are alike in one of eight orientations, and signs that agree less the others."""
    for top in range(0, len(wanted), BLOCK):
        variants = list(_variants(wanted[top : top + BLOCK].astype(np.float32)))
        for left in range(0, len(given), BLOCK):
            others = given[left : left + BLOCK].astype(np.float32).T
            agreement = variants[0] @ others
            for variant in variants[1:]:
                np.maximum(agreement, variant @ others, out=agreement)
            for row, column in np.argwhere(agreement >= N_BITS - 2 * MAX_DIFFERENT).tolist():
                yield top + row, left + column, int(agreement[row, column])


def _variants(hashes: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """The hashes of all mirrored and turned copies: mirroring changes the sign of the odd frequencies of an axis."""
    full = np.concatenate([np.zeros((len(hashes), 1), np.float32), hashes], axis=1).reshape(-1, LOW, LOW)
    odd = np.where(np.arange(LOW) % 2, -1.0, 1.0).astype(np.float32)
    for turned in (full, full.transpose(0, 2, 1)):
        for rows in (np.ones_like(odd), odd):
            for columns in (np.ones_like(odd), odd):
                yield (turned * rows[:, None] * columns).reshape(len(hashes), -1)[:, 1:]


def _compared(
    store: Store, one: Record, other: Record, places: Sequence[tuple[int, int]], *, n_probes: int
) -> Pair | None:
    """The pair, when the fine structure of at least half of the probes agrees; of several slices the likest is it."""
    images = store.image(one.id), store.image(other.id)
    best: dict[int, tuple[float, bool, int]] = {}
    for mine, its in places:
        fine = [_fine(next(planes(image[:, z : z + 1]))) for image, z in zip(images, (mine, its), strict=True)]
        agreement, is_turned = _fine_agreement(*fine)
        if agreement > best.get(mine, (MIN_AGREEMENT, False, 0))[0]:
            best[mine] = agreement, is_turned, its
    if len(best) * 2 < n_probes:
        return None
    mirrored = sum(is_turned for _, is_turned, _ in best.values()) * 2 > len(best)
    slices = tuple((mine, its) for mine, (_, _, its) in best.items())
    same_mask = None if mirrored else _same_mask(store, one, other, slices)
    return Pair(one.id, other.id, one.group == other.group, mirrored, same_mask, slices)


def _same_mask(store: Store, one: Record, other: Record, slices: Sequence[tuple[int, int]]) -> bool | None:
    if one.shape[2:] != other.shape[2:]:
        return None
    masks = store.mask(one.id), store.mask(other.id)
    return all(bool(np.array_equal(masks[0][mine], masks[1][its])) for mine, its in slices)


def _fine(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Structure of a plane that is finer than what the signs are made of."""
    small = cv2.resize(plane, (FINE_SIDE, FINE_SIDE), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), BLUR_PX)
    return (fine / max(float(np.linalg.norm(fine)), 1e-6)).astype(np.float32)


def _fine_agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, bool]:
    """Largest correlation over the eight orientations, and whether it is another than the first."""
    turned = [np.rot90(base, n) for base in (one, one.T) for n in range(4)]
    scores = [float((variant * other).sum()) for variant in turned]
    return max(scores), max(scores) > scores[0] + 1e-3


def _probes(hashes: NDArray[np.int8]) -> list[int]:
    """Evenly spaced slices with content."""
    with_content = np.flatnonzero(hashes.any(axis=1))
    picked = np.linspace(0, len(with_content) - 1, min(N_PROBES, len(with_content))).astype(int)
    return with_content[picked].tolist()  # type: ignore[no-any-return]


def _pair(entry: dict[str, Any]) -> Pair:
    slices: list[list[int]] = entry.pop("slices")
    return Pair(**entry, slices=tuple((mine, its) for mine, its in slices))
