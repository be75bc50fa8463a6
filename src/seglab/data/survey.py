"""What is odd with a data set as a whole, told by its prepared cases: no file is read again."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from seglab.data.duplicates import Pair, duplicates
from seglab.data.findings import SEVERITIES, Finding
from seglab.data.headers import height_mm
from seglab.data.integrity import shorten
from seglab.data.source import DataSource
from seglab.data.store import Record, Store

RARE = 1e-4
"""Share of pixels below which a class is told to be rare."""

LARGE_GROUP = 0.05
"""Share of cases from which a group is told that also is five times the usual one."""

MAX_SCALE = 20.0
"""How many times brighter than usual a raster may be."""

MAX_STEP = 3.0
"""How many times the usual distance of pixels may be."""

MAX_APART_MM = 5.0
MIN_OVERLAP = 0.01
"""Share of the smaller of two rasters that may lie on the other."""

BETTER, ENOUGH = 2.0, 0.05
"""A turned mask is told when it explains twice as much as the mask, and this share of the image."""

ODD_SHARE = 0.25
Records = Sequence[Record]
Placed = tuple[Record, tuple[float, float, float, float]]
"""A raster and its west, south, east and north end."""


def survey(store: Store, source: DataSource) -> list[Finding]:
    """Everything that was found: with each case and over all of them, the worst first.

    Args:
        store: of the data set.
        source: tells what classes mean.
    """
    rules: tuple[Callable[[Records], Iterator[Finding]], ...] = (
        _orientations,
        _steps,
        _storage,
        _brightness,
        _places,
        _overlaps,
        _groups,
        _patches,
        _fits,
    )
    records = store.records
    found = [finding for record in records for finding in record.findings]
    found += [finding for rule in rules for finding in rule(records)]
    found += [*_classes(records, source), *_copies(records, duplicates(store))]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _classes(records: Records, source: DataSource) -> Iterator[Finding]:
    counts = np.sum([record.class_pixels for record in records], axis=0)
    for name, count in zip(source.class_names, counts.tolist(), strict=True):
        if count == 0:
            fix = "correct the masks or the names of the classes; it can neither be learnt nor scored"
            yield Finding("warning", "a class never occurs", name, fix)
        elif count < RARE * counts.sum():
            fix = "a larger data.foreground_fraction, or a loss that weighs classes"
            yield Finding("note", "a class is rare", f"{name}: {count / counts.sum():.3%} of the pixels", fix)


def _orientations(records: Records) -> Iterator[Finding]:
    counts = Counter(record.header.orientation for record in records if record.header.orientation)
    if len(counts) > 1:
        fix = "nothing: all are read in one order, and predictions go back to the file's own"
        yield Finding("note", "volumes are stored in different axis orders", _shares(counts), fix)


def _steps(records: Records) -> Iterator[Finding]:
    usual = [median(record.spacing[axis] for record in records) for axis in range(3)]
    for record in records:
        ratio = max(max(own / step, step / own) for own, step in zip(record.spacing, usual, strict=True))
        if ratio > MAX_STEP:
            value = f"{_times(record.spacing)}, usually {_times(usual)} (depth x height x width)"
            fix = "see whether its header is right; a network sees such an image at another scale"
            yield Finding("warning", "has pixels of another size", value, fix, record.image_file)


def _storage(records: Records) -> Iterator[Finding]:
    counts = Counter(record.header.stored for record in records if record.header.stored)
    if len(counts) > 1:
        is_number = any(name.startswith(("uint", "int", "float")) for name in counts)
        fix = "see whether all are on one scale" if is_number else "nothing: all become RGB from 0 to 255"
        yield Finding("warning" if is_number else "note", "images are stored differently", _shares(counts), fix)


def _brightness(records: Records) -> Iterator[Finding]:
    rasters = [record for record in records if record.header.stored.startswith(("uint", "int", "float"))]
    means = [max(map(abs, record.moments.total)) / max(record.moments.n, 1) for record in rasters]
    usual = median(means) if means else 0.0
    for record, mean in zip(rasters, means, strict=True):
        if mean > 0 and usual > 0 and max(mean / usual, usual / mean) > MAX_SCALE:
            value, fix = f"mean {mean:g}, usually {usual:g}", "see whether its scale is that of the others"
            yield Finding("warning", "has values of another scale", value, fix, record.image_file)


def _places(records: Records) -> Iterator[Finding]:
    counts = Counter(record.header.crs for record in records if record.header.crs)
    if len(counts) > 1:
        yield Finding("note", "rasters have different CRS", _shares(counts), "nothing: each is used on its own grid")


def _overlaps(records: Records) -> Iterator[Finding]:
    placed = [(record, _bounds(record)) for record in records if record.header.crs]
    for (one, a), (other, b) in _beside(placed):
        width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
        if one.group == other.group or one.header.crs != other.header.crs or min(width, height) <= 0:
            continue
        share = width * height / min((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
        if share > MIN_OVERLAP:
            value = f"{share:.0%} of the smaller lies on {Path(other.image_file).name}"
            fix = "put both into one group, or the test is seen in training"
            yield Finding("warning", "overlaps a raster of another group on the ground", value, fix, one.image_file)


def _beside(placed: Sequence[Placed]) -> Iterator[tuple[Placed, Placed]]:
    """Pairs whose ranges from west to east meet, in the order of the records; others need not be compared."""
    order = sorted(range(len(placed)), key=lambda number: placed[number][1][0])
    pairs = []
    for rank, one in enumerate(order):
        for other in order[rank + 1 :]:
            if placed[other][1][0] >= placed[one][1][2]:
                break
            pairs.append((min(one, other), max(one, other)))
    for one, other in sorted(pairs):
        yield placed[one], placed[other]


def _bounds(record: Record) -> tuple[float, float, float, float]:
    (a, b, c), (d, e, f) = record.header.affine or ((1, 0, 0), (0, 1, 0))
    height, width = record.header.shape
    corners = [(a * x + b * y + c, d * x + e * y + f) for x in (0, width) for y in (0, height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _groups(records: Records) -> Iterator[Finding]:
    sizes = Counter(record.group for record in records)
    usual = median(sizes.values())
    large = {
        name: n
        for name, n in sizes.most_common(5)
        if n >= max(5 * usual, LARGE_GROUP * len(records)) and len(sizes) > 1
    }
    if large:
        value = f"{shorten(f'{name}: {n}' for name, n in large.items())} of {len(records)} cases in {len(sizes)} groups"
        fix = "nothing: a group stays in one split; scores are means over cases, to which it adds much"
        yield Finding("note", "some groups are far larger than the others", value, fix)


def _patches(records: Records) -> Iterator[Finding]:
    """Names like wall_3_1, wall_3_2, wall_7_1 where each counts as a group of its own."""
    if len({record.group for record in records}) < len(records):
        return
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        prefix = re.sub(r"[_-]\d+$", "", record.id)
        if prefix != record.id and any(map(str.isdigit, prefix)):
            stems[prefix].append(record.id)
    several = {prefix: len(names) for prefix, names in stems.items() if len(names) > 1}
    if len(several) > 1 and 2 * sum(several.values()) > len(records):
        most = sorted(several.items(), key=lambda item: -item[1])
        value = shorten(f"{prefix}: {n} cases" for prefix, n in most)
        fix = "if these are cut from one photo, patient or scene, say so by groups, or the test is seen in training"
        yield Finding("warning", "names look like patches of one image, but each is a group of its own", value, fix)


def _fits(records: Records) -> Iterator[Finding]:
    """Masks that were mirrored: most of them, or some where most fit as they are.

    Where the classes hardly explain most of the images, the one that they explain better mirrored is so by chance.
    """
    fits = [(record, record.fit) for record in records if record.fit is not None]
    odd = [(record, fit) for record, fit in fits if fit.best >= ENOUGH and fit.best >= BETTER * fit.own]
    n_right = sum(fit.own >= ENOUGH and fit.own >= fit.best for _, fit in fits)
    n_same = max(Counter(fit.turn for _, fit in odd).values(), default=0)
    are_some = len(odd) <= ODD_SHARE * n_right and 2 * n_right > len(fits)
    are_most = n_right <= ODD_SHARE * n_same and 2 * n_same > len(fits) and n_same > 2
    if are_some or are_most:
        for record, fit in odd:
            value = f"classes explain {fit.own:.1%} of the image as it is, {fit.best:.1%} {fit.turn}"
            fix = "look whether rows, columns or slices were reversed when the mask was written"
            yield Finding("warning", f"a mask fits its image better {fit.turn}", value, fix, record.mask_file)


def _copies(records: Records, pairs: Sequence[Pair]) -> Iterator[Finding]:
    by_id = {record.id: record for record in records}
    for pair in pairs:
        one, other = by_id[pair.one], by_id[pair.other]
        value = f"{Path(other.image_file).name} (group {other.group}){_part(pair, other)}"
        if not pair.same_group:
            turned = "a mirrored copy of" if pair.mirrored else "the same as"
            fix = "keep one of them or put both into one group, or the test is seen in training"
            yield Finding("warning", f"shows {turned} an image of another group", value, fix, one.image_file)
        if pair.same_mask is False:
            fix = "keep the right mask and take the other case out"
            yield Finding(
                "warning", "shows the same as another image, but their masks differ", value, fix, one.mask_file
            )
        apart = _apart_mm(pair, one, other)
        if apart is not None and apart > MAX_APART_MM:
            fix = "correct the origin of one of them before laying one over the other"
            far = f"{apart:.0f} mm from {value}"
            yield Finding("warning", "lies elsewhere than a volume with the same slices", far, fix, one.image_file)


def _part(pair: Pair, other: Record) -> str:
    if other.shape[1] == 1:
        return ""
    places = [place for _, place in pair.slices]
    return f", slices {min(places) + 1} to {max(places) + 1} of {other.shape[1]}"


def _apart_mm(pair: Pair, one: Record, other: Record) -> float | None:
    heights = [(height_mm(one.header, mine), height_mm(other.header, its)) for mine, its in pair.slices]
    known = [abs(a - b) for a, b in heights if a is not None and b is not None]
    return median(known) if known else None  # a probe may be taken for the neighbour of its slice


def _shares(counts: Counter[str]) -> str:
    return shorten(f"{name}: {n}" for name, n in counts.most_common())


def _times(lengths: Sequence[float]) -> str:
    return " x ".join(f"{length:.3g}" for length in lengths)
