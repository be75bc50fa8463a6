"""prepare: a sound data set is said to be so, a bad one with all its faults, and a download waits for its licence."""

import shutil
from pathlib import Path

import pytest
from run_jobs import composed

from seglab.data.findings import FaultsError
from seglab.errors import ConfigError
from seglab.run.prepare import prepare


def prepared(*overrides: str) -> None:
    prepare(composed("prepare", list(overrides)))


def test_a_sound_data_set_is_read_and_nothing_is_kept(
    crack_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared("data=crack", f"data.root={crack_root}", f"paths.cache_dir={tmp_path}")
    assert "32 cases of" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_all_faults_are_told_at_once(crack_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(crack_root, root)
    for name in ("images/photo_00_0.png", "masks/photo_00_1.png"):
        (root / name).write_bytes(b"")
    with pytest.raises(FaultsError, match=r"2 faults[\s\S]*images/photo_00_0\.png[\s\S]*masks/photo_00_1\.png"):
        prepared("data=crack", f"data.root={root}")


def test_a_download_shows_its_licence_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Task03_Liver\.tar \(28\.9 GB\) under CC BY-SA 4\.0"):
        prepared("data=lits", f"data.root={tmp_path / 'lits'}", "data.download=true")
    with pytest.raises(ConfigError, match="no official archive for data=em"):
        prepared("data=em", f"data.root={tmp_path / 'em'}", "data.download=true")
    assert not list(tmp_path.iterdir())
