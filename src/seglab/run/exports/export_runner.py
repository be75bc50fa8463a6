"""Label images with an exported network; needs numpy and onnxruntime, nothing of seglab.

python predict.py image.npy [more ...] --output labels

network.onnx and bundle.json lie beside this file. A .npy holds an image (H, W, C), a volume (D, H, W) or, with several
channels, (C, D, H, W), in the values that the network was trained on (8-bit RGB, HU). Photos are read where Pillow is
installed, NIfTI where nibabel is. Labels are the indices of the classes, as .npy, uint8; NIfTI gives NIfTI too.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Settings = dict[str, Any]
HERE = Path(__file__).resolve().parent
READING = ("L", "P", "S")
"""Where x, y and z of a NIfTI volume grow to, before they become (D, H, W)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Label the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the labels")
    parser.add_argument("--bundle", type=Path, default=HERE, help="folder with network.onnx and bundle.json")
    parser.add_argument("--threads", type=int, default=0, help="0 for as many as there are cores")
    given = parser.parse_args(arguments)
    settings = json.loads((given.bundle / "bundle.json").read_text(encoding="utf-8"))
    compute = load_network(given.bundle / "network.onnx", given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    for file in given.images:
        image = read(file, settings)
        labels = postprocess(label(image, settings, compute), settings, voxel_size(file, settings))
        target = write(labels, file, given.output, settings)
        sys.stdout.write(f"{file} -> {target}\n")


def load_network(file: Path, threads: int) -> Callable[[Array], Array]:
    """Logits (1, K, *output) of an image (1, C, *input)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": np.ascontiguousarray(image)})[0]


def read(file: Path, settings: Settings) -> Array:
    """An image as (C, D, H, W)."""
    n_channels = settings["in_channels"] // settings["n_slices"]
    if file.suffix == ".npy":
        image = np.load(file)
        if image.ndim == 3 and settings["kind"] != "volume":
            image = image.transpose(2, 0, 1)[:, None]  # (H, W, C) -> (C, 1, H, W)
        image = image if image.ndim == 4 else image[None]
    elif file.name.endswith((".nii", ".nii.gz")):
        image = _turned(_nifti(file), READING)[None]
    else:
        from PIL import Image, ImageOps

        with Image.open(file) as picture:
            image = np.asarray(ImageOps.exif_transpose(picture).convert("RGB")).transpose(2, 0, 1)[:, None]
    if image.ndim != 4 or len(image) != n_channels:
        raise SystemExit(f"{file}: shape {image.shape}, but {n_channels} channel(s) are needed as (C, D, H, W)")
    return image  # type: ignore[no-any-return]


def label(image: Array, settings: Settings, compute: Callable[[Array], Array]) -> Array:
    """Labels (D, H, W) uint8 of an image (C, D, H, W)."""
    values = normalise(image, settings["intensity"])
    if settings["spatial_dims"] == 3:
        return sliding(values, settings, compute)
    depth, half = values.shape[1], settings["n_slices"] // 2
    slices = []
    for index in range(depth):
        near = np.clip(range(index - half, index + half + 1), 0, depth - 1)
        stack = values[:, near].swapaxes(0, 1).reshape(-1, *values.shape[2:])  # all channels of a slice, then the next
        slices.append(sliding(stack, settings, compute))
    return np.stack(slices)


def normalise(image: Array, intensity: Settings) -> Array:
    """Clip, subtract the mean, divide by the standard deviation, per channel: (C, D, H, W) float32."""
    values = image.astype(np.float32)
    if intensity["low"] is not None or intensity["high"] is not None:
        values = np.clip(values, intensity["low"], intensity["high"])
    column = (-1, 1, 1, 1)
    std = np.array(intensity["std"], np.float64)
    shift = -np.array(intensity["mean"], np.float64) / std
    return values * (1 / std).astype(np.float32).reshape(column) + shift.astype(np.float32).reshape(column)


def sliding(image: Array, settings: Settings, compute: Callable[[Array], Array]) -> Array:
    """Labels (*spatial) of an image (C, *spatial): windows blended by weights, in a buffer as deep as one window."""
    spatial, tiling = image.shape[1:], settings["tiling"]
    size = tuple(map(min, zip(spatial, tiling["window"], strict=True)))
    wanted = [input_length(length, axis, settings) for axis, length in enumerate(size)]
    padded = mirror(image, size, wanted)
    steps = [max(1, int(length * (1 - tiling["overlap"]) + 1e-6)) for length in size]
    starts = [[*range(0, n - w, step), n - w] for n, w, step in zip(spatial, size, steps, strict=True)]
    weight = weights(size, tiling["blending"])
    labels = np.empty(spatial, np.uint8)
    sums = np.zeros((len(settings["class_names"]), size[0], *spatial[1:]), np.float32)
    for start, end in zip(starts[0], [*starts[0][1:], spatial[0]], strict=True):
        for corner in product(*starts[1:]):
            box = tuple(slice(a, a + n) for a, n in zip((start, *corner), wanted, strict=True))
            logits = centre(compute(padded[(slice(None), *box)][None])[0], size)
            place = tuple(slice(a, a + n) for a, n in zip(corner, size[1:], strict=True))
            sums[(slice(None), slice(None), *place)] += logits * weight
        done = end - start
        labels[start:end] = decide(sums[:, :done], starts, spatial, size, settings, start)
        sums = np.concatenate([sums[:, done:], np.zeros_like(sums[:, :done])], axis=1)
    return labels


def decide(sums: Array, starts: Any, spatial: Any, size: Any, settings: Settings, first: int) -> Any:
    """Labels of sums of weighted logits: the likeliest class, or from a threshold on the foreground."""
    threshold = (settings["postprocess"] or {}).get("threshold")
    if threshold is None:
        return sums.argmax(axis=0).astype(np.uint8)
    total = np.ones((), np.float32)
    for n, w, along in zip(spatial, size, starts, strict=True):
        norm = np.zeros(n, np.float32)
        for start in along:
            norm[start : start + w] += axis_weights(w, settings["tiling"]["blending"])
        total = total[..., None] * norm
    logits = sums / total[first : first + sums.shape[1]]
    odds: Array = np.exp(logits - logits.max(axis=0))
    return ((odds[1] / odds.sum(axis=0)).astype(np.float16) >= threshold).astype(np.uint8)


def input_length(length: int, axis: int, settings: Settings) -> int:
    """The length that the network takes to cover a window."""
    rule = settings["sizes"]
    more = max(0, -(-(length - rule["covered"][axis]) // rule["step"][axis]))
    return int(rule["first"][axis] + more * rule["step"][axis])


def mirror(image: Array, size: Sequence[int], wanted: Sequence[int]) -> Array:
    """The image with what windows need around it: mirrored, or its last pixel where it is too short for that."""
    margins = [((large - n) // 2, large - n - (large - n) // 2) for n, large in zip(size, wanted, strict=True)]
    fits = all(after < length for (_, after), length in zip(margins, image.shape[1:], strict=True))
    return np.pad(image, [(0, 0), *margins], mode="reflect" if fits else "edge")


def centre(logits: Array, size: Sequence[int]) -> Array:
    """The centre of logits (K, *output), as large as a window."""
    starts = [(n - w) // 2 for n, w in zip(logits.shape[1:], size, strict=True)]
    return logits[(slice(None), *(slice(a, a + w) for a, w in zip(starts, size, strict=True)))]


def weights(size: Sequence[int], blending: str) -> Array:
    """Weight of each pixel of a window; 1 where one window covers all is as good, it changes no label."""
    product_ = np.ones((), np.float32)
    for length in size:
        product_ = product_[..., None] * axis_weights(length, blending)
    return product_


def axis_weights(length: int, blending: str) -> Array:
    """A Gaussian with a sigma of an eighth of the window, or 1."""
    offset = np.arange(length, dtype=np.float32) - np.float32((length - 1) / 2)
    return (
        np.exp(np.float32(-0.5) * (offset / np.float32(length / 8)) ** 2) if blending == "gaussian" else offset * 0 + 1
    )


def postprocess(labels: Array, settings: Settings, voxel: float) -> Array:
    """Holes filled, small parts removed, the largest part kept, by class; this needs scipy."""
    steps_of = (settings["postprocess"] or {}).get("steps") or {}
    done = labels.copy()
    flat = done[0] if len(done) == 1 else done
    for index, steps in steps_of.items():
        mask = flat == int(index)
        kept = _kept(mask, steps, voxel)
        flat[mask & ~kept] = 0
        flat[kept & (flat == 0)] = int(index)
    return done


def _kept(mask: Array, steps: Settings, voxel: float) -> Array:
    from scipy import ndimage

    mask = ndimage.binary_fill_holes(mask) if steps["fill_holes"] else mask.copy()
    if steps["min_size"] or steps["largest"]:
        parts, n_parts = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
        sizes = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
        chosen = sizes * voxel >= steps["min_size"]
        if steps["largest"] and n_parts:
            chosen &= np.arange(n_parts) == sizes.argmax()
        mask = np.concatenate([[False], chosen])[parts]
    return mask


def write(labels: Array, file: Path, folder: Path, settings: Settings) -> Path:
    """Write labels under the name of the image."""
    name = file.name.removesuffix(".gz").rpartition(".")[0]
    if file.name.endswith((".nii", ".nii.gz")):
        library, source = _nibabel(), _nifti(file)
        target, orient = folder / f"{name}.nii.gz", library.orientations
        back = orient.ornt_transform(orient.axcodes2ornt(READING), orient.io_orientation(source.affine))
        voxels = orient.apply_orientation(labels.transpose(2, 1, 0), back)
        library.save(library.Nifti1Image(voxels, source.affine), target)
    else:
        target = folder / f"{name}.npy"
        np.save(target, labels if settings["kind"] == "volume" else labels[0])
    return target


def voxel_size(file: Path, settings: Settings) -> float:
    """mm3 of a voxel, of a .npy that of the training cases; 1 for images."""
    if settings["kind"] != "volume":
        return 1.0
    if file.name.endswith((".nii", ".nii.gz")):
        return float(np.prod(_nifti(file).header.get_zooms()[:3]))
    return float(np.prod(settings["spacing"]))


def _nifti(file: Path) -> Any:
    return _nibabel().load(file)


def _nibabel() -> Any:
    import nibabel

    return nibabel


def _turned(source: Any, axes: Sequence[str]) -> Array:
    """Voxels (X, Y, Z) of a NIfTI file, turned to axes, as (Z, Y, X)."""
    orient = _nibabel().orientations
    voxels = np.asarray(source.dataobj, np.float32).reshape(source.shape[:3])
    turn = orient.ornt_transform(orient.io_orientation(source.affine), orient.axcodes2ornt(axes))
    return np.ascontiguousarray(orient.apply_orientation(voxels, turn).transpose(2, 1, 0))


if __name__ == "__main__":
    main()
