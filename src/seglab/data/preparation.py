"""Preparing a data set: each case is read, checked and stored once, several at a time, whatever happens in between."""

import logging
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import ClassVar

import numpy as np

from seglab.data import arrays, classes, doubts, headers, integrity, intensity, signs, store
from seglab.data.contents import Contents, code_version, files_within, key_of
from seglab.data.doubts import doubt, fit_of
from seglab.data.findings import MEND, FaultsError, Finding, Findings, noticing
from seglab.data.headers import notice_headers, notice_zeros, read_header
from seglab.data.integrity import check_same_size, check_some_labels
from seglab.data.locks import alone, hold, turn
from seglab.data.source import DataSource
from seglab.data.store import ENTRIES, FACTS, Layout, Sample, Store, rows_of, write_entry, write_store
from seglab.errors import ConfigError, DataError
from seglab.spec import IGNORE_INDEX, Case

log = logging.getLogger("seglab")

ON_ERROR = ("stop", "skip")
LARGE = 64 << 20
"""Bytes of raw files from which on several processes read them: starting those takes a second."""
STALE_S = 3600.0
PREPARING = "preparing"
"""File beside the entries that whoever writes them holds."""


def silent(done: int, total: int) -> None:
    """Tell nobody of the progress."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a data set is prepared.

    Args:
        source: reads the files.
        folder: of everything prepared.
        on_error: stop at bad cases, or skip them.
        n_workers: processes that read at once, each one case; None takes all cores for large data.
        progress: is told, as cases are done, how many of how many are there.
        refused: cases that cannot be used, with their errors: files that make no case are there from the start, by
            path; `store` adds others, by name.

    Raises:
        ConfigError: an unknown `on_error`.
    """

    source: DataSource
    folder: Path
    on_error: str = "stop"
    n_workers: int | None = None
    progress: Callable[[int, int], None] = silent
    refused: dict[str, DataError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise ConfigError(
                "bad cases cannot be treated like this",
                given=f"data.on_error={self.on_error}",
                allowed=", ".join(ON_ERROR),
                fix="set data.on_error=stop, or skip to leave them out by name",
            )

    def store(self, cases: Sequence[Case]) -> Store:
        """The store of these cases; what is there already is not read again.

        Raises:
            DataError: bad cases, all of them named, once the others are stored.
        """
        with turn(self.folder / f"{self.source.dataset}.turn"):  # processes that want the same share the work
            with alone(self.folder / PREPARING) as is_alone:
                remove_remains(self.folder / ENTRIES, older_than_s=0 if is_alone else STALE_S)
            held = hold(self.folder / PREPARING)
            try:
                return self._store(cases)
            finally:
                if held is not None:
                    held.close()

    def remaining(self, cases: Sequence[Case]) -> Store | None:
        """The cases that are good, when `store` has refused others; nothing is written, None if none is."""
        entries = self.entries(cases)
        kept = [(case, entries[case.id]) for case in cases if (self._entry(entries[case.id]) / FACTS).is_file()]
        return Store(self.folder / f"{self.source.dataset}-rest", rows_of(self.folder, kept)) if kept else None

    def _store(self, cases: Sequence[Case]) -> Store:
        entries = self.entries(cases)
        missing = [case for case in cases if not (self._entry(entries[case.id]) / FACTS).is_file()]
        if missing:
            log.info(f"preparing {len(missing)} of {len(cases)} cases of {self.source.dataset} in {self.folder}")
        n_there = len(cases) - len(missing)
        self.progress(n_there, len(cases))
        for done, (name, error) in enumerate(self._prepare(missing, entries), n_there + 1):
            self.progress(done, len(cases))
            if error is not None:
                self.refused[name] = error
        kept = [case for case in cases if case.id not in self.refused]
        if self.refused:
            self._answer(kept)
        listed = [(case, entries[case.id]) for case in kept]
        key = key_of([(entry, case.id, case.group) for case, entry in listed])
        return write_store(self.folder / f"{self.source.dataset}-{key}", listed)

    def entries(self, cases: Sequence[Case]) -> dict[str, str]:
        """Name of the entry of each case."""
        files = {file for case in cases if case.version is None for file in case.files}
        hashes = Contents(self.folder / "hashes.json").hashes(files)
        how = [self.source.settings, reading_code(type(self.source)), str(self.layout)]
        contents = {case.id: case.version or [hashes[file] for file in case.files] for case in cases}
        return {name: f"{name[:200]}-{key_of(content, how)}" for name, content in contents.items()}

    @property
    def layout(self) -> Layout:
        """How cases are stored."""
        source = self.source
        return Layout(
            num_classes=len(source.class_names),
            clip=source.clip,
            keeps_all=source.keeps_all,
            compress=source.kind == "volume",
        )

    def _entry(self, name: str) -> Path:
        return self.folder / ENTRIES / name

    def _prepare(self, cases: Sequence[Case], entries: Mapping[str, str]) -> Iterator[tuple[str, DataError | None]]:
        """Store cases; gives each when it is done, a bad one with its error."""
        n_workers = min(self._workers(cases), len(cases))
        if n_workers < 2:
            for case in cases:
                yield case.id, self._write(case, entries[case.id])
            return
        _Reader.preparation = self
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(n_workers, context, initializer=_Reader.end_with_parent) as pool:
            tasks: dict[Future[DataError | None], Case] = {
                pool.submit(_Reader.write, case, entries[case.id]): case for case in cases
            }
            try:
                for task in as_completed(tasks):
                    yield tasks[task].id, task.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _write(self, case: Case, entry: str) -> DataError | None:
        try:
            write_entry(self._entry(entry), lambda: read_sample(self.source, case), self.layout)
        except DataError as error:
            return error
        return None

    def _workers(self, cases: Sequence[Case]) -> int:
        """Processes that read at once."""
        if "fork" not in multiprocessing.get_all_start_methods():
            return 1
        if self.n_workers is not None:
            return self.n_workers
        files = [file for case in cases for path in case.files if path.exists() for file in files_within(path)]
        n_bytes = sum(file.stat().st_size for file in files)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cores if n_bytes > LARGE else 1

    def _answer(self, kept: Sequence[Case]) -> None:
        """Refuse bad cases, or set them aside by name."""
        findings = Findings()
        for name in sorted(self.refused):
            with findings.noting():
                raise self.refused[name]
        if self.on_error == "skip" and kept:
            for error in findings.errors:
                log.warning(f"set aside: {error}")
        elif len(findings.errors) > 1:
            raise FaultsError(findings.errors, f"{MEND}, and data.on_error=skip trains without them")
        else:
            findings.settle()


def remove_remains(folder: Path, *, older_than_s: float = STALE_S) -> None:
    """Remove what killed processes left half-written; what was touched lately may be another's work."""
    for part in folder.glob(".part-*"):
        if time.time() - part.stat().st_mtime > older_than_s:
            shutil.rmtree(part, ignore_errors=True)


def read_sample(source: DataSource, case: Case) -> Sample:
    """Read and check one case.

    Raises:
        DataError: broken files, or files that do not belong together.
    """
    findings = Findings()
    with noticing() as noticed:
        with findings.noting():
            image, valid, spacing = source.read_images(case.image_files)
        with findings.noting():
            mask = source.read_masks(case)
        findings.settle()
        check_same_size(image.shape, mask.shape, case.image_file, case.mask_file)
        mask = np.where(valid, mask, IGNORE_INDEX).astype(np.uint8)
        check_some_labels(mask, case.image_file, case.mask_file)
        header = read_header(case.image_file, source.kind)
        notice_headers(case, header, source.kind, mask=mask)
        notice_zeros(image, valid, header, case.image_file)
        doubt(image, mask, case, source)
    fit, found = fit_of(image, mask, source.clip), tuple(_by_part(finding, case) for finding in noticed)
    return Sample(image, mask, valid, spacing, header, fit, found)


def _by_part(finding: Finding, case: Case) -> Finding:
    """A finding that holds for equal files elsewhere too."""
    parts = {str(case.image_file): "image", str(case.mask_file): "mask"}
    return replace(finding, file=parts.get(finding.file, Path(finding.file).name))


def reading_code(source: type[DataSource]) -> str:
    """Hash of the code that reads and stores cases of a data set: its own, its file formats, and what all share."""
    reads = [each for each in source.__mro__ if {"read_image", "read_mask", "read_masks"} & vars(each).keys()]
    own = {sys.modules[each.__module__] for each in reads}
    named = {_module_of(value) for module in own for value in vars(module).values()}
    used = {sys.modules[name] for name in named if name.startswith("seglab.data.") and "phantoms" not in name}
    used |= formats_behind(used)
    shared = {arrays, classes, doubts, headers, integrity, intensity, signs, store, sys.modules[__name__]}
    modules = (own | used | shared) - {sys.modules["seglab.data.module"]}
    return code_version(tuple(sorted(modules, key=lambda module: module.__name__)))


def formats_behind(modules: set[ModuleType]) -> set[ModuleType]:
    """File formats that modules reach, also through one another."""
    found: set[ModuleType] = set()
    while (
        new := {
            sys.modules[name]
            for module in modules | found
            for name in map(_module_of, vars(module).values())
            if name.startswith("seglab.data.formats.")
        }
        - found
    ):
        found |= new
    return found


def _module_of(value: object) -> str:
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))


class _Reader:
    """What a process that was forked knows of the preparation, which need not be sent to it."""

    preparation: ClassVar[Preparation]

    @staticmethod
    def write(case: Case, entry: str) -> DataError | None:
        """Store one case; a bad one gives its error."""
        return _Reader.preparation._write(case, entry)

    @staticmethod
    def end_with_parent() -> None:
        """Do not wait for ever for work of a parent that was killed."""

        def watch() -> None:
            """End this process when the one that started it has ended."""
            parent = multiprocessing.parent_process()
            if parent is not None:
                parent.join()
                os._exit(1)

        Thread(target=watch, daemon=True).start()
