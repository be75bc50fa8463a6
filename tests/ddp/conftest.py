"""The `python` of the tests that start many processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from warm_python import warm_python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def python() -> Iterator[str]:
    """One that has imported already; tests of processes that are killed from outside take `sys.executable`."""
    with warm_python(ROOT / "src", os.environ, ROOT / "tests" / "ddp") as folder:
        yield str(folder / "python")
