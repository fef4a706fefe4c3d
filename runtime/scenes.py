"""A scene as its embedding: from what a recording says, or from a picture through a network.

A recording that was made with a model holds its embeddings in `/prediction` (one row per batch row, `camera_rows` says
whose), its ticks say which cameras were there, and a clip's manifest names the model. Other recordings and image files
hold pictures only; those go through a network once, alone in their camera's row of the batch. Vectors have length 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from runtime.capture.decoding import PacketDecoder, UnknownCodecError
from runtime.capture.preparation import ImagePreparer
from runtime.composition import ModelChoice, open_network
from runtime.drives import Drive, DriveVideoError
from runtime.formats import topics
from runtime.formats.json_messages import tensor_from_json
from runtime.formats.mcap_files import McapTopicReader
from runtime.inference.embedding import EmbeddingReader
from runtime.messages import NANOSECONDS_PER_SECOND, Frameset
from runtime.recording.clip_file import read_manifest
from runtime.recording.manifest import MANIFEST_ATTACHMENT
from runtime.recording.provenance import ModelProvenance

HEAD = "embedding"
SHORTEST = 1e-6


class SceneError(ValueError):
    """There is no embedding to be had; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a model says of one camera at one moment."""

    camera: str
    time_ns: int
    vector: NDArray[np.float64]  # [D], of length 1


def recorded_model(reader: McapTopicReader) -> ModelProvenance | None:
    """The model whose embeddings a clip holds; None when it holds none, or does not say whose."""
    if topics.PREDICTION not in reader.topics or MANIFEST_ATTACHMENT not in reader.attachments():
        return None
    has_embedding = next(recorded_scenes(reader), None) is not None
    return read_manifest(reader).provenance.model if has_embedding else None


def recorded_scenes(reader: McapTopicReader, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Scene]:
    """Every camera's embedding on every tick on which it was there, in order of time."""
    present: dict[int, set[str]] = {}
    for message in reader.messages({topics.TICK, topics.PREDICTION}, start_ns, end_ns):
        if message.topic == topics.TICK:
            present[message.time_ns] = set(message.json().get("present", ()))
    for message in reader.messages({topics.PREDICTION}, start_ns, end_ns):
        said = json.loads(message.data)
        head, rows = said.get("heads", {}).get(HEAD), said.get("camera_rows") or {}
        if head is None:
            continue
        vectors = np.asarray(tensor_from_json(head), np.float64)
        vectors = vectors.reshape(vectors.shape[0], -1)
        for camera, row in rows.items():
            length = float(np.linalg.norm(vectors[row if vectors.shape[0] > 1 else 0]))
            if camera in present.get(message.time_ns, rows) and np.isfinite(length) and length > SHORTEST:
                yield Scene(camera, message.time_ns, vectors[row if vectors.shape[0] > 1 else 0] / length)


def picture_of_file(path: Path) -> av.VideoFrame:
    """The picture in an image file. Raises SceneError."""
    try:
        with av.open(str(path)) as container:
            picture: av.VideoFrame = next(container.decode(video=0))
            return picture
    except (av.error.FFmpegError, IndexError, StopIteration, OSError) as error:
        raise SceneError(f"{path} holds no picture that can be decoded: {error}") from error


def picture_of_drive(drive: Drive, camera: str, time_ns: int) -> av.VideoFrame:
    """The picture that a camera of a drive showed at a moment: its newest by then. Raises SceneError."""
    newest: av.VideoFrame | None = None
    try:
        decoder = PacketDecoder(drive.cameras[camera].stream())
        for packet in drive.cameras[camera].packets():
            if packet.time_ns > time_ns and newest is not None:
                break
            for frame in decoder.decode(packet):
                newest = frame.picture
    except (DriveVideoError, UnknownCodecError) as error:
        raise SceneError(f"camera {camera}: {error}") from error
    if newest is None:
        raise SceneError(f"camera {camera} of {drive.path} shows no picture by {time_ns / NANOSECONDS_PER_SECOND:g} s")
    return newest


def embed(bundle: Path, camera: str, picture: av.VideoFrame) -> tuple[Scene, ModelProvenance]:
    """What the network in this bundle says of one camera's picture.

    Raises:
        DocumentError, CompositionError: the bundle is bad, or does not fit.
        SceneError: it has no embedding, or none for this picture.
    """
    network = open_network(ModelChoice(bundle), (camera,))
    try:
        if network.embedding is None:
            raise SceneError(f"model {network.description.name} has no embedding head: choose another with --model")
        spec = network.image_spec
        images = np.full((1, *spec.plane_shape), spec.pad_value, np.uint8)
        ImagePreparer(spec).prepare(picture, images[0])
        one = np.ones(1, np.bool_)
        frameset = Frameset(0, 0, (camera,), one, np.zeros(1, np.int64), np.zeros(1, np.int64), images)
        reader = EmbeddingReader(network.embedding)
        if not reader.read(network.predict(frameset, None, None), one):
            raise SceneError(f"model {network.description.name} gives this picture no embedding")
        vector = reader.vectors[network.embedding.row_of_camera[camera]].astype(np.float64)
        said = network.description
        return Scene(camera, 0, vector), ModelProvenance(name=said.name, version=said.version, sha256=said.sha256)
    finally:
        network.close()
