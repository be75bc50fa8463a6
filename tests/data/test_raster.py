from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from seglab.data.formats import raster, raster_labels
from seglab.errors import DataError
from seglab.spec import IGNORE_INDEX

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_sentinel2 = pytest.mark.skipif(
    not (SHARED / "satellite/sentinel2").is_dir(), reason="shared/data/satellite/sentinel2 is missing"
)

NORTH_UP = Affine(10, 0, 465180, 0, -10, 5080250)
ROTATED = Affine.translation(465180, 5080250) @ Affine.rotation(30) @ Affine.scale(10, -5)
COLORS = ((0, 0, 0), (200, 0, 0), (0, 0, 200))


def save(
    path: Path,
    bands: np.ndarray,
    *,
    crs: str | None = "EPSG:32633",
    transform: Affine | None = NORTH_UP,
    nodata: float | None = None,
    **options: object,
) -> Path:
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=transform, nodata=nodata, **shape, **options
    ) as sink:
        sink.write(bands)
    return path


def ramp(dtype: str = "uint16", count: int = 4) -> np.ndarray:
    return np.arange(count * 5 * 6).reshape(count, 5, 6).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_bands_keep_their_type_and_order(dtype: str, tmp_path: Path) -> None:
    image, valid, geometry = raster.read_raster(save(tmp_path / "a.tif", ramp(dtype)))
    assert image.dtype == dtype and np.array_equal(image[:, 0], ramp(dtype))
    assert valid.shape == (1, 5, 6) and valid.all()
    assert geometry.shape == (5, 6) and geometry.spacing == (1, 10, 10)
    assert geometry.affine == ((10, 0, 465180), (0, -10, 5080250)) and "UTM zone 33N" in str(geometry.crs)


@pytest.mark.parametrize(("stored", "read"), [("int8", "int16"), ("int32", "float32"), ("float64", "float32")])
def test_other_numbers_are_widened_or_become_float32(stored: str, read: str, tmp_path: Path) -> None:
    image, _, _ = raster.read_raster(save(tmp_path / "a.tif", ramp(stored)))
    assert image.dtype == read and np.array_equal(image[:, 0], ramp(stored))


def test_spacing_of_a_rotated_raster_is_its_pixel_size(tmp_path: Path) -> None:
    _, _, geometry = raster.read_raster(save(tmp_path / "a.tif", ramp(), transform=ROTATED))
    assert geometry.spacing == pytest.approx((1, 5, 10))


def test_nodata_in_any_band_makes_a_pixel_invalid_and_its_values_zero(tmp_path: Path) -> None:
    bands = ramp("float32") + 1
    bands[2, 1, 3] = -9999
    image, valid, _ = raster.read_raster(save(tmp_path / "a.tif", bands, nodata=-9999))
    assert np.argwhere(~valid[0]).tolist() == [[1, 3]]
    assert (image[:, 0, 1, 3] == 0).all() and image.min() == 0


@pytest.mark.parametrize("nodata", [None, -9999, np.nan])
def test_nan_and_infinity_are_nodata(nodata: float | None, tmp_path: Path) -> None:
    bands = ramp("float32")
    bands[0, 0, 0], bands[3, 4, 5] = np.nan, np.inf
    image, valid, _ = raster.read_raster(save(tmp_path / "a.tif", bands, nodata=nodata))
    assert np.argwhere(~valid[0]).tolist() == [[0, 0], [4, 5]] and np.isfinite(image).all()


def test_transparency_is_no_channel_and_says_where_the_raster_is_valid(tmp_path: Path) -> None:
    bands = ramp("uint8")
    bands[3] = 255
    bands[3, 0, 1] = 0
    image, valid, _ = raster.read_raster(save(tmp_path / "a.tif", bands))  # GDAL tags four 8-bit bands as RGB and alpha
    assert image.shape == (3, 1, 5, 6) and np.argwhere(~valid[0]).tolist() == [[0, 1]]


def test_near_infrared_tagged_as_alpha_stays_a_channel_and_its_zeros_are_valid(tmp_path: Path) -> None:
    bands = ramp("uint8")
    bands[3, 0, 1] = 0
    path = save(tmp_path / "a.tif", bands)
    with rasterio.open(path) as source:
        assert source.colorinterp[3] == ColorInterp.alpha
    image, valid, _ = raster.read_raster(path)
    assert np.array_equal(image[:, 0], bands) and valid.all()


def test_a_mask_band_beside_the_bands_is_honoured(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", ramp())
    inside = np.full((5, 6), 255, np.uint8)
    inside[4, 0] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as sink:
        sink.write_mask(inside)
    assert np.argwhere(~raster.read_raster(path)[1][0]).tolist() == [[4, 0]]


@pytest.mark.parametrize(("crs", "transform"), [(None, NORTH_UP), ("EPSG:32633", None), (None, None)])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_a_place_is_refused_unless_allowed(
    crs: str | None, transform: Affine | None, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.tif", ramp(), crs=crs, transform=transform)
    with pytest.raises(DataError, match="no place on earth"):
        raster.read_raster(path)
    image, _, _ = raster.read_raster(path, require_crs=False)
    assert np.array_equal(image[:, 0], ramp())


@pytest.mark.parametrize("share", [0.1, 0.6, 0.97])
def test_a_cut_file_is_refused(share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 9999, (3, 64, 64)).astype(np.uint16)
    path = save(tmp_path / "a.tif", noise, compress="deflate")
    raster.read_raster(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="cannot be read as GeoTIFF"):
        raster.read_raster(path)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"<html>404</html>", "cannot be read")])
def test_what_is_no_raster_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        raster.read_raster(tmp_path / "a.tif")


def test_a_sparse_file_that_claims_120_gigabytes_is_refused(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        dtype="uint8",
        count=3,
        height=200_000,
        width=200_000,
        crs="EPSG:32633",
        transform=NORTH_UP,
        tiled=True,
        blockxsize=4096,
        blockysize=4096,
        sparse_ok=True,
    ):
        pass
    with pytest.raises(DataError, match="3 bands of 200000x200000"):
        raster.read_raster(tmp_path / "a.tif")


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="complex64"):
        raster.read_raster(save(tmp_path / "a.tif", ramp("complex64")))


def mask_of(*values: float, dtype: str = "uint8") -> np.ndarray:
    return np.array([[values]], dtype=dtype)


def test_mask_values_become_class_indices_by_position_and_nodata_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "m.tif", mask_of(20, 10, 30, 99), nodata=99)
    assert raster_labels.read_mask(path, values=(10, 20, 30)).tolist() == [[[1, 0, 2, IGNORE_INDEX]]]


def test_without_declared_values_the_value_is_the_class(tmp_path: Path) -> None:
    path = save(tmp_path / "m.tif", mask_of(0, 3, 7, np.nan, dtype="float32"))
    assert raster_labels.read_mask(path, values=None).tolist() == [[[0, 3, 7, IGNORE_INDEX]]]
    with pytest.raises(DataError, match=r"2\.5 \(1 pixels\), 300 \(1 pixels\)"):
        raster_labels.read_mask(save(tmp_path / "n.tif", mask_of(1, 2.5, 300, dtype="float32")), values=None)


def test_values_without_a_class_are_named_and_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.tif[\s\S]*40 \(2 pixels\)"):
        raster_labels.read_mask(save(tmp_path / "m.tif", mask_of(10, 40, 40)), values=(10, 20))


def test_a_class_that_is_also_nodata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unset-nodata"):
        raster_labels.read_mask(save(tmp_path / "m.tif", mask_of(0, 1), nodata=0), values=(0, 1))


def test_a_mask_of_several_bands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 bands"):
        raster_labels.read_mask(save(tmp_path / "m.tif", ramp("uint16")), values=None)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"transform": NORTH_UP @ Affine.translation(0.5, 0)}, "transform"),
        ({"transform": NORTH_UP @ Affine.scale(2, 2)}, "transform"),
        ({"transform": NORTH_UP @ Affine.translation(0, 1e-2)}, "transform"),
        ({"crs": "EPSG:32634"}, "crs"),
        ({"crs": None}, "crs"),
    ],
)
def test_a_mask_on_another_grid_is_refused(change: dict[str, object], part: str, tmp_path: Path) -> None:
    image = save(tmp_path / "a.tif", ramp())
    with pytest.raises(DataError, match=rf"given:   {part}: image [^;]*$"):
        raster_labels.check_same_grid(image, save(tmp_path / "m.tif", ramp("uint8", 1), **change))


def test_a_mask_of_another_size_is_refused_and_the_good_twin_passes(tmp_path: Path) -> None:
    image = save(tmp_path / "a.tif", ramp())
    with pytest.raises(DataError, match=r"shape: image \(5, 6\), mask \(4, 6\)"):
        raster_labels.check_same_grid(image, save(tmp_path / "m.tif", ramp("uint8", 1)[:, :4]))
    nudged = NORTH_UP @ Affine.translation(1e-8, 0)
    raster_labels.check_same_grid(image, save(tmp_path / "n.tif", ramp("uint8", 1), transform=nudged))


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("size", [(5, 6), (300, 270)])
@pytest.mark.parametrize("tags", ["Area", "Point"])
def test_labels_come_back_on_the_same_grid(
    transform: Affine, size: tuple[int, int], tags: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="rasterio")
    like = save(tmp_path / "a.tif", np.ones((2, *size), np.uint16), transform=transform)
    with rasterio.open(like, "r+") as sink:
        sink.update_tags(AREA_OR_POINT=tags)
    labels = (np.arange(size[0] * size[1]).reshape(1, *size) % 3).astype(np.uint8)
    target = tmp_path / "out" / "labels.tif"
    raster_labels.write_labels(labels, like, target, mask_values=(10, 20, 30), colors=COLORS)
    assert "GDAL signalled an error" not in caplog.text
    raster_labels.check_same_grid(like, target)
    with rasterio.open(like) as source, rasterio.open(target) as written:
        assert (written.crs, written.transform, written.shape) == (source.crs, source.transform, source.shape)
        assert written.tags()["AREA_OR_POINT"] == tags
        assert (written.dtypes, written.nodata, written.compression.value) == (("uint8",), 255, "DEFLATE")
        assert written.colormap(1)[20] == (200, 0, 0, 255) and written.colorinterp[0] == ColorInterp.palette
        assert np.array_equal(written.read(), labels * 10 + 10)
    assert np.array_equal(raster_labels.read_mask(target, values=(10, 20, 30)), labels)


def test_large_labels_are_written_in_tiles(tmp_path: Path) -> None:
    like = save(tmp_path / "a.tif", np.ones((1, 300, 270), np.uint8))
    raster_labels.write_labels(
        np.zeros((1, 300, 270), np.uint8), like, tmp_path / "b.tif", mask_values=(0,), colors=COLORS[:1]
    )
    with rasterio.open(tmp_path / "b.tif") as written:
        assert written.block_shapes == [(256, 256)]


def test_nodata_of_the_image_and_unknown_labels_are_written_as_nodata(tmp_path: Path) -> None:
    like = save(tmp_path / "a.tif", mask_of(1, 2, 3, np.nan, dtype="float32"), nodata=2)
    labels = np.array([[[1, 1, IGNORE_INDEX, 1]]], np.uint8)
    raster_labels.write_labels(labels, like, tmp_path / "b.tif", mask_values=(0, 1), nodata=200, colors=COLORS[:2])
    with rasterio.open(tmp_path / "b.tif") as written:
        assert written.nodata == 200 and written.read().tolist() == [[[1, 200, 200, 200]]]


def test_without_nodata_every_label_is_written(tmp_path: Path) -> None:
    like = save(tmp_path / "a.tif", mask_of(1, 2), nodata=2)
    labels = np.ones((1, 1, 2), np.uint8)
    raster_labels.write_labels(labels, like, tmp_path / "b.tif", mask_values=(0, 1), nodata=None, colors=COLORS[:2])
    with rasterio.open(tmp_path / "b.tif") as written:
        assert written.nodata is None and written.read().tolist() == [[[1, 1]]]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros((1, 4, 6), np.uint8)},
        {"labels": np.full((1, 5, 6), 3, np.uint8)},
        {"nodata": 1},
        {"mask_values": (0, 1, 1)},
        {"mask_values": (0, 1, 256)},
        {"colors": COLORS[:2]},
        {"target": "b.png"},
    ],
)
def test_labels_that_cannot_be_written_leave_no_file(change: dict[str, object], tmp_path: Path) -> None:
    like = save(tmp_path / "a.tif", ramp())
    wanted = {"labels": np.zeros((1, 5, 6), np.uint8), "nodata": 255, "mask_values": (0, 1, 2), "colors": COLORS}
    given = {**wanted, "target": "b.tif", **change}
    with pytest.raises(DataError, match="cannot be written"):
        raster_labels.write_labels(given.pop("labels"), like, tmp_path / given.pop("target"), **given)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_an_unwritable_target_leaves_no_file_behind(tmp_path: Path) -> None:
    like = save(tmp_path / "a.tif", ramp())
    (tmp_path / "taken.tif").mkdir()
    labels = np.zeros((1, 5, 6), np.uint8)
    with pytest.raises(OSError):
        raster_labels.write_labels(labels, like, tmp_path / "taken.tif", mask_values=(0, 1, 2), colors=COLORS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "taken.tif"]


@needs_sentinel2
def test_sentinel2_scenes_and_land_use_share_a_grid(tmp_path: Path) -> None:
    folder = SHARED / "satellite/sentinel2"
    image, valid, _ = raster.read_raster(folder / "s2_scene2.tif")
    assert image.shape == (13, 1, 101, 100) and image.dtype == np.uint16 and valid.all()
    for scene in sorted(folder.glob("s2_scene*.tif")):
        raster_labels.check_same_grid(scene, folder / "lulc.tif")
    mask = raster_labels.read_mask(folder / "lulc.tif", values=(2, 3, 4, 1, 8))
    assert np.count_nonzero(mask == IGNORE_INDEX) == 155
    colors = [(0, 100, 0), (160, 220, 80), (130, 120, 50), (180, 0, 0), (240, 200, 60)]
    target = tmp_path / "labels.tif"
    raster_labels.write_labels(mask, folder / "s2_scene2.tif", target, mask_values=(2, 3, 4, 1, 8), colors=colors)
    raster_labels.check_same_grid(folder / "lulc.tif", target)
    assert np.array_equal(raster_labels.read_mask(target, values=(2, 3, 4, 1, 8)), mask)
