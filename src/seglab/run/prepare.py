"""prepare: fetches a data set on request, then reads every file of it and reports all faults at once."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seglab.data.module import SegmentationData
from seglab.data.official import check_license, choose, fetch, official_archives
from seglab.run.make import make

log = logging.getLogger("seglab")

DOWNLOAD_KEYS = ("download", "archive", "accept_license")
"""Keys below data that say how to get it; the others build the data module."""


def prepare(cfg: DictConfig) -> None:
    """Fetch where asked to, then check.

    Args:
        cfg: composed by Hydra from conf/prepare.yaml.

    Raises:
        SeglabError: a licence that was not accepted, a download that failed, or the faults of the data.
    """
    node: dict[str, Any] = OmegaConf.to_container(cfg.data, resolve=True)  # type: ignore[assignment]  # a dict
    wanted = {name: node.pop(name) for name in DOWNLOAD_KEYS}
    data: SegmentationData = make(node, "data")
    console = Console(soft_wrap=True, highlight=False)
    if wanted["download"]:
        archive = choose(official_archives(), data.dataset, wanted["archive"])
        check_license(archive, is_accepted=wanted["accept_license"])
        console.print(f"{archive.what}\n{archive.license}: {archive.license_address}")
        fetch(archive, Path(data.root), Path(cfg.paths.cache_dir))
        console.print(f"unpacked into {data.root}\nnote: {archive.note}")
    console.print(f"{len(data.check())} cases of {data.root} are whole and fit together")
