"""prepare: fetches a data set on request, checks and stores it once, and reports; lists and frees what is stored.

A training does the same before its first step, but for the report.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seglab.data.module import SegmentationData
from seglab.data.official import check_license, choose, fetch, known_by, official_archives
from seglab.data.preview import preview
from seglab.data.shelf import clean, loose_entries, shelved
from seglab.errors import ConfigError, SeglabError
from seglab.files import write_text
from seglab.run.console import plain_console
from seglab.run.make import make
from seglab.run.reports.data_page import size, write_page
from seglab.run.reports.data_pictures import pictures
from seglab.run.reports.data_report import PAGE, describe, report_dir
from seglab.run.reports.data_screen import progress_bar, show_report, show_shelf

DOWNLOAD_KEYS = ("download", "archive", "accept_license", "checksum")
"""Keys below data that say how to get it; the others build the data module."""


def prepare(cfg: DictConfig) -> None:
    """Prepare a data set, or show or free what is prepared.

    Args:
        cfg: composed by Hydra from conf/prepare.yaml.

    Raises:
        SeglabError: an unknown task, a licence that was not accepted, a failed download, or the faults of the data.
    """
    tasks: dict[str, Callable[[DictConfig, Console], None]] = {
        "data": prepare_data,
        "list": list_prepared,
        "clean": clean_prepared,
    }
    if cfg.what not in tasks or cfg.format not in ("table", "json"):
        raise ConfigError(
            "there is nothing to do",
            given=f"what={cfg.what} format={cfg.format}",
            allowed=f"what={'|'.join(tasks)}, format=table|json",
            fix="type python src/prepare.py data=<name>",
        )
    tasks[cfg.what](cfg, plain_console(soft_wrap=cfg.what != "data"))


def prepare_data(cfg: DictConfig, console: Console) -> None:
    """Fetch where asked to, prepare, report.

    Raises:
        SeglabError: as `prepare`; the report has been written before.
    """
    node: dict[str, Any] = OmegaConf.to_container(cfg.data, resolve=True)  # type: ignore[assignment]  # a dict
    wanted = {name: node.pop(name) for name in DOWNLOAD_KEYS}
    motion: Any = OmegaConf.to_container(cfg.augment, resolve=True) if cfg.get("augment") else None
    augment = make(motion, "augment") if motion else None
    data: SegmentationData = make(node, "data", augment=augment, seed=cfg.seed)
    if wanted["download"]:
        fetch_data(data, wanted, Path(cfg.paths.cache_dir), console)
    data.n_readers = cfg.n_workers
    failure = load(data, console)
    output = Path(cfg.report_dir or report_dir(data))
    write_report(data, failure, output, console)
    if failure is not None:
        raise failure
    if cfg.preview:
        preview(data, output / "preview.png")
        console.print(f"preview     {output / 'preview.png'}", soft_wrap=True)


def fetch_data(data: SegmentationData, wanted: dict[str, Any], cache_dir: Path, console: Console) -> None:
    """Fetch the official archive into the root of the data.

    Raises:
        SeglabError: there is none, its licence or its checksum was not accepted, or the download failed.
    """
    archive = known_by(choose(official_archives(), data.dataset, wanted["archive"]), wanted["checksum"])
    check_license(archive, is_accepted=wanted["accept_license"])
    console.print(f"{archive.what}\n{archive.license}: {archive.license_address}")
    fetch(archive, Path(data.root), cache_dir)
    console.print(f"unpacked into {data.root}\nnote: {archive.note}")


def load(data: SegmentationData, console: Console) -> SeglabError | None:
    """Prepare under a progress bar; gives what is wrong instead of raising it."""
    with progress_bar(console) as bar:
        task = bar.add_task("preparing", total=None)
        data.progress = lambda done, total: bar.update(task, completed=done, total=total)
        try:
            data.load()
        except SeglabError as error:
            return error
    return None


def write_report(data: SegmentationData, failure: SeglabError | None, output: Path, console: Console) -> None:
    """Show what was found, and write report.json and report.html."""
    report, store = describe(data, failure)
    write_text(output / "report.json", json.dumps(report, indent=1) + "\n")
    write_page(report, [] if store is None else pictures(data, store), output / PAGE)
    show_report(report, console)
    console.print(f"report      {output / PAGE}", soft_wrap=True)


def list_prepared(cfg: DictConfig, console: Console) -> None:
    """Show what is prepared, the last used first."""
    prepared = prepared_dir(cfg)
    stores = shelved(prepared)
    loose = loose_entries(prepared, stores)
    if cfg.format == "json":
        rows = [{**asdict(store), "folder": str(store.folder), "entries": list(store.entries)} for store in stores]
        console.print_json(json.dumps({"stores": rows, "loose": [entry.name for entry in loose]}))
    else:
        show_shelf(stores, loose, console)


def clean_prepared(cfg: DictConfig, console: Console) -> None:
    """Free what nobody has used for `keep_days` and no process has open.

    Raises:
        DataError: data is being prepared right now.
    """
    stores, entries, n_bytes = clean(prepared_dir(cfg), keep_days=cfg.keep_days)
    for store in stores:
        console.print(f"removed     {store.folder.name}, made of {store.root}")
    console.print(f"{len(stores)} data set(s) and {len(entries)} case(s) removed, {size(n_bytes)} freed")


def prepared_dir(cfg: DictConfig) -> Path:
    """Folder of everything prepared."""
    return Path(cfg.paths.cache_dir) / "prepared"
