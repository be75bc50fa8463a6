"""What prepare has found out about a data set, as plain data: report.json, and what the page and the screen show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from seglab import __version__
from seglab.data.contents import key_of
from seglab.data.findings import SEVERITIES, FaultsError, Finding
from seglab.data.fingerprint import fingerprint
from seglab.data.integrity import shorten
from seglab.data.module import PHANTOM, SegmentationData
from seglab.data.store import ENTRIES, Record, Store
from seglab.data.survey import survey
from seglab.errors import SeglabError
from seglab.spec import Case

Report = dict[str, Any]
PAGE = "report.html"


def report_dir(data: SegmentationData) -> Path:
    """Folder of the report of the data at this root, described like this; the next one replaces it."""
    key = key_of(str(Path(data.root).absolute()), data.description)
    return Path(data.cache_dir) / "reports" / f"{data.dataset}-{key}"


def doubts(data: SegmentationData) -> str | None:
    """One line about the warnings that preparing has found, None when there are none.

    Args:
        data: after `load`.
    """
    found = Counter(each.what for each in survey(data.prepared, data) if each.severity == "warning")
    if not found:
        return None
    page = report_dir(data) / PAGE
    where = page if page.is_file() else "type python src/prepare.py with the same data=... for the report"
    kinds = shorten(f"{what} ({n})" for what, n in found.most_common())
    return f"{found.total()} warning(s) about the data: {kinds}; {where}"


def describe(data: SegmentationData, failure: SeglabError | None) -> tuple[Report, Store | None]:
    """Everything there is to tell, and the store of the cases that are good, if any is.

    Args:
        data: after `load`, whether it succeeded or not.
        failure: what `load` raised.
    """
    cases, refused = data.cases, data.preparation.refused if data.cases else {}
    store = data.store if failure is None else data.preparation.remaining(cases) if cases else None
    splits = data.splits if failure is None else {}
    whole = store if failure is not None else data.prepared  # as files, where the store cuts them into blocks
    found = [*_errors(refused, cases, failure), *([] if whole is None else survey(whole, data))]
    findings = list(dict.fromkeys(found))  # a file of several cases is told once
    report = {
        "data": data.dataset,
        "kind": data.kind,
        "root": _root(data.root),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seglab": __version__,
        "status": "ready" if failure is None else "refused",
        "counts": {name: sum(each.severity == name for each in findings) for name in SEVERITIES},
        "n_cases": len(cases),
        "set_aside": sorted(refused),
        "findings": grouped(findings),
        "classes": [] if store is None else _classes(data, store.records),
        "splits": [_split(data, name, groups, store) for name, groups in splits.items()] if store is not None else [],
        "sizes": {} if store is None else _sizes(data, store.records),
        "intensity": {} if failure is not None else _intensity(data),
        "fingerprint": {}
        if failure is not None
        else fingerprint(data.prepared, data.class_names, has_background=data.has_background),
        "store": {} if failure is not None or store is None else _place(store),
        "cases": [] if store is None else [_case(record, splits) for record in store.records],
    }
    return report, store


def _root(root: str) -> str:
    if root == PHANTOM:
        return "a phantom"
    return root if "://" in root else str(Path(root).absolute())


def grouped(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings of one kind together, the worst first, each with all its files and values."""
    kinds = dict.fromkeys((finding.severity, finding.what, finding.fix) for finding in findings)
    return [
        {
            "severity": severity,
            "what": what,
            "fix": fix,
            "places": [{"file": f.file, "value": f.value} for f in findings if (f.severity, f.what, f.fix) == kind],
        }
        for kind in sorted(kinds, key=lambda each: SEVERITIES.index(each[0]))
        for severity, what, fix in [kind]
    ]


def _errors(refused: Mapping[str, SeglabError], cases: Sequence[Case], failure: SeglabError | None) -> list[Finding]:
    files = {case.id: case.files for case in cases}
    found = [
        Finding.of(part, files.get(name, (Path(name),)))  # a file without partner makes no case
        for name, error in sorted(refused.items())
        for part in _parts(error)
    ]
    if failure is not None:
        told = {str(part) for error in refused.values() for part in _parts(error)}
        found += [Finding.of(part, ()) for part in _parts(failure) if str(part) not in told]
    return found


def _parts(error: SeglabError) -> tuple[SeglabError, ...]:
    return error.errors if isinstance(error, FaultsError) else (error,)


def _classes(data: SegmentationData, records: Sequence[Record]) -> list[dict[str, Any]]:
    counts = np.array([record.class_pixels for record in records])
    shares = counts.sum(axis=0) / max(int(counts.sum()), 1)
    return [
        {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color), "share": float(share), "n_cases": int(n_cases)}
        for name, color, share, n_cases in zip(
            data.class_names, data.class_colors, shares, (counts > 0).sum(axis=0), strict=True
        )
    ]


def _split(data: SegmentationData, name: str, groups: Sequence[str], store: Store) -> dict[str, Any]:
    records = [record for record in store.records if record.group in set(groups)]
    present = np.sum([np.array(record.class_pixels) > 0 for record in records], axis=0) if records else None
    by_class = {} if present is None else dict(zip(data.class_names, present.tolist(), strict=True))
    return {"name": name, "n_groups": len(groups), "n_cases": len(records), "cases_with": by_class}


def _sizes(data: SegmentationData, records: Sequence[Record]) -> dict[str, Any]:
    shapes = np.array([record.shape[1:] for record in records])
    spacings = np.array([record.spacing for record in records])
    return {
        "channels": sorted({record.shape[0] for record in records}),
        "shape": {name: _of(shapes, how) for name, how in (("least", 0), ("median", 50), ("most", 100))},
        "spacing": {name: _of(spacings, how) for name, how in (("least", 0), ("median", 50), ("most", 100))},
        "unit": {"volume": "mm", "raster": "units of the CRS", "photo": "pixels"}[data.kind],
        "groups": len(Counter(record.group for record in records)),
    }


def _of(rows: Any, percent: int) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(rows, percent, axis=0)]


def _intensity(data: SegmentationData) -> dict[str, Any]:
    spec = data.spec
    return {
        "mean": [round(value, 4) for value in spec.intensity.mean],
        "std": [round(value, 4) for value in spec.intensity.std],
        "clip": list(data.clip),
        "patch_size": list(spec.patch_size),
    }


def _place(store: Store) -> dict[str, Any]:
    entries = [store.folder.parent / ENTRIES / record.entry for record in store.records]
    n_bytes = sum(file.stat().st_size for entry in entries for file in entry.iterdir())
    return {"folder": str(store.folder), "n_bytes": n_bytes}


def _case(record: Record, splits: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    split = next((name for name, groups in splits.items() if record.group in groups), "")
    return {
        "id": record.id,
        "group": record.group,
        "split": split,
        "shape": list(record.shape),
        "spacing": list(record.spacing),
        "image_file": record.image_file,
        "mask_file": record.mask_file,
    }
