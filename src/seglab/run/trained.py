"""A trained run opened with its data: its cases, and the windows that its network sees of them."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from seglab.data.intensity import normalise
from seglab.data.module import SegmentationData
from seglab.data.store import Record
from seglab.inference.cases import CasePredictor, TensorCase
from seglab.inference.network import Predict, WindowNetwork
from seglab.inference.tta import Views
from seglab.run.build import Config, build_data
from seglab.task.segmentation import SegmentationTask


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A trained task with the place and the data of its run.

    Args:
        run_dir: folder of the run or ensemble; files made of its network are kept below it.
        member_dir: folder of the run whose configuration and split count.
        task: in eval mode, on its device.
        config: of the run.
        root: another folder with data of the same kind, or "phantom"; None for that of the training.
    """

    run_dir: Path
    member_dir: Path
    task: SegmentationTask
    config: Config
    root: str | None = None
    _loaded: list[SegmentationData] = field(default_factory=list, init=False)

    @property
    def data(self) -> SegmentationData:
        """Its prepared data with its own split, or all of another folder."""
        if not self._loaded:
            data = dict(self.config["data"], split_file=str(self.member_dir / "split.json"))
            if self.root is not None:
                data |= {"root": self.root, "split_file": None}
            self._loaded.append(build_data({**self.config, "data": data}).load(spec=self.task.spec))
        return self._loaded[0]

    def image(self, record: Record) -> Tensor:
        """A case as the task takes it: (C, D, H, W), normalised."""
        return normalise(self.data.store.image(record.id)[:], self.task.spec.intensity)

    def windows(self, records: Sequence[Record], n: int) -> list[Tensor]:
        """Network inputs of `n` windows at most, (C, *spatial), spread evenly over cases and over each case."""
        found: list[Tensor] = []
        cases = records[:: max(1, len(records) // n)][:n]
        for record in cases:
            image = self.image(record)
            n_windows = sum(1 for _ in self._inputs(image))
            wanted = max(1, n // len(cases))
            step = max(1, n_windows // wanted)
            places = set(range(step // 2, n_windows, step)[:wanted])
            found += [window.clone() for place, window in enumerate(self._inputs(image)) if place in places]
        return found[:n]

    def _inputs(self, image: Tensor) -> Iterator[Tensor]:
        """What the network is given to label a case; it is not computed."""
        seen: list[Tensor] = []

        def blank(batch: Tensor) -> Tensor:
            """Note the windows and answer with zeros."""
            seen.extend(batch)
            return torch.zeros(len(batch), self.task.spec.num_classes, *batch.shape[2:])

        for _ in plain_predictor(self.task, blank).parts(TensorCase(image)):
            yield from seen
            seen.clear()


def plain_predictor(task: SegmentationTask, compute: Predict) -> CasePredictor:
    """What labels cases by the task's windows, each seen once, with something else in place of the network."""
    windows = copy(task.sliding_window)
    windows.tta, windows.skip_constant = Views(), False
    network = WindowNetwork(compute, input_size=task.net.input_size_for)
    return replace(task.predictor(), predict=network, sliding_window=windows)
