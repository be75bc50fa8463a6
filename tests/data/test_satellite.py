from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from seglab.data.satellite import SatelliteData, parse_color
from seglab.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "satellite" / "dubai"
COLORS = {
    "water": "E2A929",
    "land": "8429F6",
    "road": "6EC1E4",
    "building": "3C1098",
    "vegetation": "FEDD3A",
}
VOID = ["9B9B9B", "000000"]
WriteRaster, WritePicture = Callable[..., Path], Callable[..., Path]


def satellite(root: Path, **settings: object) -> SatelliteData:
    defaults = {"root": str(root), "cache_dir": str(root / "cache"), "num_workers": 0}
    return SatelliteData(**defaults | settings)


def tiles(root: Path, **settings: object) -> SatelliteData:
    return satellite(root, **{"color_classes": COLORS, "void_colors": VOID} | settings)


# GeoTIFF with class numbers.


def test_nodata_counts_in_no_score_and_reaches_no_network(scene_root: Path, cache_dir: Path) -> None:
    data = satellite(scene_root, cache_dir=str(cache_dir)).load()
    assert data.spec.in_channels == 4 and data.spec.class_names[0] == "other" and not data.spec.has_background
    n_void = 0
    for record in data.store.records:
        image, mask = data.store.image(record.id), data.store.mask(record.id)
        n_void += int((mask == 255).sum())
        assert (image[:, mask == 255] == 0).all() and sum(record.class_pixels) == (mask != 255).sum()
        assert record.moments.n <= (mask != 255).sum() and record.spacing[1:] == (10.0, 10.0)
    assert n_void > 0


def test_nodata_of_the_image_is_ignored_whatever_the_mask_says(tmp_path: Path, write_raster: WriteRaster) -> None:
    bands = np.full((2, 16, 16), 7, np.uint16)
    bands[0, :3], bands[1, :, :2] = 9999, 9999
    write_raster(tmp_path / "images" / "a.tif", bands, nodata=9999)
    write_raster(tmp_path / "masks" / "a.tif", np.ones((1, 16, 16), np.uint8))
    data = satellite(tmp_path, val_fraction=0.0, test_fraction=0.0).load()
    mask = data.store.mask("a")[0]
    assert (mask[:3] == 255).all() and (mask[:, :2] == 255).all() and (mask[3:, 2:] == 1).all()
    assert data.store.image("a").max() == 7 and data.spec.intensity.mean == (7.0, 7.0)


@pytest.fixture
def scenes(tmp_path: Path, write_raster: WriteRaster) -> Path:
    """Three scenes of two bands, 24 x 16 pixels, class 0 and 1."""
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 3000, (2, 24, 16)).astype(np.uint16)
        write_raster(tmp_path / "images" / f"s{number}.tif", image)
        write_raster(tmp_path / "masks" / f"s{number}.tif", (image[:1] > 1500).astype(np.uint8))
    return tmp_path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_geotiff_without_crs_is_refused_unless_it_is_allowed(scenes: Path, write_raster: WriteRaster) -> None:
    for part, bands in (("images", 2), ("masks", 1)):
        write_raster(scenes / part / "s1.tif", np.zeros((bands, 24, 16), np.uint8), crs=None)
    with pytest.raises(DataError, match=r"images.s1\.tif has no place on earth[\s\S]*data\.require_crs=false"):
        satellite(scenes).load()
    assert len(satellite(scenes, require_crs=False).load().store.records) == 3
    with pytest.raises(DataError, match="no place on earth"):
        satellite(scenes).load()  # what was prepared without the rule does not answer for it


def test_a_mask_half_a_pixel_off_is_refused(scenes: Path, write_raster: WriteRaster) -> None:
    write_raster(scenes / "masks" / "s2.tif", np.zeros((1, 24, 16), np.uint8), west=500_005.0)
    with pytest.raises(DataError, match=r"s2\.tif[\s\S]*transform"):
        satellite(scenes).load()


def test_another_number_of_bands_is_refused(scenes: Path, write_raster: WriteRaster) -> None:
    write_raster(scenes / "images" / "s0.tif", np.zeros((3, 24, 16), np.uint16))
    with pytest.raises(DataError, match=r"different numbers of channels[\s\S]*2: .*s2\.tif; 3: .*s0\.tif"):
        satellite(scenes).load()


def test_a_class_number_without_a_name_is_refused(scenes: Path, write_raster: WriteRaster) -> None:
    write_raster(scenes / "masks" / "s0.tif", np.full((1, 24, 16), 5, np.uint8))
    with pytest.raises(DataError, match=r"s0\.tif holds mask values[\s\S]*5 \(384 pixels\)"):
        satellite(scenes).load()
    longer = ["a", "b", "c", "d", "e", "f"]
    assert satellite(scenes, index_classes=longer).load().store.records[0].class_pixels[5] == 384


def test_hidden_files_are_no_rasters(scenes: Path) -> None:
    (scenes / "images" / "._s0.tif").write_bytes(b"written by a file manager")
    assert [case.id for case in satellite(scenes).find_cases(scenes)] == ["s0", "s1", "s2"]


def test_labels_return_to_the_grid_with_nodata(scene_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    data = satellite(scene_root, cache_dir=str(cache_dir)).load()
    for record in data.store.records[:2]:
        labels = np.array(data.store.mask(record.id))
        written = data.write_labels(labels, Path(record.image_file), tmp_path / record.id, data.spec)
        with rasterio.open(written) as found, rasterio.open(record.mask_file) as wanted:
            assert np.array_equal(found.read(), wanted.read()) and found.nodata == 255
            assert (found.crs, found.transform) == (wanted.crs, wanted.transform)


# Pictures with colours, one folder per scene.


def rgb(text: str) -> list[int]:
    return list(bytes.fromhex(text))


@pytest.fixture
def dubai(tmp_path: Path, write_picture: WritePicture) -> Path:
    """Three tiles of two parts, 20 x 30; columns of all classes and both voids; the masks of Tile 2 have a palette."""
    colors = [rgb(text) for text in (*COLORS.values(), *VOID)]
    plane = np.repeat(np.arange(30) % len(colors), 20).reshape(30, 20).T.astype(np.uint8)
    for tile in (1, 2, 3):
        for part in (1, 2):
            photo = np.random.default_rng(10 * tile + part).integers(0, 255, (20, 30, 3), dtype=np.uint8)
            write_picture(tmp_path / f"Tile {tile}" / "images" / f"image_part_00{part}.jpg", photo)
            mask_file = tmp_path / f"Tile {tile}" / "masks" / f"image_part_00{part}.png"
            if tile == 2:
                mask_file.parent.mkdir(exist_ok=True)
                picture = Image.fromarray(7 + plane)
                picture.putpalette([0, 0, 0] * 7 + [channel for color in colors for channel in color])
                picture.save(mask_file)
            else:
                write_picture(mask_file, np.array(colors, np.uint8)[plane])
    return tmp_path


def test_colours_become_classes_in_rgb_and_palette_masks_alike(dubai: Path) -> None:
    data = tiles(dubai).load()
    assert data.spec.class_names == tuple(COLORS) and data.spec.class_colors[0] == (0xE2, 0xA9, 0x29)
    wanted = np.broadcast_to(np.array([0, 1, 2, 3, 4, 255, 255] * 5)[:30], (20, 30))
    for record in data.store.records:
        assert np.array_equal(data.store.mask(record.id)[0], wanted)
        assert record.shape == (3, 1, 20, 30)


def test_the_parts_of_a_tile_stay_together(dubai: Path) -> None:
    data = tiles(dubai, val_fraction=0.3, test_fraction=0.3).load()
    assert [record.id for record in data.store.records][:2] == ["Tile_1-image_part_001", "Tile_1-image_part_002"]
    assert [len(groups) for groups in data.splits.values()] == [1, 1, 1]
    assert all(len(data.records[split]) == 2 for split in data.splits)


def test_the_second_load_of_colours_uses_the_store_and_another_colour_table_does_not(dubai: Path) -> None:
    first = tiles(dubai).load()
    assert tiles(dubai).load().store.folder == first.store.folder
    with pytest.raises(DataError, match=r"#000000 \(80 pixels\)"):
        tiles(dubai, void_colors=["9B9B9B"]).load()


def test_an_unknown_colour_is_named_with_its_file(dubai: Path) -> None:
    file = dubai / "Tile 3" / "masks" / "image_part_002.png"
    mask = np.array(Image.open(file))
    mask[0, :4] = (1, 2, 3)
    Image.fromarray(mask).save(file)
    with pytest.raises(DataError, match=r"image_part_002\.png holds colours[\s\S]*#010203 \(4 pixels\)"):
        tiles(dubai).load()


def test_numbers_and_colours_in_one_data_set_are_refused(dubai: Path, write_raster: WriteRaster) -> None:
    for part, bands in (("images", 3), ("masks", 1)):
        write_raster(dubai / "Tile 4" / part / "a.tif", np.zeros((bands, 16, 16), np.uint8))
    with pytest.raises(DataError, match=r"class numbers and masks with colours[\s\S]*\.png, \.tif"):
        tiles(dubai).load()


def test_pictures_may_hold_class_numbers(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "images" / "a.jpg", np.zeros((16, 16, 3), np.uint8))
    write_picture(tmp_path / "masks" / "a.png", np.arange(256, dtype=np.uint8).reshape(16, 16) % 3)
    data = satellite(tmp_path, val_fraction=0.0, test_fraction=0.0).load()
    assert data.store.records[0].class_pixels == (86, 85, 85, 0, 0) and data.spec.class_names[1] == "field"


def test_two_cases_of_one_name_are_refused(dubai: Path) -> None:
    (dubai / "Tile 2").rename(dubai / "Tile_1")
    with pytest.raises(DataError, match=r"two cases get the same name[\s\S]*Tile 1[\s\S]*Tile_1"):
        tiles(dubai).load()


def test_labels_of_pictures_are_written_in_the_colours_of_the_masks(dubai: Path, tmp_path: Path) -> None:
    data = tiles(dubai).load()
    labels = np.arange(600, dtype=np.uint8).reshape(1, 20, 30) % 5
    written = data.write_labels(labels, Path(data.store.records[0].image_file), tmp_path / "out", data.spec)
    found = np.asarray(Image.open(written).convert("RGB"))
    assert written.name == "out.png" and found[0, :5].tolist() == [rgb(text) for text in COLORS.values()]


def test_colours_are_six_digits() -> None:
    assert parse_color("#E2a929") == (0xE2, 0xA9, 0x29)
    for text in ("FFF", "GG0000", "E2A92900", ""):
        with pytest.raises(ConfigError, match="no colour"):
            parse_color(text)


@pytest.mark.parametrize(
    "settings",
    [{"color_classes": {"a": "112233", "b": "112233"}}, {"color_classes": {"a": "9B9B9B"}, "void_colors": ["9b9b9b"]}],
)
def test_one_colour_for_two_meanings_is_refused(settings: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the same colour"):
        satellite(tmp_path, **settings)


def test_a_missing_or_empty_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing[\s\S]*data\.root=phantom"):
        satellite(tmp_path / "none").load()
    with pytest.raises(DataError, match=r"no images/ beside masks/[\s\S]*an empty folder"):
        satellite(tmp_path).load()


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/satellite/dubai is missing")
def test_the_real_tiles_are_found_and_their_masks_read(tmp_path: Path) -> None:
    data = tiles(SHARED, cache_dir=str(tmp_path))
    cases = data.find_cases(SHARED)
    first_of = {case.group: case for case in reversed(cases)}
    assert len(cases) == 54 and len({case.id for case in cases}) == 54 and len(first_of) == 6
    for case in first_of.values():
        with Image.open(case.image_file) as photo:
            size = (1, photo.height, photo.width)
        mask = data.read_mask(case)
        assert mask.shape == size and set(np.unique(mask)) <= {0, 1, 2, 3, 4, 255} and len(np.unique(mask)) > 2
