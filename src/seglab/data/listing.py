"""Listing: which files make the cases of a data set, by patterns, by a table or by a dataset.json."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seglab.data.classes import Classes
from seglab.data.findings import Findings
from seglab.data.integrity import check_present, pair_files
from seglab.data.patterns import Pattern
from seglab.errors import ConfigError, DataError
from seglab.spec import Case

Reads = Callable[[Path], bool]
"""Whether a file is of a kind that is read."""

Fields = Mapping[Path, Mapping[str, str]]
"""What the parts of a pattern stand for in the name of each file."""


@dataclass(frozen=True)
class Listed:
    """What was found.

    Args:
        cases: sorted by id.
        classes: where the files themselves declare them, else None.
        channels: text that tells apart the files of a case.
    """

    cases: list[Case]
    classes: Classes | None = None
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """Cases by the names of their files.

    Args:
        images: pattern below the root.
        masks: pattern with the same fields or some of them; equal to `images` where a file holds both. A single file
            is the mask of all images, which are then one group, as they show the same place.
        channels: what `{channel}` stands for in `images`, in the order of the channels; empty for one file per case.
        suffixes: endings that are read.
        what: what an image is called in messages.

    Raises:
        ConfigError: patterns that do not fit each other.
    """

    images: str
    masks: str
    suffixes: tuple[str, ...]
    channels: tuple[str, ...] = ()
    what: str = "image"
    fix: str = field(default="set data.root=<folder>, or train on a phantom: data.root=phantom")

    def __post_init__(self) -> None:
        """Refuse fields that contradict each other."""
        image, mask = self._pattern("images"), self._pattern("masks")
        named, lonely = "channel" in image.fields, set(mask.fields) - {*image.fields, "case"}
        if named != bool(self.channels) or lonely:
            raise ConfigError(
                "the patterns of images and masks do not fit each other",
                given=f"data.images={self.images} data.masks={self.masks} data.channels={list(self.channels)}",
                allowed="{channel} in data.images when there are data.channels; in data.masks fields of data.images",
                fix="set data.images='{case}_{channel}.nii.gz' data.masks='{case}_seg.nii.gz' data.channels=[t1,t2]",
            )

    def find(self, root: Path, reads: Reads) -> Listed:
        """The cases below `root`.

        Raises:
            DataError: no image, an image without mask, a mask without image, several files of one case, or a channel
                without file.
        """
        image_pattern, mask_pattern = self._pattern("images"), self._pattern("masks")
        masks, images = mask_pattern.find(root, reads), image_pattern.find(root, reads)
        if self.images != self.masks:
            images = {file: fields for file, fields in images.items() if file not in masks}
        first = [file for file in images if not self.channels or images[file]["channel"] == self.channels[0]]
        if not first:
            raise self._nothing(root)
        others = self._others(first, images)
        whole = {image for image, files in others.items() if all(files)}
        is_shared = mask_pattern.is_one_file and len(masks) == 1
        findings = Findings()
        with findings.noting():
            self._check_channels(others, root)
        with findings.noting():
            pairs = [(image, *masks) for image in first] if is_shared else self._pairs(first, images, masks)
        findings.settle()
        cases = [
            _case(images[image], image, mask, tuple(filter(None, others[image])))
            for image, mask in pairs
            if image in whole
        ]
        if is_shared and "group" not in image_pattern.fields:
            cases = [replace(case, group=case.mask_file.stem) for case in cases]
        return Listed(cases, None, self.channels)

    def _others(self, first: Sequence[Path], images: Fields) -> dict[Path, list[Path | None]]:
        """Files of the further channels of each case, in the order of the channels; None where there is none."""
        file_of = {tuple(fields.items()): file for file, fields in images.items()}
        return {
            image: [file_of.get(tuple({**images[image], "channel": channel}.items())) for channel in self.channels[1:]]
            for image in first
        }

    def _check_channels(self, others: Mapping[Path, Sequence[Path | None]], root: Path) -> None:
        missing = {}
        for image, files in others.items():
            names = [name for name, file in zip(self.channels[1:], files, strict=True) if file is None]
            if names:
                missing[str(image)] = f"{image.name}: no {', '.join(names)}"
        check_present(missing, len(others) - len(missing), "data.channels", root, "lacks a channel")

    def _pairs(self, first: Sequence[Path], images: Fields, masks: Fields) -> list[tuple[Path, Path]]:
        """Images with the masks whose fields are the same, as far as both patterns have them."""
        image_fields, mask_fields = self._pattern("images").fields, self._pattern("masks").fields
        common = ["case", *(name for name in image_fields if name in mask_fields and name not in ("case", "channel"))]
        keys = {file: "/".join(found[name] for name in common) for file, found in {**images, **masks}.items()}
        candidates = first if self.images == self.masks else list(masks)
        return [(image, mask) for _, image, mask in pair_files(first, candidates, key=keys.__getitem__)]

    def _nothing(self, root: Path) -> DataError:
        return DataError(
            f"no {self.what} under {root} (data.root)",
            given=", ".join(sorted(file.name for file in root.iterdir())[:5]) or "an empty folder",
            allowed=f"files {self.images}{f' with {self.channels[0]}' if self.channels else ''}, ending in "
            f"{', '.join(self.suffixes)}",
            fix=self.fix,
        )

    def _pattern(self, which: str) -> Pattern:
        channels = self.channels if which == "images" else ()
        return Pattern(getattr(self, which), f"data.{which}", self.suffixes, channels)


def _case(fields: Mapping[str, str], image: Path, mask: Path, others: tuple[Path, ...]) -> Case:
    """A case by the fields of its image; its id joins all of them."""
    own = {name: value for name, value in fields.items() if name != "channel"}
    name = slug("-".join(own[part] for part in own))
    metadata = {key: value for key, value in own.items() if key not in ("case", "group", "split")}
    return Case(name, image, mask, own.get("group", name), others, own.get("split"), metadata)


def slug(text: str) -> str:
    """A name that is safe as a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)
