"""Files that are made once, when they are first needed, and kept in the folder of a run."""

import logging
from collections.abc import Callable
from pathlib import Path

from seglab.data.contents import content_hash
from seglab.files import atomic_path, check_writable, write_text

log = logging.getLogger("seglab")


def made_once(file: Path, what: str, make: Callable[[Path], None]) -> Path:
    """A file that is made where it is not there, or no longer as it was made; its SHA-256 stands beside it.

    Args:
        file: that is kept, in the folder of a run.
        what: it is, for the log.
        make: writes it to a temporary path.

    Raises:
        ConfigError: a folder that cannot be written.
    """
    seal = file.with_name(f"{file.name}.sha256")
    if file.is_file() and seal.is_file():
        if content_hash(file) == seal.read_text(encoding="utf-8"):
            return file
        log.warning(f"{file} is damaged, or was changed since it was made")
    check_writable(file.parent, "run")
    log.info(f"writing {what}, once: {file}")
    with atomic_path(file) as temporary:
        make(temporary)
    write_text(seal, content_hash(file))
    return file
