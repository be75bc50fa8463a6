from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from seglab.data.lits import LitsData
from seglab.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "lits"
Write = Callable[..., Path]


def lits(root: Path, **settings: object) -> LitsData:
    return LitsData(**{"root": str(root), "cache_dir": str(root.parent / "cache"), "num_workers": 0} | settings)


def test_volumes_are_found_flat_and_in_training_batch_folders_zipped_or_not(
    tmp_path: Path, write_lits: Callable[..., tuple[Path, Path]]
) -> None:
    root = tmp_path / "raw"
    write_lits(root, 0)
    write_lits(root / "Training Batch 1", 10, suffix=".nii")
    write_lits(root / "Training Batch 2", 9)
    (root / "README.txt").write_text("volume-99 is not here")
    cases = lits(root).find_cases(root)
    assert [(case.id, case.group) for case in cases] == [("volume-0", "0"), ("volume-10", "10"), ("volume-9", "9")]
    assert [case.image_file.parent.name for case in cases] == ["raw", "Training Batch 1", "Training Batch 2"]
    assert cases[1].mask_file.name == "segmentation-10.nii"
    data = lits(root).load()
    assert {len(groups) for groups in data.splits.values()} == {1}


def test_a_pair_may_lie_in_different_folders(tmp_path: Path, write_lits: Callable[..., tuple[Path, Path]]) -> None:
    _, mask = write_lits(tmp_path / "volumes", 4)
    (tmp_path / "masks").mkdir()
    mask.rename(tmp_path / "masks" / mask.name)
    assert [case.id for case in lits(tmp_path).find_cases(tmp_path)] == ["volume-4"]


def test_every_patient_has_the_liver_on_the_right_and_the_front_on_top(ct_root: Path, cache_dir: Path) -> None:
    data = lits(ct_root, cache_dir=str(cache_dir), store_all_hu=True).load()
    orders = {nib.aff2axcodes(nib.load(record.image_file).affine) for record in data.store.records}
    assert len(orders) > 1  # files differ in axis order, arrays do not
    for record in data.store.records:
        body = data.store.image(record.id)[0] > -300
        liver = data.store.mask(record.id)[:] > 0
        assert np.argwhere(liver)[:, 2].mean() < np.argwhere(body)[:, 2].mean() - 5, record.id  # W: right to left
        bone = np.argwhere(data.store.image(record.id)[0] > 250)[:, 1]
        assert bone.mean() > np.argwhere(body)[:, 1].mean(), record.id  # H: the spine lies at the back


def test_voxels_come_in_radiological_order(tmp_path: Path, write_nifti: Write) -> None:
    voxels = np.full((4, 5, 6), -1000, np.int16)  # RAS: x to the right, y to the front, z up
    voxels[3, 4, 0], voxels[0, 0, 0] = 77, -990  # rightmost, foremost, lowest; and some noise
    image, valid, spacing = lits(tmp_path).read_image(write_nifti(tmp_path / "a.nii", voxels, np.diag([1, 2, 3, 1.0])))
    assert image.shape == (1, 6, 5, 4) and image[0, 0, 0, 0] == 77
    assert valid.all() and valid.shape == (6, 5, 4) and spacing == (3.0, 2.0, 1.0)


def test_lonely_volumes_and_segmentations_are_named(
    tmp_path: Path, write_lits: Callable[..., tuple[Path, Path]]
) -> None:
    for number, half in ((1, 1), (2, 0)):
        write_lits(tmp_path, number)[half].unlink()
    with pytest.raises(DataError) as error:
        lits(tmp_path).load()
    assert "volume-1.nii.gz" in error.value.given and "segmentation-2.nii.gz" in error.value.given


def broken(root: Path, write_nifti: Write, part: str, array: np.ndarray, affine: np.ndarray | None = None) -> LitsData:
    write_nifti(root / f"{part}-2.nii.gz", array, affine)
    return lits(root, val_fraction=0.0, test_fraction=0.0)


@pytest.fixture
def pair(tmp_path: Path, write_lits: Callable[..., tuple[Path, Path]]) -> Path:
    """Two good patients of 20 x 18 x 6 voxels."""
    write_lits(tmp_path / "raw", 1)
    write_lits(tmp_path / "raw", 2)
    return tmp_path / "raw"


def test_a_mask_value_without_a_class_is_named_with_its_file(pair: Path, write_nifti: Write) -> None:
    mask = np.zeros((20, 18, 6), np.uint8)
    mask[:2, 0, 0] = 3
    with pytest.raises(DataError, match=r"segmentation-2\.nii\.gz holds mask values[\s\S]*3 \(2 pixels\)"):
        broken(pair, write_nifti, "segmentation", mask).load()


def test_a_mask_of_another_size_is_refused(pair: Path, write_nifti: Write) -> None:
    with pytest.raises(DataError, match=r"segmentation-2[\s\S]*image 6x18x20, mask 5x18x20"):
        broken(pair, write_nifti, "segmentation", np.zeros((20, 18, 5), np.uint8)).load()


@pytest.mark.parametrize(
    ("affine", "part"),
    [(np.diag([1.0, 1, 1.5, 1]), "spacing"), (np.diag([-1.0, 1, 1, 1]), "origin")],
)
def test_a_mask_that_lies_elsewhere_is_refused(affine: np.ndarray, part: str, pair: Path, write_nifti: Write) -> None:
    with pytest.raises(DataError, match=rf"segmentation-2.* and its image .* differ in .*{part}"):
        broken(pair, write_nifti, "segmentation", np.zeros((20, 18, 6), np.uint8), affine).load()


def test_a_volume_with_nan_is_refused(pair: Path, write_nifti: Write) -> None:
    volume = np.zeros((20, 18, 6), np.float32)
    volume[0, 0, :3] = np.nan
    with pytest.raises(DataError, match=r"volume-2[\s\S]*3 of 2160 voxels are NaN"):
        broken(pair, write_nifti, "volume", volume).load()


@pytest.mark.parametrize("name", ["volume-2.nii.gz", "segmentation-2.nii.gz"])
def test_a_cut_file_is_refused_by_name(name: str, pair: Path) -> None:
    content = (pair / name).read_bytes()
    (pair / name).write_bytes(content[:-20])
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        lits(pair).load()


def test_a_missing_root_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing[\s\S]*data\.root=phantom"):
        lits(tmp_path / "none").load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no volume-\*\.nii[\s\S]*an empty folder[\s\S]*data\.root=phantom"):
        lits(tmp_path / "empty").load()


@pytest.mark.parametrize("settings", [{"n_slices": 2}, {"n_slices": 0}, {"n_slices": -1}, {"n_slices": 3, "dims": 3}])
def test_an_even_number_of_slices_and_slices_of_volumes_are_refused(settings: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.n_slices="):
        lits(tmp_path, **settings)


@pytest.mark.parametrize("window", [[250, -200], [0, 0], [1], [float("nan"), 1]])
def test_an_empty_window_is_refused(window: list[float], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.window_hu="):
        lits(tmp_path, window_hu=window)


def test_the_window_clips_and_is_part_of_the_spec(pair: Path) -> None:
    data = lits(pair, window_hu=[-100, 60], val_fraction=0.0, test_fraction=0.0).load()
    stored = np.concatenate([data.store.image(record.id)[:].ravel() for record in data.store.records]).clip(-100, 60)
    intensity = data.spec.intensity
    assert (intensity.low, intensity.high) == (-100, 60)
    assert intensity.mean == pytest.approx([stored.mean()]) and intensity.std == pytest.approx([stored.std()])


def test_labels_return_to_the_grid_of_the_file(ct_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    data = lits(ct_root, cache_dir=str(cache_dir)).load()
    for record in data.store.records[:4]:
        mask = np.array(data.store.mask(record.id))
        written = data.write_labels(mask, Path(record.image_file), tmp_path / record.id, data.spec)
        assert written.name == f"{record.id}.nii.gz"
        found, wanted = nib.load(written), nib.load(record.mask_file)
        assert np.array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
        assert np.allclose(found.affine, nib.load(record.image_file).affine)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/lits is missing")
def test_the_real_files_load_with_both_axis_orders(tmp_path: Path) -> None:
    data = lits(SHARED, cache_dir=str(tmp_path), val_fraction=0.0, test_fraction=0.5, n_slices=3).load()
    shapes = {record.id: record.shape for record in data.store.records}
    assert shapes == {"volume-1": (1, 20, 512, 512), "volume-2": (1, 112, 101, 122)}
    assert all(record.class_pixels[1] > 0 and record.class_pixels[2] == 0 for record in data.store.records)
    for record in data.store.records:
        body, liver = data.store.image(record.id)[0] > -300, data.store.mask(record.id)[:] > 0
        assert np.nonzero(liver)[2].mean() < np.nonzero(body)[2].mean()
    assert data.spec.in_channels == 3 and next(iter(data.train_dataloader()))["image"].shape[1] == 3
