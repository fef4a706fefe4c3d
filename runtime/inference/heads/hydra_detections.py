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
        self._head = head
        _, self._classes, self._grid_height, self._grid_width = shapes[head.outputs.heatmap]
        self._cell_px = np.array([layout.width / self._grid_width, layout.height / self._grid_height], np.float32)
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
        heatmap = np.asarray(tensors[self._head.outputs.heatmap], np.float32)
        candidates = np.flatnonzero(heatmap.reshape(-1) >= self._head.score_threshold)
        row, class_id, y, x = np.unravel_index(candidates, heatmap.shape)
        score = heatmap.reshape(-1)[candidates]
        peak = row_present[row] & _is_peak(heatmap, candidates, y, x)
        row, class_id, y, x, score = row[peak], class_id[peak], y[peak], x[peak], score[peak]
        best = strongest(row, score, self._head.max_per_camera)
        row, class_id, y, x, score = row[best], class_id[best], y[best], x[best], score[best]
        if score.size == 0:
            return RowDetections.empty()
        box_px = self._boxes(np.asarray(tensors[self._head.outputs.box], np.float32), row, y, x)
        kept = suppress(row, class_id, score, box_px, self._head.iou_threshold, self._head.max_per_camera)
        state = self._states(tensors, row[kept], class_id[kept], y[kept], x[kept])
        found = RowDetections(
            row[kept].astype(np.int32), class_id[kept].astype(np.int32), score[kept], box_px[kept], state
        )
        found.distance_m = _plane_at(tensors, self._head.outputs.distance, row[kept], y[kept], x[kept])
        found.speed_mps = _plane_at(tensors, self._head.outputs.speed, row[kept], y[kept], x[kept])
        return found

    def _boxes(
        self, box: NDArray[np.float32], row: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        values = box[row, :, y, x]
        centre_px = (np.stack((x, y), axis=1) + values[:, :2]) * self._cell_px
        half_px = np.maximum(values[:, 2:], 0.0) * self._cell_px / 2.0
        return np.concatenate((centre_px - half_px, centre_px + half_px), axis=1).astype(np.float32)

    def _states(
        self,
        tensors: Mapping[str, NDArray[np.generic]],
        row: NDArray[np.intp],
        class_id: NDArray[np.intp],
        y: NDArray[np.intp],
        x: NDArray[np.intp],
    ) -> Sequence[str | None]:
        states: list[str | None] = [None] * int(row.size)
        if self._head.outputs.state is None:
            return states
        tensor = np.asarray(tensors[self._head.outputs.state])
        for index in np.flatnonzero(class_id == self._state_class).tolist():
            probabilities = tensor[row[index], :, y[index], x[index]]
            best = int(np.argmax(probabilities))
            states[index] = self._state_names[best] if probabilities[best] >= STATE_PROBABILITY else None
        return states


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


def _plane_at(
    tensors: Mapping[str, NDArray[np.generic]],
    name: str | None,
    row: NDArray[np.intp],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> NDArray[np.float32] | None:
    """One value for each object, NaN where it is not finite; None where the head has no such output."""
    if name is None:
        return None
    values = np.asarray(tensors[name][row, 0, y, x], np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _stateful_class(head: HydraDetectionsHead) -> tuple[int, tuple[str, ...]]:
    for class_name, states in head.states.items():
        return head.classes.index(class_name), states
    return -1, ()


def _is_peak(
    heatmap: NDArray[np.float32], cell: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """True where no neighbour is higher. Looking at the few candidates beats a 3x3 maximum over every cell."""
    height, width = heatmap.shape[2:]
    flat = heatmap.reshape(-1)
    score = flat[cell]
    peak = np.ones(cell.size, np.bool_)
    # At the border a step stays where it is, and meets the cell itself or another true neighbour.
    up, down = np.where(y > 0, -width, 0), np.where(y < height - 1, width, 0)
    left, right = np.where(x > 0, -1, 0), np.where(x < width - 1, 1, 0)
    for vertical in (up, 0, down):
        for horizontal in (left, 0, right):
            peak &= score >= flat[cell + vertical + horizontal]
    return peak
