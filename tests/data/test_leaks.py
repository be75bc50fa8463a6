import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seglab.data.crack import CrackData
from seglab.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def copied(crack_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of which one stands under a second name, as a group of its own."""
    root = tmp_path_factory.mktemp("copied") / "raw"
    shutil.copytree(crack_root, root)
    (root / "groups.csv").unlink()
    first = sorted(file.name for file in (root / "images").iterdir())[0]
    for folder in ("images", "masks"):
        (file,) = (root / folder).glob(f"{Path(first).stem}.*")
        shutil.copy(file, file.with_stem("zz_copy"))
    return root


def splits(root: Path, target: Path, copy: str) -> str:
    """A split file with the copy in one split and its original in train."""
    names = sorted(file.stem for file in (root / "images").iterdir() if file.stem != "zz_copy")
    parts = {"train": names[:20], "val": names[20:26], "test": names[26:]}
    parts[copy].append("zz_copy")
    target.write_text(str(parts).replace("'", '"'))
    return str(target)


def test_a_copy_in_another_split_stops_the_run_unless_it_is_allowed(
    copied: Path, cache_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def load(copy: str, on_leak: str = "stop") -> None:
        given = {"root": str(copied), "cache_dir": str(cache_dir), "num_workers": 0, "on_leak": on_leak}
        CrackData(**given, split_file=splits(copied, tmp_path / "split.json", copy)).load()

    with pytest.raises(
        DataError, match=r"show the same and stand in two splits[\s\S]*zz_copy[\s\S]*data\.on_leak=warn"
    ):
        load("test")
    load("train")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    load("test", on_leak="warn")
    assert "zz_copy" in caplog.text


def test_an_unknown_answer_to_leaks_is_refused(tmp_path: Path, write_crack: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match=r"data\.on_leak=ignore[\s\S]*stop, warn"):
        CrackData(root="phantom", cache_dir=str(tmp_path), on_leak="ignore")
