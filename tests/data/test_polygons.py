"""Polygons: hand-made regions with a hole, their place on earth and their area."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.warp import transform

from seglab.data.formats import polygons


def regions() -> np.ndarray:
    """A ring of 5 x 5 pixels around a hole of 3 x 3, two pixels of class 2 elsewhere, and nodata."""
    labels = np.zeros((1, 20, 30), np.uint8)
    labels[0, 2:7, 3:8], labels[0, 3:6, 4:7] = 1, 0
    labels[0, 10, 20], labels[0, 12, 20] = 2, 2
    labels[0, 18:] = 255
    return labels


def written(file: Path, names: dict[int, str]) -> list[dict[str, Any]]:
    target = file.with_suffix(".geojson")
    n = polygons.write(file, target, names)
    content = json.loads(target.read_text())
    assert content["type"] == "FeatureCollection" and len(content["features"]) == n
    return content["features"]


def test_each_region_is_a_polygon_with_class_hole_and_area(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    file = write_raster(tmp_path / "labels.tif", regions(), nodata=255)
    features = written(file, {1: "field", 2: "house"})
    facts = sorted((each["properties"]["class"], each["properties"]["area"]) for each in features)
    assert facts == [("field", 16 * 100.0), ("house", 100.0), ("house", 100.0)]
    (field,) = (each for each in features if each["properties"]["value"] == 1)
    outline, hole = field["geometry"]["coordinates"]
    (west, east), (north, south) = transform("EPSG:32633", "EPSG:4326", [500_030, 500_080], [4_599_980, 4_599_930])
    assert np.allclose(np.min(outline, axis=0), (west, south), atol=1e-6)
    assert np.allclose(np.max(outline, axis=0), (east, north), atol=1e-6)
    assert len(outline) == len(hole) == 5


def test_without_crs_coordinates_are_pixels_and_no_region_is_no_feature(
    tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    with pytest.warns(match="not geotransformed|no geotransform|NotGeoreferenced|identity matrix"):
        file = write_raster(tmp_path / "labels.tif", regions(), crs=None)
        (outline, _hole) = written(file, {1: "field"})[0]["geometry"]["coordinates"]
        assert sorted(map(tuple, outline[:4])) == [(3, 2), (3, 7), (8, 2), (8, 7)]
        assert written(file, {9: "nothing"}) == []
