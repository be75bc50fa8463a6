"""Deep Lake datasets: rows become cases, whatever commits follow; what is no picture is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seglab.data.deeplake import DeepLakeData
from seglab.data.preparation import Preparation
from seglab.errors import ConfigError, DataError

ALL_TRAIN = {"val_fraction": 0.0, "test_fraction": 0.0}
COLORS = {"water": {"color": "0000FF"}, "land": {"color": "00FF00"}}


def lake(root: Path | str, tmp_path: Path, **settings: Any) -> DeepLakeData:
    return DeepLakeData(**{"root": str(root), "cache_dir": str(tmp_path / "cache"), "num_workers": 0} | settings)


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seglab.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"data=deeplake needs deeplake[\s\S]*pip install 'seglab\[deeplake\]'"):
        lake(tmp_path, tmp_path).load()


@pytest.fixture
def package() -> Any:
    return pytest.importorskip("deeplake")


@pytest.fixture
def root(package: Any, tmp_path: Path) -> Path:
    """Four rows of 20 x (24 + row) pixels: a photo, masks of several codings, and who took it."""
    kinds = package.types
    schema = {
        "image": kinds.Image(sample_compression="png"),
        "grey": kinds.Image(dtype="uint16", sample_compression="png"),
        "mask": kinds.SegmentMask(sample_compression="lz4"),
        "colored": kinds.Image(sample_compression="png"),
        "bits": kinds.BinaryMask(),
        "camera": kinds.Text(),
        "part": kinds.Text(),
        "box": kinds.BoundingBox(),
    }
    rows: dict[str, list[Any]] = {name: [] for name in schema}
    for number, part in enumerate(("train", "train", "val", "test")):
        mask = np.zeros((20, 24 + number), np.uint8)
        mask[:, 5:8], mask[:, 8:9] = 1, 2
        photo = np.random.default_rng(number).integers(90, 200, (*mask.shape, 3), dtype=np.uint8)
        rows["image"].append(photo)
        rows["grey"].append(photo[..., :1].astype(np.uint16) * 257)
        rows["mask"].append(mask)
        rows["colored"].append(np.array([(0, 0, 255), (0, 255, 0), (9, 9, 9)], np.uint8)[mask])
        rows["bits"].append(mask[..., None] > 0)
        rows["camera"].append(f"camera {number // 2}")
        rows["part"].append(part)
        rows["box"].append(np.zeros((1, 4), np.float32))
    dataset = package.create(str(tmp_path / "lake"), schema=schema)
    dataset.append(rows)
    dataset.commit()
    return tmp_path / "lake"


def test_rows_become_cases_with_their_group_and_split(root: Path, tmp_path: Path) -> None:
    classes = {"background": 0, "crack": [1, 2], "wide": 2}
    data = lake(root, tmp_path, classes=classes, group_column="camera", **ALL_TRAIN).load()
    assert [(record.id, record.group) for record in data.store.records][1:3] == [
        ("row-000001", "camera 0"),
        ("row-000002", "camera 1"),
    ]
    record = data.store.records[3]
    assert record.shape == (3, 1, 20, 27) and record.class_pixels == (23 * 20, 3 * 20, 20)
    assert np.array_equal(data.store.image(record.id)[:, 0].transpose(1, 2, 0), data.opened.row("image", 3))
    assert data.spec.regions == ((0,), (1, 2), (2,)) and len(data.train_dataloader()) > 0
    split = lake(root, tmp_path, classes=classes, split_column="part").load()
    assert split.splits == {"train": ("row-000000", "row-000001"), "val": ("row-000002",), "test": ("row-000003",)}


def test_grey_of_16_bits_bits_and_colours_are_read_by_the_rules_of_photos(root: Path, tmp_path: Path) -> None:
    data = lake(root, tmp_path, image_column="grey", mask_column="bits", **ALL_TRAIN).load()
    record = data.store.records[0]
    image = np.array(data.store.image(record.id))
    assert image.dtype == np.float32 and (image[0] == image[2]).all() and image.min() > 89 and image.max() < 201
    assert record.class_pixels == (20 * 20, 4 * 20) and data.mask_values == (0, 255)
    coded = {"mask_column": "colored", "classes": COLORS, "has_background": False, **ALL_TRAIN}
    with pytest.raises(DataError, match=r"colored/000000 holds colours that no class has[\s\S]*#090909 \(20 pixels\)"):
        lake(root, tmp_path, **coded).load()
    assert lake(root, tmp_path, ignore=["090909"], **coded).load().store.records[0].class_pixels == (400, 60)


def test_a_commit_makes_new_entries_and_nothing_else_does(
    root: Path, tmp_path: Path, package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"classes": {"background": 0, "crack": [1, 2]}, **ALL_TRAIN}
    first = lake(root, tmp_path, **settings).load()
    monkeypatch.setattr(Preparation, "_write", None)  # nothing may be read again
    assert lake(root, tmp_path, **settings).load().store.folder == first.store.folder
    monkeypatch.undo()
    dataset = package.open(str(root))
    dataset["mask"][0] = np.full((20, 24), 1, np.uint8)
    dataset.commit()
    second = lake(root, tmp_path, **settings).load()
    assert second.store.records[0].class_pixels == (0, 480) and first.store.records[0].class_pixels == (400, 80)
    with pytest.raises(DataError, match="holds mask values that no class has"):
        lake(root, tmp_path, classes={"background": 0, "crack": 1}, **ALL_TRAIN).load()


def test_several_processes_read_the_same(root: Path, tmp_path: Path) -> None:
    data = lake(root, tmp_path, classes={"background": 0, "crack": [1, 2]}, **ALL_TRAIN)
    data.n_readers = 2
    assert [record.class_pixels[1] for record in data.load().store.records] == [80] * 4


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"image_column": "photo"},
            r"has no column photo[\s\S]*column=photo[\s\S]*set data\.image_column=",
        ),
        ({"mask_column": "camera"}, r"the column camera of .* holds no pictures[\s\S]*data\.mask_column=camera: text"),
        ({"image_column": "box"}, "the column box of .* holds no pictures"),
        ({"group_column": "grey"}, r"the column grey of .* holds no names[\s\S]*camera, part"),
        ({"image_column": "image", "mask_column": "image"}, r"image/000000 is no mask that can be used"),
        ({"mask_column": "colored"}, "colored/000000 is no mask that can be used"),
    ],
)
def test_a_column_that_is_missing_or_holds_something_else_is_refused(
    settings: dict, fault: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=fault):
        lake(root, tmp_path, **settings).load()


@pytest.mark.parametrize("url", ["nowhere", "al://nobody/none"])
def test_where_no_dataset_can_be_opened_the_error_says_what_to_type(
    url: str, package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network
    for name in ("ACTIVELOOP_TOKEN", "DEEPLAKE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="no Deep Lake dataset can be opened") as caught:
        lake(url, tmp_path).load()
    assert ("ACTIVELOOP_TOKEN" in caught.value.fix) == url.startswith("al:") and caught.value.given


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"classes": COLORS, "mask_column": "truth"}])
def test_a_phantom_has_the_columns_and_codes_that_are_declared(package: Any, settings: dict, tmp_path: Path) -> None:
    data = lake("phantom", tmp_path, **settings, **ALL_TRAIN).load()
    assert len(data.store.records) > 8 and np.sum([each.class_pixels for each in data.store.records], axis=0).all()
