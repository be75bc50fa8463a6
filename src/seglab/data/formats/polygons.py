"""Outlines of a label raster as GeoJSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.features import shapes
from rasterio.warp import transform_geom

from seglab.data.formats.scene import CACHE


def write(labels: Path, target: Path, names: Mapping[int, str]) -> int:
    """Write the outlines of a label raster as GeoJSON, one polygon for each connected region.

    Longitude and latitude (WGS 84) as RFC 7946 wants it; coordinates as they are where the raster has no CRS. The area
    is in squared units of the raster's CRS, holes taken off.

    Args:
        labels: GeoTIFF of one band.
        target: .geojson.
        names: values that are outlined, and the class each stands for; others are left out.

    Returns:
        How many polygons.

    Raises:
        OSError: when it cannot be read or written.
    """
    with rasterio.Env(**CACHE), rasterio.open(labels) as dataset, target.open("w", encoding="utf-8") as stream:
        crs = dataset.crs
        stream.write('{"type": "FeatureCollection", "features": [\n')
        n = 0
        for shape, value in shapes(rasterio.band(dataset, 1), transform=dataset.transform):
            if int(value) in names:
                place = shape if crs is None else transform_geom(crs, "EPSG:4326", shape, precision=8)
                facts = {"class": names[int(value)], "value": int(value), "area": round(_area(shape), 3)}
                feature = {"type": "Feature", "properties": facts, "geometry": place}
                stream.write((",\n" if n else "") + json.dumps(feature))
                n += 1
        stream.write("\n]}\n")
    return n


def _area(shape: Mapping[str, Any]) -> float:
    """Area of a polygon in the units of its coordinates: the outline less its holes."""
    outline, *holes = (_ring_area(ring) for ring in shape["coordinates"])
    return outline - sum(holes)


def _ring_area(ring: Any) -> float:
    x, y = np.asarray(ring).T
    x, y = x - x[0], y - y[0]  # large coordinates would cost digits
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
