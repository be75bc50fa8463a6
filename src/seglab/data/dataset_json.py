"""dataset.json of nnU-Net and of the Medical Segmentation Decathlon: files, channels and classes of a data set.

nnU-Net (Isensee et al. 2021, https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md) names the files
imagesTr/<case>_0000<ending>, one for each channel, and labelsTr/<case><ending>, or lists them under "dataset"; the
Decathlon (Antonelli et al. 2022, http://medicaldecathlon.com) lists pairs under "training", and its files with several
modalities have them as a fourth axis.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.data.classes import Classes, read_classes
from seglab.data.findings import Findings, is_without_some
from seglab.data.integrity import check_present
from seglab.data.listing import Listed, Patterns, Reads, slug
from seglab.errors import DataError
from seglab.spec import Case

NAME = "dataset.json"
IGNORE = "ignore"
"""Name of the label that nnU-Net leaves out of loss and scores."""

FIX = "correct dataset.json, or set data.images and data.masks to say where the files lie"


def read_dataset_json(root: Path, reads: Reads, suffixes: tuple[str, ...]) -> Listed:
    """The cases, classes and channels that root/dataset.json describes.

    Args:
        root: folder with dataset.json.
        reads: whether a file is of a kind that is read.
        suffixes: endings that are read.

    Raises:
        DataError: unreadable, without labels, or files that do not exist.
    """
    content = _content(root / NAME)
    classes = _classes(content["labels"])
    if "training" in content and not _is_first_version(root, content["training"]):
        return Listed(_decathlon(root, content["training"]), classes)
    channels = tuple(f"{number:04d}" for number in range(len(content.get("channel_names") or content["modality"])))
    if isinstance(content.get("dataset"), Mapping):
        return Listed(_listed(root, content["dataset"]), classes, channels)
    ending = str(content.get("file_ending", ".nii.gz"))
    images, masks = f"imagesTr/{{case}}_{{channel}}{ending}", f"labelsTr/{{case}}{ending}"
    found = Patterns(images=images, masks=masks, channels=channels, suffixes=suffixes).find(root, reads)
    n_told = content.get("numTraining", len(found.cases))
    if n_told != len(found.cases) and not is_without_some():  # what was left out explains the difference
        raise DataError(
            "dataset.json tells another number of cases than there are",
            given=f"numTraining {n_told}; {len(found.cases)} cases in {root / 'imagesTr'}",
            allowed="the number of cases in imagesTr",
            fix="fetch the missing files, or correct numTraining",
        )
    return Listed(found.cases, classes, channels if len(channels) > 1 else ())


def _content(file: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(file, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise _refused(file, 'no "labels"')
    if not ("training" in content or content.get("channel_names") or content.get("modality")):
        raise _refused(file, 'neither "channel_names" nor "training"')
    return content


def _classes(labels: Mapping[str, Any]) -> Classes:
    """nnU-Net: name to value or values; Decathlon: value to name. Wholes come before their parts."""
    if all(str(key).isdigit() for key in labels):
        declared: dict[str, Any] = {str(name): int(value) for value, name in labels.items()}
    else:
        declared = dict(labels)
    ignored = declared.pop(IGNORE, None)
    sizes = {name: len(value) if isinstance(value, list) else 1 for name, value in declared.items()}
    ordered = sorted(declared, key=lambda name: (name != "background", -sizes[name]))
    classes = read_classes({name: declared[name] for name in ordered})
    return classes if ignored is None else classes.ignoring([ignored])


def _decathlon(root: Path, training: Sequence[Any]) -> list[Case]:
    if not all(isinstance(entry, Mapping) and {"image", "label"} <= entry.keys() for entry in training):
        raise _refused(root / NAME, '"training" is no list of {"image": ..., "label": ...}')
    pairs = {_name(entry["image"]): ([root / entry["image"]], root / entry["label"]) for entry in training}
    return _cases(root, pairs, n_told=len(training))


def _is_first_version(root: Path, training: Sequence[Any]) -> bool:
    """nnU-Net's first version listed cases as the Decathlon does, but their files are <case>_0000.nii.gz."""
    listed = [root / entry["image"] for entry in training[:1] if isinstance(entry, Mapping) and "image" in entry]
    return any(
        not file.exists() and file.with_name(file.name.replace(".nii", "_0000.nii", 1)).exists() for file in listed
    )


def _listed(root: Path, dataset: Mapping[str, Any]) -> list[Case]:
    if not all(isinstance(entry, Mapping) and {"images", "label"} <= entry.keys() for entry in dataset.values()):
        raise _refused(root / NAME, '"dataset" is no table of case to {"images": [...], "label": ...}')
    entries = {
        slug(name): ([root / image for image in entry["images"]], root / entry["label"])
        for name, entry in dataset.items()
    }
    return _cases(root, entries, n_told=len(dataset))


def _cases(root: Path, entries: Mapping[str, tuple[list[Path], Path]], n_told: int) -> list[Case]:
    """All missing files and all repeated names are told at once."""
    findings = Findings()
    absent = {name: [file for file in (*images, mask) if not file.exists()] for name, (images, mask) in entries.items()}
    whole = {name: entry for name, entry in entries.items() if not absent[name]}
    with findings.noting():
        missing = {str(file): str(file.relative_to(root)) for files in absent.values() for file in files}
        check_present(missing, len(whole), NAME, root)
    with findings.noting():
        if len(entries) < max(n_told, 1):
            raise _refused(root / NAME, f"{n_told} entries with {len(entries)} different names")
    findings.settle()
    return [Case(name, images[0], mask, name, tuple(images[1:])) for name, (images, mask) in sorted(whole.items())]


def _name(image: str) -> str:
    return slug(Path(image).name.removesuffix(".gz").rpartition(".")[0])


def _refused(file: Path, given: str) -> DataError:
    return DataError(
        "dataset.json cannot be used",
        given=f"{file}: {given}",
        allowed='"channel_names", "labels", "file_ending" as of nnU-Net, or "training", "labels" as of the Decathlon',
        fix=FIX,
    )
