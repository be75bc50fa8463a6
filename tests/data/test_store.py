import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seglab.data import store as store_module
from seglab.data.crack import CrackData
from seglab.data.lits import LitsData
from seglab.data.satellite import SatelliteData
from seglab.data.store import Sample, Store, build_store, store_key
from seglab.errors import DataError
from seglab.spec import Case

Write = Callable[..., tuple[Path, Path]]


def lits(root: Path, cache: Path) -> LitsData:
    return LitsData(root=str(root), cache_dir=str(cache), num_workers=0)


@pytest.fixture
def patients(tmp_path: Path, write_lits: Write) -> Path:
    for number in (1, 2, 3):
        write_lits(tmp_path / "raw", number)
    return tmp_path / "raw"


def test_the_second_load_reads_no_raw_file_and_writes_nothing(patients: Path, tmp_path: Path) -> None:
    first = lits(patients, tmp_path).load()
    folder = first.store.folder
    times = {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}
    volume = patients / "volume-1.nii.gz"
    state = volume.stat()
    volume.write_bytes(b"x" * state.st_size)  # reading it would fail now
    os.utime(volume, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = lits(patients, tmp_path).load()
    assert second.store.folder == folder and second.spec == first.spec and second.splits == first.splits
    assert second.store.records == first.store.records
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))} == times


def test_a_changed_file_makes_another_store(patients: Path, tmp_path: Path, write_lits: Write) -> None:
    first = lits(patients, tmp_path).load()
    write_lits(patients, 2, offset=7)
    second = lits(patients, tmp_path).load()
    assert second.store.folder != first.store.folder and first.store.folder.is_dir()
    assert second.store.image("volume-2").mean() == pytest.approx(first.store.image("volume-2").mean() + 7)


def test_the_key_depends_on_the_settings(patients: Path, tmp_path: Path) -> None:
    cases = lits(patients, tmp_path).find_cases(patients)
    assert store_key("lits", cases, {"clip": (0, 1)}) == store_key("lits", cases, {"clip": (0, 1)})
    assert store_key("lits", cases, {"clip": (0, 1)}) != store_key("lits", cases, {"clip": (0, 2)})
    assert store_key("lits", cases, {}) != store_key("lits", cases[:2], {})


def test_the_store_holds_what_the_reader_gave(
    ct_root: Path, crack_root: Path, scene_root: Path, cache_dir: Path
) -> None:
    for data in (
        LitsData(root=str(ct_root), cache_dir=str(cache_dir)),
        CrackData(root=str(crack_root), cache_dir=str(cache_dir)),
        SatelliteData(root=str(scene_root), cache_dir=str(cache_dir)),
    ):
        data.load()
        for case, record in list(zip(data.find_cases(Path(data.root)), data.store.records, strict=True))[:2]:
            image, valid, spacing = data.read_image(case.image_file)
            mask = np.where(valid, data.read_mask(case), 255)
            stored = data.store.image(case.id)
            assert stored.dtype == image.dtype and np.array_equal(stored, image)
            assert np.array_equal(data.store.mask(case.id), mask)
            assert (record.id, record.group, record.shape, record.spacing) == (
                case.id,
                case.group,
                image.shape,
                spacing,
            )
            assert record.class_pixels == tuple((mask == label).sum() for label in range(len(data.class_names)))
            assert record.moments.n == valid.sum()


def test_foreground_pixels_lie_on_their_class_and_every_class_is_there(patients: Path, tmp_path: Path) -> None:
    store = lits(patients, tmp_path).load().store
    rows, mask = store.foreground("volume-1"), store.mask("volume-1")
    assert set(rows[:, 0]) == {1, 2} and (mask[tuple(rows[:, 1:].T)] == rows[:, 0]).all()
    assert len(rows) == np.count_nonzero(mask) and len({tuple(row) for row in rows}) == len(rows)


def test_of_many_foreground_pixels_some_from_first_to_last_are_kept(tmp_path: Path) -> None:
    mask = np.ones((3, 60, 60), np.uint8)
    sample = Sample(np.zeros((1, *mask.shape), np.uint8), mask, mask > 0, (1.0, 1.0, 1.0))
    case = Case("a", tmp_path / "a", tmp_path / "b", "g")
    store = build_store(tmp_path / "store", [case], lambda _: sample, num_classes=3, clip=(None, None))
    rows = store.foreground("a")
    assert len(rows) == store_module.N_FOREGROUND
    assert rows[0].tolist() == [1, 0, 0, 0] and rows[-1].tolist() == [1, 2, 59, 59]


def test_a_cut_file_is_named_and_leaves_nothing_behind(patients: Path, tmp_path: Path) -> None:
    whole = (patients / "volume-3.nii.gz").read_bytes()
    (patients / "volume-3.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"volume-3\.nii\.gz"):
        lits(patients, tmp_path).load()
    assert list((tmp_path / "prepared").iterdir()) == []


def test_a_store_that_another_process_finished_first_is_used(patients: Path, tmp_path: Path) -> None:
    data = lits(patients, tmp_path)
    cases = data.find_cases(patients)
    folder = tmp_path / "store"

    def read_while_another_builds(case: Case) -> Sample:
        if not folder.exists():
            build_store(folder, cases, data._read_case, num_classes=3, clip=data.clip)
        return data._read_case(case)

    build_store(folder, cases, read_while_another_builds, num_classes=3, clip=data.clip)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".part", "store"))] == ["store"]
    assert len(Store(folder).records) == 3


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_many_cases_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / str(number)).mkdir()
        np.save(tmp_path / str(number) / "image.npy", np.zeros((1, 1, 2, 2), np.uint8))
    (tmp_path / "cases.json").write_text("[]")
    store = Store(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(400):
        store.image(str(number))
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 300 < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
