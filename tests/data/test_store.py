import os
import resource
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from seglab.data import store as store_module
from seglab.data.arrays import open_array, read_box, write_array
from seglab.data.contents import code_version
from seglab.data.crack import CrackData
from seglab.data.formats import dicom_files, grid, nifti, photo, volumes
from seglab.data.lits import LitsData
from seglab.data.preparation import PREPARING, Preparation, formats_behind, read_sample, reading_code
from seglab.data.satellite import SatelliteData
from seglab.data.store import IN_USE, Layout, Sample, Store, write_entry
from seglab.errors import ConfigError, DataError

Write = Callable[..., tuple[Path, Path]]


def lits(root: Path, cache: Path) -> LitsData:
    return LitsData(root=str(root), cache_dir=str(cache), num_workers=0)


@pytest.fixture
def patients(tmp_path: Path, write_lits: Write) -> Path:
    for number in (1, 2, 3):
        write_lits(tmp_path / "raw", number)
    return tmp_path / "raw"


def test_the_second_load_reads_no_raw_file_and_writes_nothing(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    for number in (1, 2, 3):
        voxels = np.random.default_rng(number).integers(-150, 50, (64, 64, 40)).astype(np.int16)
        write_nifti(tmp_path / "raw" / f"volume-{number}.nii", voxels)
        write_nifti(tmp_path / "raw" / f"segmentation-{number}.nii", (voxels > 0).astype(np.uint8))
    first = lits(tmp_path / "raw", tmp_path).load()
    prepared = tmp_path / "prepared"
    times = written(prepared)
    before = bytes_read()
    second = lits(tmp_path / "raw", tmp_path).load()
    assert bytes_read() - before < voxels.nbytes
    assert second.store.folder == first.store.folder
    assert (second.spec, second.splits, second.store.records) == (first.spec, first.splits, first.store.records)
    assert written(prepared) == times


def written(prepared: Path) -> dict[Path, int]:
    """When each file and folder was last written; locks are touched at every start."""
    paths = [path for path in (prepared, *prepared.rglob("*")) if path.name not in (PREPARING, IN_USE)]
    return {path: path.stat().st_mtime_ns for path in paths}


def bytes_read() -> int:
    """What this process has asked the system to read so far."""
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


def test_a_file_exchanged_under_its_size_and_date_is_not_taken_for_the_old_one(patients: Path, tmp_path: Path) -> None:
    first = lits(patients, tmp_path).load()
    volume = patients / "volume-1.nii.gz"
    state = volume.stat()
    volume.write_bytes(b"x" * state.st_size)
    os.utime(volume, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DataError, match=r"volume-1\.nii\.gz"):
        lits(patients, tmp_path).load()
    assert Store(first.store.folder).image("volume-1").shape == (1, 6, 18, 20)


def test_the_same_files_elsewhere_are_the_same_data(patients: Path, tmp_path: Path) -> None:
    first = lits(patients, tmp_path).load()
    moved = patients.rename(tmp_path / "moved")
    second = lits(moved, tmp_path).load()
    assert second.store.folder == first.store.folder
    assert Path(second.store.records[0].image_file).parent == moved
    assert len(list((tmp_path / "prepared" / "entries").iterdir())) == 3


def test_a_changed_file_makes_another_store(patients: Path, tmp_path: Path, write_lits: Write) -> None:
    first = lits(patients, tmp_path).load()
    write_lits(patients, 2, offset=7)
    second = lits(patients, tmp_path).load()
    assert second.store.folder != first.store.folder and first.store.folder.is_dir()
    assert second.store.image("volume-2")[:].mean() == pytest.approx(first.store.image("volume-2")[:].mean() + 7)


def test_only_the_changed_case_is_prepared_again(patients: Path, tmp_path: Path, write_lits: Write) -> None:
    lits(patients, tmp_path).load()
    entries = tmp_path / "prepared" / "entries"
    before = {entry.name for entry in entries.iterdir()}
    write_lits(patients, 2, offset=7)
    lits(patients, tmp_path).load()
    (new,) = {entry.name for entry in entries.iterdir()} - before
    assert new.startswith("volume-2-")


def test_the_key_depends_on_settings_and_code(patients: Path, tmp_path: Path) -> None:
    def entries(**settings: Any) -> dict[str, str]:
        data = LitsData(root=str(patients), cache_dir=str(tmp_path), **settings)
        return Preparation(source=data, folder=tmp_path).entries(data.find_cases(patients))

    assert entries() == entries(patch_size=[16, 16], val_fraction=0.3)
    assert set(entries().values()).isdisjoint(entries(window_hu=[0, 100]).values())
    assert set(entries().values()).isdisjoint(entries(store_all_hu=True).values())
    assert len({reading_code(LitsData), reading_code(CrackData), reading_code(SatelliteData)}) == 3


def test_comments_and_docstrings_are_no_part_of_the_code(tmp_path: Path) -> None:
    texts = (
        "def f(x):\n    return x\n",
        '"""A."""\n\n\ndef f(x):\n    """B."""\n    return x  # c\n',
        "def f(x):\n    return -x\n",
    )
    versions = []
    for number, text in enumerate(texts):
        module = ModuleType("m")
        module.__file__ = str(tmp_path / f"{number}.py")
        (tmp_path / f"{number}.py").write_text(text)
        versions.append(code_version((module,)))
    assert versions[0] == versions[1] != versions[2]


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
            kept = np.clip(image, *data.clip) if data.kind == "volume" else image
            assert stored.dtype == image.dtype and np.array_equal(stored[:], kept)
            assert np.array_equal(data.store.mask(case.id)[:], mask)
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
    assert (
        rows[:, 0].tolist() == sorted(rows[:, 0])
        and set(rows[:, 0]) == {0, 1, 2}
        and (mask[tuple(rows[:, 1:].T)] == rows[:, 0]).all()
    )
    assert np.count_nonzero(rows[:, 0]) == np.count_nonzero(mask) and len({tuple(row) for row in rows}) == len(rows)


def test_beyond_the_window_is_kept_by_choice_and_changes_no_input(patients: Path, tmp_path: Path) -> None:
    window = {"window_hu": [-20.5, 30.25], "root": str(patients), "cache_dir": str(tmp_path), "num_workers": 0}
    clipped, whole = LitsData(**window).load(), LitsData(**window, store_all_hu=True).load()
    assert clipped.store.image("volume-1")[:].min() == -21 and clipped.store.image("volume-1")[:].max() == 31
    assert whole.store.image("volume-1")[:].min() < -100
    inputs = [next(iter(data._cases(data.store.records)))["image"] for data in (clipped, whole)]
    assert clipped.spec == whole.spec and torch.equal(*inputs)


def test_of_many_foreground_pixels_some_from_first_to_last_are_kept(tmp_path: Path) -> None:
    mask = np.ones((3, 60, 60), np.uint8)
    sample = Sample(np.zeros((1, *mask.shape), np.uint8), mask, mask > 0, (1.0, 1.0, 1.0))
    write_entry(tmp_path / "entry", lambda: sample, Layout(num_classes=3, clip=(None, None)))
    rows = np.load(tmp_path / "entry" / "foreground.npy")
    assert len(rows) == store_module.N_FOREGROUND
    assert rows[0].tolist() == [1, 0, 0, 0] and rows[-1].tolist() == [1, 2, 59, 59]


def test_all_bad_cases_are_named_at_once_and_the_good_ones_stay_prepared(patients: Path, tmp_path: Path) -> None:
    for number in (2, 3):
        file = patients / f"volume-{number}.nii.gz"
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError) as caught:
        lits(patients, tmp_path).load()
    assert "2 faults" in str(caught.value) and "volume-2" in str(caught.value) and "volume-3" in str(caught.value)
    assert "data.on_error=skip" in caught.value.fix
    (entry,) = (tmp_path / "prepared" / "entries").iterdir()
    assert entry.name.startswith("volume-1-")


@pytest.mark.parametrize("n_workers", [1, 2])
def test_bad_cases_are_set_aside_by_name(
    n_workers: int, patients: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (patients / "volume-2.nii.gz").write_bytes(b"no volume")
    data = lits(patients, tmp_path)
    preparation = Preparation(source=data, folder=tmp_path / "prepared", on_error="skip", n_workers=n_workers)
    with caplog.at_level("WARNING", logger="seglab"):
        store = preparation.store(data.find_cases(patients))
    assert [record.id for record in store.records] == ["volume-1", "volume-3"]
    assert "set aside" in caplog.text and "volume-2.nii.gz" in caplog.text


def test_nothing_is_left_where_no_case_is_good(patients: Path, tmp_path: Path) -> None:
    for file in patients.glob("volume-*"):
        file.write_bytes(b"no volume")
    data = LitsData(root=str(patients), cache_dir=str(tmp_path), on_error="skip")
    with pytest.raises(DataError, match="3 faults"):
        data.load()


def test_an_unknown_way_with_bad_cases_is_refused(patients: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.on_error=stop"):
        LitsData(root=str(patients), cache_dir=str(tmp_path), on_error="ignore").load()


def test_a_cut_file_is_named_and_leaves_nothing_behind(patients: Path, tmp_path: Path) -> None:
    whole = (patients / "volume-3.nii.gz").read_bytes()
    (patients / "volume-3.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"volume-3\.nii\.gz"):
        lits(patients, tmp_path).load()
    entries = list((tmp_path / "prepared" / "entries").iterdir())
    assert sorted(entry.name[:8] for entry in entries) == ["volume-1", "volume-2"]


def test_one_and_two_processes_and_a_kill_in_between_leave_the_same_bytes(patients: Path, tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    data = lits(patients, tmp_path)
    cases = data.find_cases(patients)
    folders = [tmp_path / name for name in ("one", "two", "killed")]
    for folder, n_workers in zip(folders, (1, 2, 2), strict=True):
        if folder.name == "killed":
            Preparation(source=data, folder=folder).store(cases[:1])
            remains = folder / "entries" / ".part-0123-volume-2"  # as a killed process leaves it
            remains.mkdir()
            (remains / "image.b2nd").write_bytes(b"half")
            os.utime(remains, (0, 0))
        Preparation(source=data, folder=folder, n_workers=n_workers).store(cases)
    for folder in folders:
        (folder / "hashes.json").unlink()
    one, two, killed = map(content, folders)
    assert one == two and one.items() <= killed.items() and not any(".part-" in name for name in killed)


def test_an_entry_that_another_process_finished_first_is_used(patients: Path, tmp_path: Path) -> None:
    data, layout = lits(patients, tmp_path), Layout(num_classes=3, clip=(-200, 250), compress=True)
    case, folder = data.find_cases(patients)[0], tmp_path / "entry"

    def read_while_another_writes() -> Sample:
        write_entry(folder, lambda: read_sample(data, case), layout)
        return read_sample(data, case)

    write_entry(folder, read_while_another_writes, layout)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".part", "entry"))] == ["entry"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_many_cases_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    for number in range(400):
        write_array(tmp_path / str(number), np.zeros((1, 2, 2), np.uint8), compress=number % 2 == 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(400):
        assert open_array(str(tmp_path), str(number))[0, 0, 0] == 0
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 300 < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("ends", [(-200, 250), (-32768, 32767)], ids=["CT in its window", "any"])
def test_a_box_is_the_same_from_either_layout(ends: tuple[int, int], compress: bool, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(*ends, (2, 19, 150, 170)).astype(np.int16)
    write_array(tmp_path / "a", array, compress=compress)
    stored = open_array(str(tmp_path), "a")
    assert stored.dtype == np.int16 and stored.shape == array.shape
    for start, stop in (((0, 0, 0), (19, 150, 170)), ((7, 3, 120), (9, 131, 129)), ((18, 149, 0), (19, 150, 170))):
        wanted = array[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
        assert np.array_equal(read_box(stored, start, stop), wanted)
    assert np.array_equal(read_box(stored, (5,), (8,)), array[..., 5:8])
    assert np.array_equal(stored[:], array) and np.array_equal(stored[1, 3:5, ..., 7], array[1, 3:5, ..., 7])


def test_the_code_behind_a_volume_is_that_of_all_its_formats() -> None:
    reached = formats_behind({volumes})
    assert {nifti, grid, dicom_files} <= reached and photo not in reached


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "without beginning": lambda file: file.write_bytes(bytes(600) + file.read_bytes()[600:]),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("compress", [True, False], ids=["volume", "photo"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_array_is_named_with_what_to_delete(damage: str, compress: bool, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 50, (1, 4, 90, 90)).astype(np.int16)
    write_array(tmp_path / "image", values, compress=compress)
    (file,) = tmp_path.iterdir()
    DAMAGES[damage](file)
    open_array.cache_clear()
    with pytest.raises(DataError, match="prepared data of a case is damaged") as caught:
        read_box(open_array(str(tmp_path), "image"), (0, 0, 0), (4, 90, 90))
    assert f"delete the folder {tmp_path}" in str(caught.value)
