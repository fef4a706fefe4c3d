"""What a head decoder is: raw tensors of one tick in, meaning out.

A decoder is built once for a network (`layout`), so that it can precompute what depends on shapes alone, and then
called on every tick. Detections come out in pixels of the *prepared* image with the batch row they were seen in;
the network maps them to cameras and source pixels. Rows whose camera delivered no frame are skipped: what a network
says about padding is not about the road.

Whether a graph's shapes fit a decoder is checked when the bundle is loaded: `check` tells every misfit as a
`HeadFault`, in the words of `model.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.messages import Action, SignalValue

#: A graph's tensor shape; None where the graph leaves a size open.
TensorShape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """How the rows of the stacked outputs relate to cameras and to the prepared image."""

    rows: int
    height: int
    width: int
    row_of_camera: Mapping[str, int]
    #: True when a batch-1 network runs once for each camera, and its outputs are stacked.
    per_camera: bool = False


@dataclass(frozen=True, slots=True)
class HeadFault:
    """One misfit of a graph to a head: which key of `outputs` (or None: the head), what, and the fix."""

    output: str | None
    message: str
    fix: str


class BundleFitError(ValueError):
    """A good bundle does not fit this rig, precision or backend, for example more cameras than rows."""


@dataclass(slots=True)
class RowDetections:
    """K detections: the batch row, class, score, box in prepared-image pixels, and state of each."""

    row: NDArray[np.int32]
    class_id: NDArray[np.int32]
    score: NDArray[np.float32]
    box_px: NDArray[np.float32]
    state: Sequence[str | None]
    #: What the head itself says of each object, NaN where it does not; None: it has no such output.
    distance_m: NDArray[np.float32] | None = None
    speed_mps: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.score.shape[0])

    @staticmethod
    def empty() -> RowDetections:
        """No detections."""
        ids = np.zeros(0, np.int32)
        return RowDetections(ids, ids, np.zeros(0, np.float32), np.zeros((0, 4), np.float32), ())


class ObjectDepth(Protocol):
    """What a depth head knows of one tick."""

    def of_boxes(self, row: NDArray[np.int32], box_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Metres to the object in each box (pixels of the prepared image), NaN where unknown."""


@dataclass(slots=True)
class HeadResult:
    """What one head says about one tick."""

    detections: RowDetections | None = None
    control: Action | None = None
    lead_distance_m: float | None = None
    depth: ObjectDepth | None = None
    scalars: Mapping[str, SignalValue] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


class HeadDecoder(Protocol):
    """One head of one opened network."""

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        """Meaning of one tick's outputs (by graph name); `row_present` tells which rows hold a camera's frame."""


def describe(shape: TensorShape) -> str:
    """A shape as a person writes it: `[1, 3549, 85]`, with ? for an open size."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def misfit(output: str, shape: TensorShape, expected: TensorShape, meaning: str) -> list[HeadFault]:
    """A fault when `shape` cannot be `expected` (None fits every size)."""
    if fits(shape, expected):
        return []
    message = f"tensor has shape {describe(shape)}, this decoder needs {describe(expected)} ({meaning})"
    return [HeadFault(output, message, "name the output that holds it, or correct classes and input shape")]


def fits(shape: TensorShape, expected: TensorShape) -> bool:
    """True when the sizes agree wherever both are known."""
    if len(shape) != len(expected):
        return False
    return all(a is None or b is None or a == b for a, b in zip(shape, expected, strict=True))


def scene_row(camera: str | None, layout: BatchLayout, head: str) -> int:
    """The row that speaks for the scene in a head without one row per camera: the named camera's, else the first."""
    if camera is None:
        return min(layout.row_of_camera.values(), default=0)
    if camera not in layout.row_of_camera:
        known = ", ".join(layout.row_of_camera)
        raise BundleFitError(f"head {head!r} reads camera {camera!r}; the rig has {known} (fix: model.yaml's camera)")
    return layout.row_of_camera[camera]
