"""What is prepared is listed and freed, and never what somebody has open or has just used."""

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seglab.data.contents import Contents
from seglab.data.lits import LitsData
from seglab.data.locks import alone, hold, turn
from seglab.data.preparation import PREPARING, Preparation
from seglab.data.shelf import clean, loose_entries, shelved
from seglab.data.store import CASES, IN_USE, Store
from seglab.errors import DataError

Write = Callable[..., tuple[Path, Path]]


def prepared(root: Path, folder: Path, write: Write, *numbers: int) -> Store:
    for number in numbers:
        write(root, number)
    data = LitsData(root=str(root), cache_dir=str(folder))
    return Preparation(source=data, folder=folder).store(data.find_cases(root))


def unused(store: Store) -> Path:
    """Its folder, as if nobody had used it for long."""
    folder = store.folder
    store._held.close()  # type: ignore[union-attr]
    os.utime(folder / IN_USE, (0, 0))
    return folder


def test_what_was_not_used_lately_goes_and_shared_entries_stay(tmp_path: Path, write_lits: Write) -> None:
    old = unused(prepared(tmp_path / "raw", tmp_path / "p", write_lits, 1, 2))
    (tmp_path / "raw" / "volume-2.nii.gz").unlink()
    (tmp_path / "raw" / "segmentation-2.nii.gz").unlink()
    new = prepared(tmp_path / "raw", tmp_path / "p", write_lits, 3)
    (tmp_path / "p" / "entries" / ".part-0-volume-9").mkdir()
    first, second = shelved(tmp_path / "p")
    assert (first.folder, second.folder) == (new.folder, old) and first.in_use and not second.in_use
    assert first.root == str(tmp_path / "raw") and first.n_bytes > 0
    stores, entries, n_bytes = clean(tmp_path / "p", keep_days=1)
    assert [store.folder for store in stores] == [old] and n_bytes > 0
    assert [entry.name[:9] for entry in entries] == ["volume-2-"]
    assert sorted(entry.name[:9] for entry in (tmp_path / "p" / "entries").iterdir()) == ["volume-1-", "volume-3-"]
    assert not old.exists() and new.image("volume-1").shape == (1, 6, 18, 20)
    assert str(tmp_path / "raw" / "volume-2.nii.gz") not in Contents(tmp_path / "p" / "hashes.json").known


def test_what_a_process_has_open_stays_however_old(tmp_path: Path, write_lits: Write) -> None:
    store = prepared(tmp_path / "raw", tmp_path / "p", write_lits, 1)
    os.utime(store.folder / IN_USE, (0, 0))
    assert clean(tmp_path / "p", keep_days=0)[:2] == ([], [])
    folder = store.folder
    del store
    gc.collect()
    os.utime(folder / IN_USE, (0, 0))
    assert len(clean(tmp_path / "p", keep_days=0)[1]) == 1


def test_entries_without_a_data_set_are_loose(tmp_path: Path, write_lits: Write) -> None:
    store = prepared(tmp_path / "raw", tmp_path / "p", write_lits, 1)
    (store.folder / "cases.json").unlink()
    assert [entry.name[:9] for entry in loose_entries(tmp_path / "p", shelved(tmp_path / "p"))] == ["volume-1-"]


def test_nothing_is_freed_while_somebody_prepares(tmp_path: Path) -> None:
    held = hold(tmp_path / PREPARING)
    with pytest.raises(DataError, match="being prepared right now"):
        clean(tmp_path, keep_days=0)
    assert held is not None
    held.close()
    assert clean(tmp_path, keep_days=0) == ([], [], 0)


def test_many_may_hold_a_file_and_only_one_can_have_it_alone(tmp_path: Path) -> None:
    first, second = hold(tmp_path / "f"), hold(tmp_path / "f")
    assert first is not None and second is not None
    with alone(tmp_path / "f") as is_alone:
        assert not is_alone
    first.close()
    second.close()
    with alone(tmp_path / "f") as is_alone, alone(tmp_path / "f") as is_alone_too:
        assert is_alone and not is_alone_too
    with turn(tmp_path / "t"), alone(tmp_path / "t") as is_alone:
        assert not is_alone


def test_a_folder_of_somebody_else_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert hold(tmp_path / "file" / "f") is None
    with turn(tmp_path / "file" / "f"):
        pass


@pytest.mark.parametrize("root", ["s3://bucket/lake", "al://organisation/lake"])
def test_the_address_of_a_remote_dataset_is_shown_as_it_was_typed(root: str, tmp_path: Path, write_lits: Write) -> None:
    folder = prepared(tmp_path / "raw", tmp_path / "p", write_lits, 1).folder
    rows = json.loads((folder / CASES).read_text())
    kept = {"image_file": str(Path(root) / "image" / "0"), "mask_file": str(Path(root) / "mask" / "0")}
    (folder / CASES).write_text(json.dumps([row | kept for row in rows]))
    assert [store.root for store in shelved(tmp_path / "p")] == [root]
