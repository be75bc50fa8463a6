"""Listing: which files make the cases of a data set, by patterns, by a table or by a dataset.json."""

import re
from collections.abc import Callable, Mapping
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
        masks = mask_pattern.find(root, reads)
        holds_both = self.images == self.masks
        fields = {
            file: found for file, found in image_pattern.find(root, reads).items() if holds_both or file not in masks
        }
        common = [name for name in ("case", *image_pattern.fields) if name == "case" or name in mask_pattern.fields]
        common = [name for name in dict.fromkeys(common) if name != "channel"]
        keys = {file: "/".join(found[name] for name in common) for file, found in (fields | masks).items()}
        first = [file for file in fields if not self.channels or fields[file]["channel"] == self.channels[0]]
        if not first:
            raise DataError(
                f"no {self.what} under {root} (data.root)",
                given=", ".join(sorted(file.name for file in root.iterdir())[:5]) or "an empty folder",
                allowed=f"files {self.images}{f' with {self.channels[0]}' if self.channels else ''}, ending in "
                f"{', '.join(self.suffixes)}",
                fix=self.fix,
            )
        place = {tuple(found.items()): file for file, found in fields.items()}
        others = {image: [place.get(key) for key in self._further(fields[image])] for image in first}
        is_shared = mask_pattern.is_one_file and len(masks) == 1
        findings = Findings()
        with findings.noting():
            named = {image: zip(self.channels[1:], files, strict=True) for image, files in others.items()}
            lacking = {image: [name for name, file in each if not file] for image, each in named.items()}
            missing = {str(image): f"{image.name}: no {', '.join(names)}" for image, names in lacking.items() if names}
            check_present(missing, len(first) - len(missing), "data.channels", root, "lacks a channel")
        with findings.noting():
            if is_shared:
                pairs = [("", image, mask) for image in first for mask in masks]
            else:
                pairs = pair_files(first, first if holds_both else list(masks), key=keys.__getitem__)
        findings.settle()
        whole = [(image, mask) for _, image, mask in pairs if not lacking[image]]
        cases = [_case(fields[image], image, mask, tuple(filter(None, others[image]))) for image, mask in whole]
        if is_shared and "group" not in image_pattern.fields:
            cases = [replace(case, group=case.mask_file.stem) for case in cases]
        return Listed(cases, None, self.channels)

    def _further(self, fields: Mapping[str, str]) -> list[tuple[tuple[str, str], ...]]:
        """Fields of the files of the further channels of a case, in the order of the channels."""
        return [tuple({**fields, "channel": channel}.items()) for channel in self.channels[1:]]

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
