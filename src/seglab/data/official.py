"""Official archives: which there are, under which licence, and the way from an address to a folder of data."""

import re
import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import yaml  # type: ignore[import-untyped]

from seglab.data.archives import unpack
from seglab.data.contents import content_hash
from seglab.data.download import Patience, download
from seglab.errors import ConfigError, DataError


@dataclass(frozen=True)
class Official:
    """An archive as its publishers offer it; one entry of downloads.yaml.

    Args:
        name: key of the entry.
        data: data set that reads it.
        what: one sentence.
        home: page of the publishers.
        address: of the archive.
        size_bytes: None when not published.
        checksum: "md5:..." or "sha256:...", None when not published.
        license: name of the licence.
        license_address: its text.
        arrange: pattern of a member to its place below data.root; members without one are left out. Empty: everything
            stays where it is.
        note: what to know before use.
    """

    name: str
    data: str
    what: str
    home: str
    address: str
    size_bytes: int | None
    checksum: str | None
    license: str
    license_address: str
    arrange: dict[str, str]
    note: str


def official_archives(table: Path | None = None) -> dict[str, Official]:
    """All archives by name.

    Args:
        table: another file of the form of downloads.yaml.
    """
    text = (table or files("seglab.data").joinpath("downloads.yaml")).read_text(encoding="utf-8")
    return {name: Official(name=name, **entry) for name, entry in yaml.safe_load(text).items()}


def choose(archives: dict[str, Official], data: str, name: str | None) -> Official:
    """The archive of that name, or the first of the data set.

    Raises:
        ConfigError: there is none.
    """
    fitting = {key: archive for key, archive in archives.items() if archive.data == data}
    if (name is None and not fitting) or (name is not None and name not in fitting):
        raise ConfigError(
            f"there is no official archive for data={data}" + ("" if name is None else f" named {name}"),
            given=f"data.archive={name}",
            allowed=", ".join(f"data={entry.data} data.archive={key}" for key, entry in archives.items()),
            fix="choose one of these, or set data.root=<your own folder>",
        )
    return fitting[name] if name is not None else next(iter(fitting.values()))


def check_license(archive: Official, *, is_accepted: bool) -> None:
    """Show the licence and refuse to go on before it has been accepted.

    Raises:
        ConfigError: shows the licence, where to read it and what to type.
    """
    if not is_accepted:
        size = "" if archive.size_bytes is None else f" ({archive.size_bytes / 1e9:.1f} GB)"
        raise ConfigError(
            f"the licence of {archive.what} has not been accepted",
            given=f"{archive.address}{size} under {archive.license}, see {archive.license_address}",
            allowed="use as that licence allows; cite the source",
            fix="read it, then add data.accept_license=true",
        )


def known_by(archive: Official, checksum: str | None) -> Official:
    """The archive with the checksum that the user accepts, where its publishers give none.

    Args:
        archive: as listed.
        checksum: "sha256:..." of what was fetched before, or None.

    Raises:
        ConfigError: another form, or a checksum beside the published one.
    """
    if checksum is None:
        return archive
    if archive.checksum is not None or not re.fullmatch("sha256:[0-9a-f]{64}", checksum):
        raise ConfigError(
            f"the checksum of {archive.name} cannot be set like this",
            given=f"data.checksum={checksum}",
            allowed=f"null, as {archive.checksum} is published"
            if archive.checksum
            else "sha256: and 64 digits of 0-9a-f",
            fix="leave data.checksum out; the error that follows a download without a published one tells what to type",
        )
    return replace(archive, checksum=checksum)


def fetch(archive: Official, root: Path, cache_dir: Path, patience: Patience | None = None) -> Path:
    """Download, unpack and arrange an archive; `root` appears when all of it is there.

    Args:
        archive: whose licence was accepted.
        root: folder of the data; must not exist, or be empty.
        cache_dir: where the archive is kept, so that another try needs no second download.
        patience: of the download.

    Returns:
        `root`.

    Raises:
        DataError: as `download` and `unpack`; no checksum is known, and that of what came is told; an archive without
            the files that are looked for; or `root` has files.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"{root} is there already",
            given=f"data.root={root} with data.download=true",
            allowed="a folder that does not exist yet, or an empty one",
            fix="leave out data.download to check what is there, or choose another data.root",
        )
    local = cache_dir / "downloads" / f"{archive.name}-{archive.address.rpartition('/')[2]}"
    download(archive.address, local, checksum=archive.checksum, size_bytes=archive.size_bytes, patience=patience)
    if archive.checksum is None:
        found = f"sha256:{content_hash(local)}"
        raise DataError(
            f"no checksum of {archive.name} is published, so what came cannot be compared with anything",
            given=f"{found} of {local}",
            allowed="a file that you accept: compare its checksum with that of somebody who has it, or look into it",
            fix=f"add data.checksum={found} to unpack it, without a second download; or delete it",
        )
    unpacked = root.with_name(f".part-{uuid4().hex[:8]}-{root.name}")
    try:
        unpack(local, unpacked)
        whole = _arranged(archive, unpacked) if archive.arrange else unpacked
        if root.exists():
            root.rmdir()
        whole.rename(root)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return root


def _arranged(archive: Official, unpacked: Path) -> Path:
    """Move what is wanted into a new folder inside; two files for one place, or none for a pattern, are refused."""
    whole = unpacked / f".arranged-{uuid4().hex[:8]}"
    whole.mkdir()
    members = sorted(file for file in unpacked.rglob("*") if file.is_file())
    missing = set(archive.arrange)
    for file in members:
        name = file.relative_to(unpacked).as_posix()
        found = {each: match for each in archive.arrange if (match := re.fullmatch(each, name))}
        for pattern, match in list(found.items())[:1]:
            missing.discard(pattern)
            place = match.expand(archive.arrange[pattern])
            target = whole / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                raise _not_as_known(archive, f"two files for {place}, one is {name}")
            file.rename(target)
    if missing:
        sought, shown = ", ".join(sorted(missing)), members[0].relative_to(unpacked) if members else "-"
        raise _not_as_known(archive, f"nothing for {sought} among {len(members)} files such as {shown}")
    return whole


def _not_as_known(archive: Official, given: str) -> DataError:
    return DataError(
        f"{archive.address} does not hold what it is known for",
        given=given,
        allowed=", ".join(archive.arrange),
        fix=f"look at {archive.home} for a new layout, unpack by hand and set data.root=<folder>",
    )
