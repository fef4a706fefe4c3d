"""What a network said of scenes while a recording was made: for queries, for ranking, and for rules without inference.

`/prediction` holds the head `embedding` as the network gave it (one row per batch row) and `camera_rows`, which row is
whose; the ticks say which cameras were there, and a clip's manifest names the model. So a query or a learned trigger
that did not exist when the drive was recorded can be tried on it now, at no more than the cost of reading.

The recording does not say which images were held over from an earlier tick: all that were there count here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.formats import topics
from runtime.formats.json_messages import tensor_from_json
from runtime.formats.mcap_files import McapTopicReader
from runtime.inference.embedding import HEAD_NAME, EmbeddingReader, EmbeddingSpace
from runtime.inference.learned import LearnedRules, LearnedTriggers
from runtime.messages import Detections, Prediction, SignalValue
from runtime.recording.clip_file import read_manifest
from runtime.recording.manifest import MANIFEST_ATTACHMENT
from runtime.recording.provenance import ModelProvenance


@dataclass(frozen=True, slots=True)
class Scene:
    """What a model says of one camera at one moment."""

    camera: str
    time_ns: int
    vector: NDArray[np.float64]  # [D], of length 1


@dataclass(frozen=True, slots=True)
class _Said:
    """One recorded embedding."""

    time_ns: int
    head: NDArray[np.generic]
    camera_rows: Mapping[str, int]
    present: frozenset[str]

    def space(self, model: str) -> EmbeddingSpace:
        rows = int(self.head.shape[0])
        row_of_camera = {camera: row if rows > 1 else 0 for camera, row in self.camera_rows.items()}
        return EmbeddingSpace(model, HEAD_NAME, rows, self.head.size // rows, row_of_camera)

    def prediction(self) -> Prediction:
        return Prediction(self.time_ns, Detections.empty(), (), heads={HEAD_NAME: self.head})

    def fresh(self, cameras: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([camera in self.present for camera in cameras], np.bool_)


def recorded_model(reader: McapTopicReader) -> ModelProvenance | None:
    """The model whose embeddings a clip holds; None when it holds none, or does not say whose."""
    if topics.PREDICTION not in reader.topics or MANIFEST_ATTACHMENT not in reader.attachments():
        return None
    return read_manifest(reader).provenance.model if next(_said(reader), None) is not None else None


def recorded_scenes(reader: McapTopicReader, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Scene]:
    """Every camera's embedding on every tick on which it was there, in order of time."""
    embeddings: EmbeddingReader | None = None
    for said in _said(reader, start_ns, end_ns):
        space = said.space("")
        if embeddings is None or embeddings.space != space:
            embeddings = EmbeddingReader(space)
        embeddings.read(said.prediction(), said.fresh(tuple(space.row_of_camera)))
        for camera, row in space.row_of_camera.items():
            if embeddings.counts[row] and camera in said.present:
                yield Scene(camera, said.time_ns, embeddings.vectors[row].astype(np.float64))


def recorded_learned(
    reader: McapTopicReader, rules: LearnedRules, model: str
) -> Iterator[tuple[int, Mapping[str, SignalValue]]]:
    """`embedding.*` and `classifier.*` of these rules on every recorded tick of `model`, with the tick's time.

    Raises:
        DocumentError: a query or a classifier does not do for the recorded embedding.
    """
    embeddings: EmbeddingReader | None = None
    triggers = LearnedTriggers()
    for said in _said(reader):
        space = said.space(model)
        if embeddings is None or embeddings.space != space:
            embeddings, triggers = EmbeddingReader(space), LearnedTriggers.open(rules, space)
        if embeddings.read(said.prediction(), said.fresh(tuple(space.row_of_camera))):
            yield said.time_ns, triggers.values(embeddings.vectors, embeddings.counts)


def _said(reader: McapTopicReader, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[_Said]:
    present = {
        message.time_ns: frozenset(message.json().get("present", ()))
        for message in reader.messages({topics.TICK}, start_ns, end_ns)
    }
    for message in reader.messages({topics.PREDICTION}, start_ns, end_ns):
        fields: dict[str, Any] = message.json()
        tensor, rows = fields.get("heads", {}).get(HEAD_NAME), fields.get("camera_rows")
        if tensor is not None and rows:
            there = present.get(message.time_ns, frozenset(rows))
            yield _Said(message.time_ns, tensor_from_json(tensor), rows, there)
