from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from numpy.typing import NDArray

from seglab.data.arrays import open_array, read_box, read_scaled, write_array
from seglab.data.intensity import normalise, read_normalised
from seglab.data.packed import Packed, unchanged
from seglab.spec import Intensity

BOXES = [
    ((0, 0, 0), (5, 150, 170)),  # all
    ((2, 0, 0), (3, 150, 170)),  # a slice
    ((1, 63, 63), (4, 65, 65)),  # across the corner of four blocks
    ((4, 149, 169), (5, 150, 170)),  # the last voxel
    ((0, 70, 10), (2, 71, 160)),  # a row
]


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return rng.integers(-32768, 32768, shape)


def ct(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    values = rng.normal(30, 20, shape).round()
    values[..., :40] = -1000
    values[..., 100:110, :] = values[..., 100:101, :]  # rows that repeat
    return values


def ramp(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.arange(np.prod(shape)).reshape(shape) // 3 + rng.integers(2)


def stripes(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Repetitions of every length from 1 to 30 values."""
    periods = [np.tile(rng.integers(0, 999, n), 200 // n) for n in range(1, 31)]
    return np.resize(np.concatenate(periods), shape)


def mostly_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    values = np.zeros(shape)
    values[..., 1, 20:90, 30:75] = rng.integers(1, 4)
    return values


def of_one_block(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    values = np.full(shape, 7)
    values[..., 64:128, 64:128] = rng.integers(0, 9, (64, 64))
    return values


PACKING = blosc2.CParams(
    codec=blosc2.Codec.LZ4, filters=[blosc2.Filter.SHUFFLE], splitmode=blosc2.SplitMode.ALWAYS_SPLIT
)
KINDS = (noise, ct, ramp, stripes, mostly_zero, of_one_block)


def written(folder: Path, values: NDArray[Any]) -> Packed:
    write_array(folder / "a", values, compress=True)
    open_array.cache_clear()
    array = open_array(str(folder), "a")
    assert isinstance(array, Packed)
    return array


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.int8], ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
def test_boxes_hold_what_was_written(kind: Callable[..., NDArray[Any]], dtype: type, tmp_path: Path) -> None:
    values = kind(np.random.default_rng(0), (2, 5, 150, 170)).astype(np.int64).astype(dtype)
    array = written(tmp_path, values)
    assert array.dtype == dtype and np.array_equal(blosc2.open(str(tmp_path / "a.b2nd"))[:], values)
    for start, stop in BOXES:
        wanted = values[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
        assert np.array_equal(read_box(array, start, stop), wanted)
        scaled = read_scaled(array, start, stop, unchanged(2))
        assert (scaled is None and kind is noise) or np.array_equal(scaled, wanted)  # blosc2 copies mere noise


@pytest.mark.parametrize("limits", [(None, None), (-200.0, None), (-200.0, 250.0)], ids=str)
@pytest.mark.parametrize("kind", [noise, ct])
def test_normalised_in_one_go_equals_normalised_afterwards(
    kind: Callable[..., NDArray[Any]], limits: tuple[float | None, float | None], tmp_path: Path
) -> None:
    values = kind(np.random.default_rng(0), (2, 5, 150, 170)).astype(np.int16)
    array, intensity = written(tmp_path, values), Intensity((17.3, -90.1), (123.4, 55.5), *limits)
    for start, stop in BOXES:
        wanted = values[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
        found = read_normalised(array, start, stop, intensity)
        np.testing.assert_allclose(found, normalise(wanted, intensity).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 7), (2, 64, 64), (2, 65, 513), (1, 600, 1100)], ids=str)
def test_any_size_is_read_slices_of_several_chunks_too(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = ct(np.random.default_rng(0), (*shape[:1], shape[1] + 120, shape[2])).astype(np.int16)[:, : shape[1]]
    array = written(tmp_path, values)
    for start in ((0, 0, 0), tuple(length // 2 for length in shape)):
        wanted = values[start[0] :, start[1] :, start[2] :]
        assert np.array_equal(read_box(array, start, shape), wanted)
    assert read_box(array, shape, shape).shape == (0, 0, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_larger_values_are_left_to_blosc2(dtype: type, tmp_path: Path) -> None:
    values = ct(np.random.default_rng(0), (2, 5, 150, 170)).astype(dtype)
    array = written(tmp_path, values)
    assert read_scaled(array, *BOXES[2], unchanged(2)) is None
    assert np.array_equal(read_box(array, *BOXES[2]), values[:, 1:4, 63:65, 63:65])


@pytest.mark.parametrize(
    "other",
    [
        {"cparams": blosc2.CParams(codec=blosc2.Codec.ZSTD)},
        {"cparams": blosc2.CParams(codec=blosc2.Codec.LZ4, filters=[blosc2.Filter.BITSHUFFLE])},
        {"cparams": blosc2.CParams(codec=blosc2.Codec.LZ4, splitmode=blosc2.SplitMode.NEVER_SPLIT)},
        {"cparams": blosc2.CParams(codec=blosc2.Codec.LZ4, filters=[blosc2.Filter.SHUFFLE, blosc2.Filter.DELTA])},
        {"chunks": (1, 2, 150, 170)},
        {"chunks": (1, 1, 100, 170), "cparams": PACKING},
        {"chunks": (1, 1, 150, 100), "cparams": PACKING},
    ],
    ids=["other codec", "other filter", "unsplit", "two filters", "thick chunks", "narrow blocks below", "and beside"],
)
def test_files_of_another_making_are_left_to_blosc2(other: dict[str, Any], tmp_path: Path) -> None:
    values = ct(np.random.default_rng(0), (2, 5, 150, 170)).astype(np.int16)
    layout = {"chunks": (1, 1, 150, 170), "blocks": (1, 1, 64, 64)} | other
    blosc2.asarray(values, urlpath=str(tmp_path / "a.b2nd"), mode="w", **layout)
    open_array.cache_clear()
    array = open_array(str(tmp_path), "a")
    assert read_scaled(array, *BOXES[0], unchanged(2)) is None
    assert np.array_equal(read_box(array, *BOXES[0]), values)


def test_without_compiled_loops_blosc2_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seglab.data.compiled.IS_ON", False)
    values = ct(np.random.default_rng(0), (2, 5, 150, 170)).astype(np.int16)
    array = written(tmp_path, values)
    assert read_scaled(array, *BOXES[0], unchanged(2)) is None
    assert np.array_equal(read_box(array, *BOXES[0]), values)


def test_a_box_that_reaches_beyond_is_not_read(tmp_path: Path) -> None:
    array = written(tmp_path, ct(np.random.default_rng(0), (1, 5, 150, 170)).astype(np.int16))
    for start, stop in (((0, 0, 0), (6, 150, 170)), ((0, -1, 0), (1, 3, 3)), ((0, 149, 0), (1, 151, 3))):
        assert read_scaled(array, start, stop, unchanged(1)) is None


@pytest.mark.parametrize("place", [2**63 - 40, 2**62, 2**31, -(2**63)])
def test_a_chunk_that_lies_nowhere_is_not_looked_for(place: int, tmp_path: Path) -> None:
    array = written(tmp_path, ct(np.random.default_rng(0), (1, 3, 150, 170)).astype(np.int16))
    array._mapped[1][:] = place
    assert read_scaled(array, *BOXES[2], unchanged(1)) is None


def test_an_image_of_other_channels_than_its_factors_is_not_read(tmp_path: Path) -> None:
    array = written(tmp_path, ct(np.random.default_rng(0), (3, 2, 50, 70)).astype(np.int16))
    assert read_scaled(array, (0, 0, 0), (1, 9, 9), unchanged(1)) is None


def test_damaged_files_are_read_or_refused_without_a_crash(tmp_path: Path) -> None:
    """The bytes of chunks are turned at random, after the file was opened; whatever comes of it stays within it."""
    rng = np.random.default_rng(0)
    array = written(tmp_path, ct(rng, (1, 3, 150, 170)).astype(np.int16))
    frame, places, *cut = array._mapped
    coding = 2, np.uint16(1 << 15), np.float32(1 << 15), np.float32(-np.inf), np.float32(np.inf)
    from seglab.data.unpacking.boxes import unpack_box

    n_refused = 0
    for number in range(2000):
        damaged = frame.copy()
        where = rng.integers(places[0], places[-1] + 2000, rng.integers(1, 4))
        damaged[where] = rng.choice([0, 1, 15, 16, 240, 255, int(rng.integers(256))], where.size)
        if number % 4 == 0:
            damaged = damaged[: int(rng.integers(places[0], frame.size))]
        damaged.flags.writeable = False
        values = np.full((1, 3, 150, 170), np.nan, np.float32)
        is_read = unpack_box(damaged, places, *cut, (0, 0, 0), coding, unchanged(1), values)
        assert not is_read or np.isfinite(values).all()
        n_refused += not is_read
    assert 300 < n_refused < 2000
