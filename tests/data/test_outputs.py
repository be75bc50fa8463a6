"""Outputs: parts of a case become labels and maps on its grid, whether the format is written in parts or as a whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
import SimpleITK as sitk
import torch
from PIL import Image

from seglab.data import outputs
from seglab.data.module import SegmentationData
from seglab.data.outputs import Wanted
from seglab.data.photos import PhotosData
from seglab.data.rasters import RastersData
from seglab.data.volumes import VolumesData
from seglab.errors import ConfigError
from seglab.inference.cases import Part
from seglab.inference.postprocess import Postprocess, Steps
from seglab.spec import DataSpec, Intensity

VALUES = np.array([0, 10, 20], np.uint8)
LARGEST = Postprocess(steps={1: Steps(largest=True)})


def spec(data: SegmentationData) -> DataSpec:
    return DataSpec(
        name="own",
        kind=data.kind,
        spatial_dims=2,
        in_channels=1,
        class_names=("background", "field", "house"),
        class_colors=((0, 0, 0), (255, 0, 0), (0, 0, 255)),
        mask_values=tuple(map(int, VALUES)),
        has_background=True,
        patch_size=(8, 8),
        intensity=Intensity((0.0,), (1.0,)),
    )


def own(kind: type[Any], root: Path) -> SegmentationData:
    return kind(root=str(root), cache_dir=str(root / "cache"))


def blocks(depth: int, height: int, width: int) -> np.ndarray:
    """A large and a small block of class 1, and one of class 2."""
    labels = np.zeros((depth, height, width), np.uint8)
    labels[:, 1:6, 1:7], labels[:, 9:11, 2:4], labels[:, 9:12, 8:10] = 1, 1, 2
    return labels


def write(data: SegmentationData, file: Path, stem: Path, labels: np.ndarray, **wanted: Any) -> set[str]:
    """Write labels, their one-hot probabilities and an entropy of a quarter, slice by slice, in two parts each."""
    stem.parent.mkdir(exist_ok=True)
    probs = torch.from_numpy(np.stack([labels == index for index in range(3)])).half()
    with (
        outputs.opened(data, file) as case,
        outputs.created(data, spec(data), case, stem, Wanted(**wanted)) as writer,
    ):
        assert tuple(case.image.shape[1:]) == labels.shape
        for index in range(labels.shape[0]):
            for rows in ((0, 7), (7, labels.shape[1])):
                place = (slice(index, index + 1), slice(*rows))
                part = torch.from_numpy(labels[place])
                entropy = torch.full(part.shape, 0.25, dtype=torch.float16)
                writer.write(Part((index, index + 1), rows, part, probs=probs[:, *place], entropy=entropy))
    return {path.name for path in stem.parent.iterdir()}


def without_small(labels: np.ndarray) -> np.ndarray:
    kept = labels.copy()
    kept[:, 9:11, 2:4] = 0
    return kept


@pytest.mark.parametrize("post", [None, LARGEST], ids=["as they are", "largest"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_volumes(suffix: str, post: Postprocess | None, tmp_path: Path) -> None:
    file, labels = tmp_path / f"ct{suffix}", blocks(4, 13, 11)
    image = sitk.GetImageFromArray(np.zeros(labels.shape, np.int16))  # ITK's axes are those of reading
    image.SetSpacing((0.7, 0.8, 2.5))
    sitk.WriteImage(image, str(file))
    wanted = {"postprocess": post, "probabilities": True, "entropy": True}
    found = write(own(VolumesData, tmp_path), file, tmp_path / "out" / "ct", labels, **wanted)
    assert found == {f"ct{suffix}", "ct.probs.nii.gz", "ct.entropy.nii.gz"}
    written = sitk.ReadImage(str(tmp_path / "out" / f"ct{suffix}"))
    expected = VALUES[labels if post is None else without_small(labels)]
    assert np.array_equal(sitk.GetArrayFromImage(written), expected)
    assert np.allclose(written.GetSpacing(), (0.7, 0.8, 2.5))
    maps = nib.load(tmp_path / "out" / "ct.probs.nii.gz").get_fdata()
    assert np.array_equal(maps.argmax(axis=3).transpose(2, 1, 0), labels)  # maps are of the network, not of the steps
    entropy = nib.load(tmp_path / "out" / "ct.entropy.nii.gz").get_fdata()
    assert entropy.shape == (11, 13, 4) and np.allclose(entropy, 0.25, atol=1e-5)


@pytest.mark.parametrize("post", [None, LARGEST], ids=["as they are", "largest"])
def test_scenes_with_polygons_of_what_was_kept(
    post: Postprocess | None, tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    image = np.ones((1, 300, 60), np.uint8)
    image[:, :, 50:] = 0
    file, labels = write_raster(tmp_path / "a.tif", image, nodata=0), blocks(1, 300, 60)
    wanted = {"postprocess": post, "probabilities": True, "entropy": True, "polygons": True}
    found = write(own(RastersData, tmp_path), file, tmp_path / "out" / "a", labels, **wanted)
    assert found == {"a.tif", "a.probs.tif", "a.entropy.tif", "a.geojson"}
    expected = VALUES[labels if post is None else without_small(labels)][0]
    expected[:, 50:] = 255
    with rasterio.open(tmp_path / "out" / "a.tif") as written:
        assert written.nodata == 255 and np.array_equal(written.read(1), expected)
    with rasterio.open(tmp_path / "out" / "a.entropy.tif") as written:
        assert np.isnan(written.read(1)[:, 50:]).all() and np.allclose(written.read(1)[:, :50], 0.25)
    features = json.loads((tmp_path / "out" / "a.geojson").read_text())["features"]
    areas = sorted((each["properties"]["class"], each["properties"]["area"]) for each in features)
    assert areas == [("field", 400.0)] * (post is None) + [("field", 3000.0), ("house", 600.0)]


def test_pictures_have_numpy_maps(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    file, labels = write_picture(tmp_path / "a.png", np.zeros((13, 11, 3), np.uint8)), blocks(1, 13, 11)
    wanted = {"probabilities": True, "entropy": True}
    found = write(own(PhotosData, tmp_path), file, tmp_path / "out" / "a", labels, **wanted)
    assert found == {"a.png", "a.probs.npy", "a.entropy.npy"}
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), VALUES[labels[0]])
    probs, entropy = (np.load(tmp_path / "out" / f"a.{name}.npy") for name in ("probs", "entropy"))
    assert probs.dtype == np.float16 and np.array_equal(probs.argmax(axis=0), labels[0])
    assert entropy.shape == (1, 13, 11) and np.all(entropy == 0.25)


def test_a_threshold_asks_for_the_probability(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    file, labels = write_picture(tmp_path / "a.png", np.zeros((13, 11, 3), np.uint8)), blocks(1, 13, 11)
    write(own(PhotosData, tmp_path), file, tmp_path / "out" / "a", labels, postprocess=Postprocess(threshold=0.5))
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), VALUES[np.where(labels[0] == 1, 1, 0)])


def test_polygons_of_what_has_no_place_are_refused(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    file = write_picture(tmp_path / "a.png", np.zeros((13, 11, 3), np.uint8))
    with pytest.raises(ConfigError, match="no place on earth"):
        write(own(PhotosData, tmp_path), file, tmp_path / "out" / "a", blocks(1, 13, 11), polygons=True)
