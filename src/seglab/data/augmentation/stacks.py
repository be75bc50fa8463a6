"""Planes of a sample in stacks: OpenCV changes four of them as the channels of one image in hardly the time of one."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

AT_ONCE = 4
"""Planes of a stack; two or three are filled up, as OpenCV takes longer to move them. It blurs three faster."""

BORDER = cv2.BORDER_REFLECT

Change = Callable[[NDArray[Any]], NDArray[Any]]
"""From (H, W, n), or (H, W) where there is one plane alone, to the same."""


def changed(array: NDArray[Any], changes: Sequence[Change]) -> NDArray[Any]:
    """Apply changes, one after the other, to all planes.

    Shape:
        (C, D, H, W) uint8 or float32 -> the same, memory of its own.
    """
    if not changes:
        return np.array(array, order="C")
    result = np.empty(array.shape, array.dtype)
    sources, targets = (list(planes.reshape(-1, *array.shape[2:])) for planes in (array, result))
    for start in range(0, len(sources), AT_ONCE):
        planes = sources[start : start + AT_ONCE]
        stack = _stacked(planes)
        for change in changes:
            stack = _without_filling(change(stack), len(planes))
        _spread(stack, targets[start : start + AT_ONCE])
    return result


def _stacked(planes: list[NDArray[Any]]) -> NDArray[Any]:
    if len(planes) == 1:
        return np.ascontiguousarray(planes[0])
    stack: NDArray[Any] = cv2.merge([*planes, *planes[:1] * (AT_ONCE - len(planes))])
    return stack


def _without_filling(stack: NDArray[Any], n_planes: int) -> NDArray[Any]:
    """Three planes without the fourth; OpenCV has no such fast way to two."""
    if n_planes != 3 or stack.shape[2] == 3:
        return stack
    three: NDArray[Any] = cv2.cvtColor(stack, cv2.COLOR_BGRA2BGR)
    return three


def _spread(stack: NDArray[Any], targets: list[NDArray[Any]]) -> None:
    """Write the planes where they belong: into (H, W) each, which OpenCV fills when size and type are right."""
    if stack.ndim == 2:
        targets[0][:] = stack
        return
    if len(targets) == stack.shape[2]:
        cv2.split(stack, targets)
        return
    for index, target in enumerate(targets):
        cv2.extractChannel(stack, index, dst=target)
