"""Decoder `hydra_detections`: objects as centre points (Zhou et al., "Objects as Points", 2019).

    heatmap  [B, classes, h, w]  probability that a cell holds the centre of an object of that class
    box      [B, 4, h, w]        dx, dy: the centre within its cell, 0..1; width and height in cells
    state    [B, states, h, w]   probability of each state, for the one class that has states (optional)
    distance [B, 1, h, w]        metres to the object (optional)
    speed    [B, 1, h, w]        its speed over ground in m/s (optional)

A cell is a peak when no neighbour of its class, among the eight around it, scores higher. The grid covers the whole
prepared image, so a cell is `width / w` by `height / h` pixels. A state is told when its probability is at least 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout, HeadFault, HeadResult, RowDetections, TensorShape, misfit
from runtime.inference.heads.selection import strongest, suppress
from runtime.inference.heads.specification import HydraDetectionsHead

STATE_PROBABILITY = 0.5


class HydraDetectionsDecoder:
    """Finds the peaks of one head."""

    def __init__(self, head: HydraDetectionsHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._head, self._outputs = head, head.outputs
        self._threshold, self._at_most = head.score_threshold, head.max_per_camera
        _, self._classes, self._grid_height, self._grid_width = shapes[head.outputs.heatmap]
        self._cells = self._grid_height * self._grid_width
        self._cell_px = np.array([layout.width / self._grid_width, layout.height / self._grid_height], np.float32)
        #: `[cells, 2]` x and y of each cell of a plane, and `[8, cells]` how far away its neighbours are.
        y, x = np.divmod(np.arange(self._cells), self._grid_width)
        self._place = np.stack((x, y), axis=1).astype(np.float64)
        self._around = _neighbours(self._grid_height, self._grid_width)
        self._state_class, self._state_names = _stateful_class(head)

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        return HeadResult(detections=self._found(tensors, row_present))

    @property
    def likeness(self) -> tuple[object, ...] | None:
        """Heads for which this is equal may be decoded together (`HydraDetectionsGroup`); None: only alone."""
        head = self._head
        if head.outputs.state or head.outputs.distance or head.outputs.speed:
            return None
        grid = (self._classes, self._grid_height, self._grid_width)
        return (*grid, head.score_threshold, head.iou_threshold, head.max_per_camera)

    @property
    def outputs(self) -> tuple[str, str]:
        """The names of the tensors of heat and boxes."""
        return self._head.outputs.heatmap, self._head.outputs.box

    def _found(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> RowDetections:
        heat = np.asarray(tensors[self._outputs.heatmap], np.float32).reshape(-1)
        at = (heat >= self._threshold).nonzero()[0]
        score = heat.take(at)
        neighbours = heat.take(at + self._around.take(at % self._cells, axis=1))
        peak = score >= np.maximum.reduce(neighbours)  # false where one is NaN
        plane = at // self._cells
        row = plane // self._classes
        if not row_present.all():
            peak &= row_present.take(row)
        some = peak.nonzero()[0]
        best = some.take(strongest(row.take(some), score.take(some), self._at_most))
        if best.size == 0:
            return RowDetections.empty()
        row, plane, score = row.take(best), plane.take(best), score.take(best)
        class_id, cell = plane - row * self._classes, at.take(best) - plane * self._cells
        box_px = self._boxes(tensors[self._outputs.box], row, cell)
        kept = suppress(row, class_id, score, box_px, self._head.iou_threshold, self._at_most)
        if kept.size < row.size:
            row, class_id, cell, score = row.take(kept), class_id.take(kept), cell.take(kept), score.take(kept)
            box_px = box_px.take(kept, axis=0)
        state = self._states(tensors, row, class_id, cell)
        found = RowDetections(row.astype(np.int32), class_id.astype(np.int32), score, box_px, state)
        found.distance_m = self._plane_at(tensors, self._outputs.distance, row, cell)
        found.speed_mps = self._plane_at(tensors, self._outputs.speed, row, cell)
        return found

    def _at(self, tensor: NDArray[np.generic], row: NDArray[np.intp], cell: NDArray[np.intp]) -> NDArray[np.generic]:
        """`[K, planes]` the values of every plane of a tensor at K places."""
        planes = tensor.shape[1]
        first = row * (planes * self._cells) + cell
        return np.asarray(tensor.reshape(-1).take(first[:, None] + np.arange(0, planes * self._cells, self._cells)))

    def _boxes(self, tensor: NDArray[np.generic], row: NDArray[np.intp], cell: NDArray[np.intp]) -> NDArray[np.float32]:
        values = np.asarray(self._at(tensor, row, cell), np.float32)
        centre_px = (self._place.take(cell, axis=0) + values[:, :2]) * self._cell_px
        half_px = np.maximum(values[:, 2:], 0.0)
        half_px *= self._cell_px
        half_px /= 2.0
        corners = np.empty((row.size, 4), np.float32)
        np.subtract(centre_px, half_px, out=corners[:, :2])
        np.add(centre_px, half_px, out=corners[:, 2:])
        return corners

    def _states(
        self,
        tensors: Mapping[str, NDArray[np.generic]],
        row: NDArray[np.intp],
        class_id: NDArray[np.intp],
        cell: NDArray[np.intp],
    ) -> Sequence[str | None]:
        states: list[str | None] = [None] * int(row.size)
        if self._outputs.state is None:
            return states
        told = (class_id == self._state_class).nonzero()[0]
        if told.size:
            probabilities = self._at(np.asarray(tensors[self._outputs.state]), row.take(told), cell.take(told))
            best = probabilities.argmax(axis=1)
            sure = probabilities[np.arange(told.size), best] >= STATE_PROBABILITY
            for index, state, is_sure in zip(told.tolist(), best.tolist(), sure.tolist(), strict=True):
                states[index] = self._state_names[state] if is_sure else None
        return states

    def _plane_at(
        self,
        tensors: Mapping[str, NDArray[np.generic]],
        name: str | None,
        row: NDArray[np.intp],
        cell: NDArray[np.intp],
    ) -> NDArray[np.float32] | None:
        """One value for each object, NaN where it is not finite; None where the head has no such output."""
        if name is None:
            return None
        values = np.asarray(self._at(tensors[name], row, cell)[:, 0], np.float32)
        return np.where(np.isfinite(values), values, np.float32(np.nan))


class HydraDetectionsGroup:
    """Several heads that are alike, decoded as one with that many times the rows: each call is paid for once.

    What each finds is what it would find alone: rows never meet one another.
    """

    def __init__(self, decoders: Sequence[HydraDetectionsDecoder]) -> None:
        self._first, self._names = decoders[0], [decoder.outputs for decoder in decoders]

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> list[HeadResult]:
        """The results, in the order of the heads."""
        heads, rows = len(self._names), row_present.size
        stacked = {
            name: np.concatenate([tensors[names[index]] for names in self._names])
            for index, name in enumerate(self._first.outputs)
        }
        found = self._first.decode(stacked, np.tile(row_present, heads)).detections
        if found is None or not len(found):
            return [HeadResult(detections=RowDetections.empty()) for _ in range(heads)]
        ends = np.searchsorted(found.row, np.arange(1, heads + 1) * rows)  # rows are in order
        starts = [0, *ends[:-1].tolist()]
        parts = [slice(start, end) for start, end in zip(starts, ends.tolist(), strict=True)]
        return [
            HeadResult(
                detections=RowDetections(
                    found.row[part] - np.int32(head * rows), found.class_id[part], found.score[part],
                    found.box_px[part], found.state[part],
                )
            )
            for head, part in enumerate(parts)
        ]  # fmt: skip


def check(head: HydraDetectionsHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the graph's tensors are those of this head."""
    rows = 1 if layout.per_camera else layout.rows
    heatmap = shapes[head.outputs.heatmap]
    faults = misfit("heatmap", heatmap, (rows, len(head.classes), None, None), "batch, classes, rows, columns")
    grid = heatmap[2:] if len(heatmap) == 4 else (None, None)
    faults += misfit("box", shapes[head.outputs.box], (rows, 4, *grid), "batch, dx dy w h, rows, columns")
    if head.outputs.state is not None:
        states = len(_stateful_class(head)[1])
        expected = (rows, states, *grid)
        faults += misfit("state", shapes[head.outputs.state], expected, "batch, states, rows, columns")
    for output, name in (("distance", head.outputs.distance), ("speed", head.outputs.speed)):
        if name is not None:
            faults += misfit(output, shapes[name], (rows, 1, *grid), "batch, 1, rows, columns")
    return faults


def _stateful_class(head: HydraDetectionsHead) -> tuple[int, tuple[str, ...]]:
    for class_name, states in head.states.items():
        return head.classes.index(class_name), states
    return -1, ()


def _neighbours(height: int, width: int) -> NDArray[np.intp]:
    """`[8, cells]` steps from each cell of a plane to the eight around it.

    At the border a step stays where it is, and meets the cell itself or another true neighbour.
    """
    y, x = np.divmod(np.arange(height * width), width)
    up, down = np.where(y > 0, -width, 0), np.where(y < height - 1, width, 0)
    left, right = np.where(x > 0, -1, 0), np.where(x < width - 1, 1, 0)
    here = np.zeros_like(x)
    steps = [vertical + horizontal for vertical in (up, here, down) for horizontal in (left, here, right)]
    return np.stack(steps[:4] + steps[5:]).astype(np.intp)
