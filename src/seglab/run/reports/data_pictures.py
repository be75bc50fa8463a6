"""A few prepared cases as pictures: the image, and the classes laid over it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglab.data.module import SegmentationData
from seglab.data.store import Record, Store

SIDE_PX, N_COLORS = 320, 192
N_CASES, N_DOUBTED = 6, 3
OPACITY = 0.5


@dataclass(frozen=True)
class Shown:
    """A case of the report.

    Args:
        case: its id.
        note: its group, and which slice is shown.
        image: PNG as an address of its own content.
        overlay: the same with the classes laid over it.
    """

    case: str
    note: str
    image: str
    overlay: str


def pictures(data: SegmentationData, store: Store) -> list[Shown]:
    """Some cases with warnings, and others spread over the data set.

    Args:
        data: tells what values and classes mean.
        store: of its cases.
    """
    return [_shown(data, store, record) for record in pick(store.records)]


def pick(records: Sequence[Record]) -> list[Record]:
    """The first cases with a warning, then evenly spaced ones."""
    doubted = [record for record in records if any(each.severity == "warning" for each in record.findings)]
    spread = [records[int(place)] for place in np.linspace(0, len(records) - 1, min(N_CASES, len(records)))]
    chosen = {record.id: record for record in [*doubted[:N_DOUBTED], *spread]}
    return list(chosen.values())[:N_CASES]


def _shown(data: SegmentationData, store: Store, record: Record) -> Shown:
    z, depth = _fullest_slice(store, record), record.shape[1]
    image, mask = np.asarray(store.image(record.id)[:, z]), np.asarray(store.mask(record.id)[z])
    scale = min(1.0, SIDE_PX / max(mask.shape))
    size = tuple(max(1, round(length * scale)) for length in mask.shape[::-1])
    grey = [cv2.resize(band.astype(np.float32), size, interpolation=cv2.INTER_AREA) for band in _bands(image)]
    picture = np.stack([_to_byte(band, data) for band in grey], axis=-1)
    labels = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    note = f"group {record.group}" + (f", slice {z + 1} of {depth}" if depth > 1 else "")
    return Shown(record.id, note, _address(picture), _address(_painted(picture, labels, data)))


def _fullest_slice(store: Store, record: Record) -> int:
    """The slice with most of the foreground pixels that are kept, else the middle one."""
    rows = np.asarray(store.foreground(record.id))
    places = rows[rows[:, 0] > 0, 1]
    return int(np.bincount(places).argmax()) if len(places) else record.shape[1] // 2


def _bands(image: NDArray[Any]) -> NDArray[Any]:
    """Red, green and blue; of more than three bands the first ones are taken as blue, green and red."""
    return image if len(image) == 3 else image[2::-1] if len(image) > 3 else np.repeat(image[:1], 3, axis=0)


def _to_byte(band: NDArray[np.float32], data: SegmentationData) -> NDArray[np.uint8]:
    low, high = (0.0, 255.0) if data.kind == "photo" else data.clip
    low = float(np.percentile(band, 1)) if low is None else low
    high = float(np.percentile(band, 99)) if high is None else high
    scaled: NDArray[np.float32] = np.clip((band - low) / max(high - low, 1e-6), 0, 1) * 255
    return scaled.astype(np.uint8)


def _painted(picture: NDArray[np.uint8], labels: NDArray[Any], data: SegmentationData) -> NDArray[np.uint8]:
    painted = picture.astype(np.float32)
    for index in range(1 if data.has_background else 0, len(data.class_names)):
        where = labels == index
        painted[where] += OPACITY * (np.array(data.class_colors[index], np.float32) - painted[where])
    return painted.astype(np.uint8)


def _address(picture: NDArray[np.uint8]) -> str:
    stream = BytesIO()
    Image.fromarray(picture).quantize(N_COLORS).save(stream, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
