"""Where a phantom is kept: written once, never seen half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4


def phantom_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """The phantom's folder, written now if it is not there yet; a half-written one never gets that name."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".part-{folder.name}-{uuid4().hex[:8]}")
        try:
            write(temporary)
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same content
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
