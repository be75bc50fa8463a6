"""What keeps a server that is slow, silent or gone from holding up a run.

wandb bounds the start and the upload, but not everything: before each table and artifact it asks the server, in this
process; an artifact that is sent online is in no file, so that `wandb sync` could not send it later; and a server that
falls silent early keeps `finish` from ever ending. All reaching into wandb's own parts is in this file, for the version
that pyproject.toml names; the tests with a failing server watch it.
"""

import subprocess
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import wandb

GRACE_S = 5.0
FLUSH_S = 2.0
"""Seconds between two writings of the record file: what is logged is on disk then, whatever happens to the run."""


class Unasked:
    """Stands in for a run's API: says nothing against an artifact, for our names have one type and one run each."""

    settings: ClassVar[dict[str, str]] = {"entity": "", "project": ""}

    def _expected_artifact_type(self, **_: Any) -> None:
        return None

    def _set_artifact_save_handle(self, *_: Any) -> None:
        return None


def on_record(run: Any) -> Any:
    """The run, whose tables and artifacts go into its file before they are sent, with no question to the server."""
    run._cached_public_api = Unasked()
    interface = getattr(run, "_interface", None)  # a disabled run has none
    if interface is not None:
        interface.deliver_artifact = _published(interface)
    return run


def finish_within(seconds: float, exit_code: int) -> bool:
    """End the run in progress, and wandb's process if that does not end by itself.

    Args:
        seconds: for the upload.
        exit_code: of the job.

    Returns:
        Whether all that wandb had to do was done.

    Raises:
        ConnectionError: wandb's process died earlier.
    """
    failed: list[BaseException] = []
    finisher = threading.Thread(target=_finish, args=[exit_code, failed], daemon=True)
    finisher.start()
    finisher.join(seconds + GRACE_S)
    if finisher.is_alive():
        end_service()
        finisher.join(GRACE_S)
        return False
    if failed and not isinstance(failed[0], TimeoutError):
        raise failed[0]
    return not failed


def tear_down(seconds: float) -> None:
    """Let go of wandb's process, which still holds the id of a run that failed to start; end it if it does not answer.

    Args:
        seconds: to wait for it.
    """
    closer = threading.Thread(target=wandb.teardown, daemon=True)
    closer.start()
    closer.join(seconds)
    if closer.is_alive():
        end_service()
        closer.join(GRACE_S)


def _finish(exit_code: int, failed: list[BaseException]) -> None:
    try:
        wandb.finish(exit_code=exit_code)
    except Exception as error:  # noqa: BLE001  # handed to the thread that waits
        failed.append(error)


def _published(interface: Any) -> Callable[..., None]:
    def publish(run: Any, artifact: Any, aliases: Any, tags: Any = None, _step: int | None = None, **rest: Any) -> None:
        """Publish an artifact without a step."""
        interface.publish_artifact(run, artifact, aliases, tags, **rest)

    return publish


def end_service() -> None:
    """End wandb's process, so that neither this one nor a later run in it waits for it."""
    library: Any = wandb.setup()
    connection, library._connection = library._connection, None
    connection._cleanup()
    process: subprocess.Popen[bytes] = connection._proc._process
    process.kill()
