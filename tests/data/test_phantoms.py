"""The phantoms hold what they promise: real formats, right geometry, plausible values, not solvable by a threshold."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image
from scipy import ndimage

from seglab.data.phantoms import cracks, ct, scenes

N_PATIENTS, N_PHOTOS, N_SCENES = 8, 8, 5


@pytest.fixture(scope="module")
def ct_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    ct.write(folder, n_patients=N_PATIENTS)
    return folder


@pytest.fixture(scope="module")
def crack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cracks")
    cracks.write(folder, n_photos=N_PHOTOS)
    return folder


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    scenes.write(folder, n_scenes=N_SCENES)
    return folder


def _array(file: Path) -> np.ndarray:
    if file.name.endswith(".nii.gz"):
        return np.asarray(nib.load(file).dataobj)
    if file.suffix == ".tif":
        with rasterio.open(file) as raster:
            return raster.read()
    return np.asarray(Image.open(file))


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    files = [file for file in sorted(folder.rglob("*")) if file.name.endswith((".nii.gz", ".tif", ".png"))]
    return {str(file.relative_to(folder)): _array(file) for file in files}


def _canonical(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    images = [nib.load(folder / f"{part}-{number}.nii.gz") for part in ("volume", "segmentation")]
    hu, labels = (np.asarray(nib.as_closest_canonical(image).dataobj) for image in images)
    return hu, labels


def _best_window_dice(values: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> float:
    hits = np.concatenate([[0], np.histogram(values[truth], edges)[0].cumsum()])
    chosen = np.concatenate([[0], np.histogram(values, edges)[0].cumsum()])
    inside, marked = hits[None] - hits[:, None], chosen[None] - chosen[:, None]
    return float((2 * inside / np.maximum(marked + truth.sum(), 1)).max())


@pytest.mark.parametrize(
    ("write", "n_files"),
    [
        (lambda folder, seed: ct.write(folder, seed=seed, n_patients=1), 2),
        (lambda folder, seed: cracks.write(folder, seed=seed, n_photos=1), 8),
        (lambda folder, seed: scenes.write(folder, seed=seed, n_scenes=1), 2),
    ],
    ids=["ct", "cracks", "scenes"],
)
def test_a_seed_fixes_every_array_and_another_seed_changes_them(
    write: Callable[[Path, int], None], n_files: int, tmp_path: Path
) -> None:
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        write(tmp_path / name, seed)
    first, again, other = (_arrays(tmp_path / name) for name in ("first", "again", "other"))
    assert len(first) == n_files and first.keys() == again.keys() == other.keys()
    assert all(np.array_equal(first[name], again[name]) and first[name].dtype == again[name].dtype for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first if "mask" not in name)


def test_an_item_does_not_depend_on_how_many_are_written(tmp_path: Path, crack_dir: Path, scene_dir: Path) -> None:
    cracks.write(tmp_path / "cracks", n_photos=1)
    scenes.write(tmp_path / "scenes", n_scenes=1)
    for folder, whole in ((tmp_path / "cracks", crack_dir), (tmp_path / "scenes", scene_dir)):
        assert all(np.array_equal(array, _array(whole / name)) for name, array in _arrays(folder).items())


def test_ct_stores_int16_hu_and_three_labels_under_one_affine(ct_dir: Path) -> None:
    seen: set[int] = set()
    for number in range(N_PATIENTS):
        volume, labels = (nib.load(ct_dir / f"{part}-{number}.nii.gz") for part in ("volume", "segmentation"))
        assert volume.get_data_dtype() == np.int16 and labels.get_data_dtype() == np.uint8
        assert volume.shape == labels.shape and np.array_equal(volume.affine, labels.affine)
        seen |= set(np.unique(np.asarray(labels.dataobj)).tolist())
    assert seen == {0, 1, 2}


def test_ct_differs_in_size_spacing_origin_and_axis_order(ct_dir: Path) -> None:
    images = [nib.load(ct_dir / f"volume-{number}.nii.gz") for number in range(N_PATIENTS)]
    assert len({image.shape for image in images}) == N_PATIENTS
    assert len({tuple(image.affine[:3, 3]) for image in images}) == N_PATIENTS
    codes = {"".join(nib.aff2axcodes(image.affine)) for image in images}
    assert {"LPS", "RAS", "LAS"} < codes and any(code[0] in "SI" for code in codes)
    zooms = [nib.as_closest_canonical(image).header.get_zooms() for image in images]
    assert len({zoom[0] for zoom in zooms}) >= 5 and len({zoom[2] for zoom in zooms}) >= 4
    assert all(0.69 < zoom[0] < 2.51 and zoom[0] == zoom[1] and 1.99 < zoom[2] < 5.01 for zoom in zooms)


def test_liver_lies_on_the_patients_right_and_spleen_on_the_left_in_world_axes(ct_dir: Path) -> None:
    for number in range(N_PATIENTS):
        hu, labels = _canonical(ct_dir, number)
        body = np.argwhere(hu > -200).mean(axis=0)
        liver = np.argwhere(labels > 0).mean(axis=0)
        bone = np.argwhere(hu > 250).mean(axis=0)
        assert liver[0] > body[0] + 0.1 * hu.shape[0]  # RAS: the first axis grows to the patient's right
        assert bone[1] < body[1]  # the second grows to the front
        smooth = ndimage.gaussian_filter(hu.astype(float), (2, 2, 0))
        far_left = smooth[: int(0.35 * hu.shape[0])]
        assert (np.abs(far_left - 107) < 12).mean() > 0.01  # as bright as liver, on the other side


def test_liver_changes_sides_in_raw_index_space(ct_dir: Path) -> None:
    sides = set()
    for number in range(N_PATIENTS):
        labels = _array(ct_dir / f"segmentation-{number}.nii.gz")
        sides.add(tuple((np.argwhere(labels > 0).mean(axis=0) / labels.shape > 0.56).tolist()))
    assert len(sides) >= 3


def test_top_slices_hold_lung_and_some_slices_no_liver(ct_dir: Path) -> None:
    for number in range(N_PATIENTS):
        hu, labels = _canonical(ct_dir, number)
        with_liver = (labels > 0).any(axis=(0, 1))
        assert 0.6 < with_liver.mean() < 1
        middle = hu[40:-40, 40:-40]
        assert (middle[..., -1] < -600).mean() > (middle[..., 2] < -600).mean() + 0.1


def test_tumours_are_common_and_wrapped_in_liver(ct_dir: Path) -> None:
    n_with_tumour = 0
    for number in range(N_PATIENTS):
        _, labels = _canonical(ct_dir, number)
        tumour = labels == 2
        n_with_tumour += bool(tumour.any())
        assert (labels[ndimage.binary_dilation(tumour)] > 0).all()
        assert tumour.sum() < 0.35 * (labels > 0).sum()
    assert 0.75 * N_PATIENTS <= n_with_tumour < N_PATIENTS


def test_hounsfield_units_are_near_those_of_tissue(ct_dir: Path) -> None:
    for number in range(N_PATIENTS):
        hu, labels = _canonical(ct_dir, number)
        inner = ndimage.binary_erosion(labels == 1, iterations=2)
        assert abs(float(np.median(hu[inner])) - 110) < 12 and 11 < float(hu[inner].std()) < 22
        assert abs(float(np.median(hu[:4, :4])) + 1000) < 15
        if (labels == 2).any():
            assert abs(float(np.median(hu[labels == 2])) - 60) < 15


def test_no_intensity_window_finds_liver_or_tumour(ct_dir: Path) -> None:
    pairs = [_canonical(ct_dir, number) for number in range(N_PATIENTS)]
    hu = np.concatenate([pair[0].ravel() for pair in pairs])
    labels = np.concatenate([pair[1].ravel() for pair in pairs])
    edges = np.arange(-60, 261, 4)
    assert _best_window_dice(hu, labels > 0, edges) < 0.85
    assert _best_window_dice(hu, labels == 2, edges) < 0.2
    assert 0.02 < (labels == 1).mean() < 0.15 and 0.0003 < (labels == 2).mean() < 0.02


def test_crack_masks_match_their_images_and_are_binary(crack_dir: Path) -> None:
    images = sorted((crack_dir / "images").iterdir())
    assert len(images) == 4 * N_PHOTOS
    for file in images:
        image, mask = _array(file), _array(crack_dir / "masks" / file.name)
        assert image.shape == (192, 192, 3) and image.dtype == np.uint8
        assert mask.shape == (192, 192) and set(np.unique(mask)) <= {0, 255}


def test_groups_name_the_photo_of_every_patch(crack_dir: Path) -> None:
    lines = (crack_dir / "groups.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "file,group"
    pairs = [line.split(",") for line in lines[1:]]
    assert {file for file, _ in pairs} == {file.name for file in (crack_dir / "images").iterdir()}
    groups = [group for _, group in pairs]
    assert len(set(groups)) == N_PHOTOS and all(groups.count(group) == 4 for group in groups)


def test_cracks_are_thin_darker_than_beside_them_and_sometimes_absent(crack_dir: Path) -> None:
    masks = [_array(file) > 0 for file in sorted((crack_dir / "masks").iterdir())]
    images = [_array(file).mean(axis=-1) for file in sorted((crack_dir / "images").iterdir())]
    shares = np.array([mask.mean() for mask in masks])
    assert 0.02 < shares.mean() < 0.06 and 0.05 < (shares == 0).mean() < 0.2
    for image, mask in zip(images, masks, strict=True):
        if mask.any():
            beside = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
            assert image[mask].mean() < image[beside].mean()
            assert 2 * ndimage.distance_transform_edt(mask).max() < 22  # where branches meet, else 8 px


def test_no_darkness_threshold_finds_cracks(crack_dir: Path) -> None:
    arrays = _arrays(crack_dir)
    names = [file.name for file in (crack_dir / "images").iterdir()]
    grey = np.concatenate([arrays[f"images/{name}"].mean(axis=-1).ravel() for name in names])
    truth = np.concatenate([arrays[f"masks/{name}"].ravel() > 0 for name in names])
    assert _best_window_dice(grey, truth, np.arange(0, 257, 4)) < 0.6


def test_scene_and_mask_share_size_crs_and_transform(scene_dir: Path) -> None:
    zones, origins, shapes = set(), set(), set()
    for file in sorted((scene_dir / "images").iterdir()):
        with rasterio.open(file) as image, rasterio.open(scene_dir / "masks" / file.name) as mask:
            assert (image.shape, image.crs, image.transform) == (mask.shape, mask.crs, mask.transform)
            assert image.dtypes == ("uint16",) * 4 and mask.dtypes == ("uint8",)
            assert set(image.block_shapes) == {(128, 128)}
            assert image.descriptions == ("blue", "green", "red", "nir")
            assert image.nodata == 0 and mask.nodata == 255 and image.res == (10.0, 10.0)
            zones.add(image.crs.to_epsg())
            origins.add((image.transform.c, image.transform.f))
            shapes.add(image.shape)
    assert zones == {32632, 32633} and len(origins) == N_SCENES and len(shapes) >= 2


def test_nodata_of_image_and_mask_coincide(scene_dir: Path) -> None:
    holes = []
    for file in sorted((scene_dir / "images").iterdir()):
        bands, labels = _array(file), _array(scene_dir / "masks" / file.name)[0]
        assert np.array_equal((bands == 0).all(axis=0), labels == 255)
        assert np.array_equal((bands == 0).any(axis=0), labels == 255)
        holes.append(float((labels == 255).mean()))
    assert min(holes) == 0 and 0.01 < max(holes) < 0.3


def test_every_scene_holds_every_class_and_no_other_label(scene_dir: Path) -> None:
    assert len(scenes.CLASS_NAMES) == len(scenes.CLASS_COLORS) == 5
    for file in sorted((scene_dir / "masks").iterdir()):
        values = set(np.unique(_array(file)).tolist())
        assert set(range(5)) <= values <= {*range(5), 255}


def test_vegetation_index_ranks_field_over_bare_land_over_water(scene_dir: Path) -> None:
    for file in sorted((scene_dir / "images").iterdir()):
        bands, labels = _array(file).astype(float), _array(scene_dir / "masks" / file.name)[0]
        ndvi = (bands[3] - bands[2]) / np.maximum(bands[3] + bands[2], 1)
        mean = [float(ndvi[labels == index].mean()) for index in range(5)]
        field, water = scenes.CLASS_NAMES.index("field"), scenes.CLASS_NAMES.index("water")
        assert mean[field] > 0.45 > 0.35 > mean[0] > 0 > mean[water]
        assert bands[3][labels == water].mean() < 0.5 * bands[3][labels == 0].mean()


def test_colour_alone_confuses_roads_with_soil_and_some_fields_with_water(scene_dir: Path) -> None:
    images = [_array(file) for file in sorted((scene_dir / "images").iterdir())]
    masks = [_array(file)[0] for file in sorted((scene_dir / "masks").iterdir())]
    pixels = np.concatenate([bands.reshape(4, -1) for bands in images], axis=1)
    labels = np.concatenate([mask.ravel() for mask in masks])
    for name, limit in (("road", 0.5), ("building", 0.5)):
        truth = labels == scenes.CLASS_NAMES.index(name)
        assert max(_best_window_dice(band, truth, np.arange(0, 5001, 50)) for band in pixels) < limit
    nir, is_water = pixels[3], labels == scenes.CLASS_NAMES.index("water")
    flooded = (labels == scenes.CLASS_NAMES.index("field")) & (nir < 1300)
    assert flooded.sum() > 0.02 * is_water.sum()
