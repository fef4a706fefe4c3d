"""The network's embedding of a scene: which head holds it, and its rows as unit vectors, once a tick.

An embedding is what a `raw` or `embedding` head called `embedding` publishes, or else the one head with the decoder
`embedding`: one tensor `[rows, D]`, with a row per batch row (camera `c` has row `row_of_camera[c]`), or `[1, D]` for
the scene as a whole, for which every camera then speaks. Distances are cosine distances, so rows are brought to
length 1 here and nobody else has to ask whether the network did.

A row counts on a tick when its camera delivered a *new* image and its values are finite and not all zero: a held image
would say the past again, and padding is not a scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.heads.specification import Head, RawHead
from runtime.messages import Prediction

HEAD_NAME = "embedding"
SHORTEST = 1e-6


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Where a network's embeddings are and what they can be compared with: only with those of the same model."""

    model: str
    head: str
    rows: int
    dimension: int
    row_of_camera: Mapping[str, int]  # in the order of the rig's cameras


def find_embedding(
    model: str, heads: Sequence[Head], shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout
) -> EmbeddingSpace | None:
    """The embedding among `heads`, whose stacked outputs have these shapes; None where there is none."""
    candidates = [head for head in heads if isinstance(head, RawHead) and len(head.outputs) == 1]
    named = [head for head in candidates if head.name == HEAD_NAME]
    for head in named or [head for head in candidates if head.decoder == "embedding"]:
        rows, *sizes = shapes[next(iter(head.outputs.values()))] or (0,)
        if not sizes or any(size != 1 for size in sizes[1:]) or rows not in (1, layout.rows):
            continue
        is_scene = rows == 1
        row_of_camera = {camera: 0 if is_scene else row for camera, row in layout.row_of_camera.items()}
        return EmbeddingSpace(model, head.name, rows, sizes[0], row_of_camera)
    return None


class EmbeddingReader:
    """Reads one prediction after another into arrays of its own."""

    def __init__(self, space: EmbeddingSpace) -> None:
        self.space = space
        self._rows = np.array(list(space.row_of_camera.values()), np.intp)
        #: `[rows, D]`: unit vectors, zero where a row does not count.
        self.vectors: NDArray[np.float32] = np.zeros((space.rows, space.dimension), np.float32)
        self.counts: NDArray[np.bool_] = np.zeros(space.rows, np.bool_)

    def read(self, prediction: Prediction | None, fresh: NDArray[np.bool_]) -> bool:
        """Take in one tick; `fresh` says which cameras delivered a new image. False when no row counts."""
        self.counts.fill(False)
        head = None if prediction is None else prediction.heads.get(self.space.head)
        if head is None or not fresh.any():
            return False
        self.counts[self._rows[fresh]] = True
        np.copyto(self.vectors, head.reshape(self.vectors.shape), casting="unsafe")
        length = np.sqrt(np.einsum("rd,rd->r", self.vectors, self.vectors))
        self.counts &= np.isfinite(length) & (length > SHORTEST)
        self.vectors[~self.counts] = 0.0
        length[~self.counts] = 1.0
        self.vectors /= length[:, None]
        return bool(self.counts.any())
