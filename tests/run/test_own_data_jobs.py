"""Anybody's data goes all the way: train, evaluate, predict, as the command line composes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from dicom_writer import COLUMN_MM, ROW_MM, SLICE_MM, write_series
from PIL import Image
from run_jobs import HARDWARE, SMALL, composed, read, train_in

from seglab.run.cli import quote_patterns
from seglab.run.evaluate import evaluate
from seglab.run.predict import predict

SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "logger=csv"]
TINY = [*SMALL, *SHORT, "model.base_channels=2", "data.batch_size=2"]
Write = Callable[..., Path]


def all_the_way(tmp_path: Path, files: Path, *overrides: str) -> tuple[dict[str, Any], list[Path]]:
    """The spec of the run and the label files; what evaluate says equals the test after training."""
    run_dir, cache = tmp_path / "run", f"paths.cache_dir={tmp_path / 'cache'}"
    tested = train_in(run_dir, *TINY, cache, *quote_patterns([f"data.root={tmp_path}", *overrides]))
    again = evaluate(composed("evaluate", [f"run={run_dir}", "metrics=[]", *HARDWARE, "data.num_workers=0", cache]))
    for name in read(run_dir / "metrics.json"):
        assert again[name] == pytest.approx(tested[name], nan_ok=True), name
    output = tmp_path / "labels"
    predict(composed("predict", [f"run={run_dir}", f'input="{files}"', f"output={output}", HARDWARE[0]]))
    spec: dict[str, Any] = read(run_dir / "run.json")["spec"]
    return spec, sorted(file for file in output.rglob("*.*") if not file.name.startswith((".", "predictions")))


def blob(shape: tuple[int, ...], values: tuple[int, ...]) -> np.ndarray:
    """Boxes within each other on 0, the first value outermost."""
    mask = np.zeros(shape, np.uint8)
    for margin, value in enumerate(values, start=2):
        mask[tuple(slice(margin, length - margin) for length in shape)] = value
    return mask


@pytest.mark.slow
def test_folders_with_dicom_series(tmp_path: Path, write_nifti: Write) -> None:
    affine = np.diag([-COLUMN_MM, -ROW_MM, SLICE_MM, 1.0])
    affine[:3, 3] = 10.5, -20.25, 30.125  # of the writer, from LPS to RAS
    for number in range(4):
        mask = blob((6, 30, 32), (1,))
        noise = np.random.default_rng(number).integers(-90, 0, mask.shape)
        write_series(tmp_path / "images" / f"p{number}", (noise + 100 * mask).astype(np.int16))
        write_nifti(tmp_path / "masks" / f"p{number}.nii.gz", mask.transpose(2, 1, 0), affine)
    _, labels = all_the_way(tmp_path, tmp_path / "images" / "p1", "data=volumes", "data.patch_size=[32,32]")
    (written,) = labels
    assert written.name == "p1.nii.gz" and np.allclose(nib.load(written).affine, affine)


@pytest.mark.slow
def test_nnunet_s_folder_with_modalities_and_regions_in_3d(tmp_path: Path, write_nifti: Write) -> None:
    for number in range(5):
        mask = blob((20, 18, 17), (1, 1, 2))
        for channel in range(2):
            voxels = np.random.default_rng([number, channel]).integers(0, 90, mask.shape).astype(np.int16)
            folder = tmp_path / ("imagesTr" if number < 4 else "imagesTs")
            write_nifti(folder / f"p{number}_000{channel}.nii.gz", voxels + 50 * mask)
        if number < 4:
            write_nifti(tmp_path / "labelsTr" / f"p{number}.nii.gz", mask)
    labels_of = {"background": 0, "organ": [1, 2], "core": 2}
    about = {"channel_names": {"0": "a", "1": "b"}, "labels": labels_of, "numTraining": 4, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    how = ["data=volumes", "data.dims=3", "model=unet3d", "data.patch_size=[16,16,16]", "inference.overlap=0"]
    spec, labels = all_the_way(tmp_path, tmp_path / "imagesTs", *how)
    assert spec["regions"] == [[0], [1, 2], [2]] and spec["in_channels"] == 2
    assert [file.name for file in labels] == ["p4_0000.nii.gz"] and nib.load(labels[0]).shape == (20, 18, 17)


@pytest.mark.slow
def test_a_table_of_photos_with_masks_in_colours(tmp_path: Path, write_picture: Write) -> None:
    colors = np.array([(0, 0, 255), (0, 255, 0), (9, 9, 9)], np.uint8)
    rows = ["image,mask,split,site"]
    for number, split in enumerate(("train", "train", "val", "test")):
        mask = blob((40, 36), (1, 2))
        photo = np.random.default_rng(number).integers(0, 200, (40, 36, 3)).astype(np.uint8)
        write_picture(tmp_path / "in" / f"{number}.png", photo)
        write_picture(tmp_path / "out" / f"{number}.png", colors[mask])
        rows.append(f"in/{number}.png,out/{number}.png,{split},north")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    how = ["data=photos", "data.table=cases.csv", "data.patch_size=[32,32]", 'data.ignore=["090909"]']
    classes = "data.classes={water: {color: 0000FF}, land: {color: 00FF00}}"
    spec, labels = all_the_way(tmp_path, tmp_path / "in" / "*.png", *how, classes, "data.has_background=false")
    assert read(tmp_path / "run" / "split.json")["test"] == ["3"] and spec["class_names"] == ["water", "land"]
    assert len(labels) == 4 and set(np.unique(Image.open(labels[0]))) <= {0, 255}


@pytest.mark.slow
def test_rasters_that_share_a_mask_whose_classes_overlap_in_part(tmp_path: Path, write_raster: Write) -> None:
    write_raster(tmp_path / "land.tif", blob((40, 48), (1, 2, 3))[None])
    rows = ["image,mask"]
    for number in range(4):
        bands = np.random.default_rng(number).integers(1, 4000, (3, 40, 48)).astype(np.uint16)
        write_raster(tmp_path / f"day{number}.tif", bands)
        rows.append(f"day{number}.tif,land.tif")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    how = ["data=rasters", "data.table=cases.csv", "data.patch_size=[32,32]"]
    classes = "data.classes={rest: 0, wet: [1, 2], green: [2, 3]}"
    spec, labels = all_the_way(tmp_path, tmp_path / "day1.tif", *how, classes)
    assert spec["class_names"] == ["rest", "wet", "green", "wet_and_green"]
    assert spec["regions"] == [[0], [1, 3], [2, 3], [3]] and spec["mask_values"] == [0, 1, 3, 2]
    with rasterio.open(labels[0]) as written:
        assert set(np.unique(written.read(1))) <= {0, 1, 2, 3} and written.crs == "EPSG:32633"
