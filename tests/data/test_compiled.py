import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from seglab.data.compiled import version_of

SOURCE = """
from seglab.data.compiled import compiled

@compiled
def twice(value):
    return value * 2
"""


def loaded(folder: Path) -> Any:
    """The function, as a new process has it."""
    spec = importlib.util.spec_from_file_location("loops", folder / "loops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    (tmp_path / "loops.py").write_text(SOURCE)
    return tmp_path


def test_machine_code_is_kept_for_the_next_process(folder: Path) -> None:
    assert loaded(folder)(4) == 8
    again = loaded(folder)
    assert again(4) == 8 and sum(again.stats.cache_hits.values()) == 1


def test_machine_code_is_made_anew_when_a_loop_or_a_number_of_another_file_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    others = (
        "from seglab.data.compiled import compiled\nFACTOR = 2\n@compiled\ndef more(value):\n    return value + 1\n"
    )
    (folder / "loops.py").write_text("from others import FACTOR, more\n" + SOURCE.replace("* 2", "* FACTOR + more(0)"))

    def answer(text: str) -> Any:
        (folder / "others.py").write_text(text)
        monkeypatch.delitem(sys.modules, "others", raising=False)
        importlib.invalidate_caches()
        version_of.cache_clear()
        return loaded(folder)(4)

    assert answer(others) == 9
    assert answer(others.replace("+ 1", "+ 7")) == 15
    assert answer(others.replace("FACTOR = 2", "FACTOR = 3")) == 13
    assert answer(others) == 9


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("left", [0, 20])
def test_machine_code_that_was_cut_off_is_made_anew(left: int, ending: str, folder: Path) -> None:
    loaded(folder)(4)
    (file,) = folder.rglob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:left])
    assert loaded(folder)(4) == 8
    again = loaded(folder)
    assert again(4) == 8 and sum(again.stats.cache_hits.values()) == 1


def test_a_full_disk_keeps_nothing_and_stops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = loaded(folder)

    def is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function._cache._cache_file, "save", is_full)
    assert function(4) == 8 and not list(folder.rglob("*.nbc"))
