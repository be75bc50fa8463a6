"""Every bad input is refused or repaired before training, with its file, the reason and a remedy; every twin passes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_archives import ARCHIVES, FILES, holds_a_zip
from bad_photos import PHOTOS
from bad_rasters import RASTERS
from bad_volumes import VOLUMES
from entry import Bad, Odd

from seglab.data.archives import Limits, unpack
from seglab.data.crack import CrackData
from seglab.data.lits import LitsData
from seglab.data.module import SegmentationData
from seglab.data.satellite import SatelliteData
from seglab.errors import DataError

Open = Callable[[Path], SegmentationData]
KEEP = {"num_workers": 0, "val_fraction": 0.0, "test_fraction": 0.0}


def lits(root: Path) -> SegmentationData:
    return LitsData(root=str(root), cache_dir=str(root.parent / "cache"), **KEEP).load()


def crack(root: Path) -> SegmentationData:
    return CrackData(root=str(root), cache_dir=str(root.parent / "cache"), **KEEP).load()


def satellite(root: Path) -> SegmentationData:
    colors = {"color_classes": {"water": "E2A929", "land": "8429F6"}, "void_colors": ["9B9B9B", "000000"]}
    return SatelliteData(root=str(root), cache_dir=str(root.parent / "cache"), **KEEP, **colors).load()


CASES = [
    (opened, entry) for opened, entries in ((lits, VOLUMES), (crack, PHOTOS), (satellite, RASTERS)) for entry in entries
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def of(kind: type) -> pytest.MarkDecorator:
    chosen = [pytest.param(opened, entry, id=entry.name) for opened, entry in CASES if isinstance(entry, kind)]
    return pytest.mark.parametrize(("opened", "entry"), chosen)


@of(Bad)
def test_the_twin_passes_and_the_bad_input_is_refused_with_file_reason_and_remedy(
    opened: Open, entry: Bad, root: Path
) -> None:
    entry.twin(root)
    assert opened(root).store.records
    entry.spoil(root)
    with pytest.raises(DataError, match=entry.reason) as caught:
        opened(root)
    assert entry.file in str(caught.value)
    assert caught.value.fix and caught.value.allowed


@of(Odd)
def test_the_odd_input_reads_exactly_like_its_twin(opened: Open, entry: Odd, root: Path) -> None:
    entry.twin(root)
    twin = opened(root).store
    entry.spoil(root)
    odd = opened(root).store
    assert odd.folder != twin.folder  # read anew
    assert [record.id for record in odd.records] == [record.id for record in twin.records]
    for record in twin.records:
        difference = np.abs(odd.image(record.id)[:].astype(float) - twin.image(record.id)[:])
        assert odd.image(record.id).shape == record.shape and difference.max() <= entry.tolerance
        assert np.array_equal(odd.mask(record.id)[:], twin.mask(record.id)[:])


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in ARCHIVES])
def test_the_good_archive_is_unpacked_and_the_bad_one_leaves_nothing_anywhere(entry: Bad, root: Path) -> None:
    limits = Limits(total_bytes=10_000_000, n_members=100, ratio=50, ratio_from=1_000_000)
    entry.twin(root)
    unpack(root / "archive.bin", root / "good", limits)
    assert {name: (root / "good" / name).read_bytes() for name in FILES} == FILES
    shutil.rmtree(root / "good")
    entry.spoil(root)
    with pytest.raises(DataError, match=entry.reason) as caught:
        unpack(root / "archive.bin", root / "deep" / "bad", limits)
    assert entry.file in str(caught.value)
    assert sorted(path.name for path in root.parent.rglob("*")) == ["archive.bin", "deep", "raw"]
    assert not Path("/tmp/escaped.txt").exists()


def test_a_tar_that_ends_with_a_zip_is_a_tar(root: Path) -> None:
    holds_a_zip(root)
    unpack(root / "archive.bin", root / "good")
    assert {path.name for path in (root / "good" / "set").iterdir()} == {"images", "masks", "readme", "inner.zip"}
    with pytest.raises(DataError, match="is there already"):
        unpack(root / "archive.bin", root / "good")


def test_there_are_as_many_bad_inputs_as_promised_and_no_name_twice() -> None:
    names = [entry.name for entry in [*(entry for _, entry in CASES), *ARCHIVES]]
    assert len(set(names)) == len(names)
    bad = [sum(isinstance(entry, Bad) for entry in entries) for entries in (VOLUMES, PHOTOS, RASTERS)]
    assert bad[0] >= 30 and bad[1] >= 25 and bad[2] >= 15 and len(ARCHIVES) >= 10
