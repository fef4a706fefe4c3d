"""A picture as an embedding: image files and recordings without predictions go through a network once.

The picture stands alone in its camera's row of the batch, as if all other cameras were missing. What a network said
while a recording was made is read by `recorded_embeddings` instead.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from runtime.capture.decoding import PacketDecoder, UnknownCodecError
from runtime.capture.preparation import ImagePreparer
from runtime.composition import ModelChoice, open_network
from runtime.drives import Drive, DriveVideoError
from runtime.inference.embedding import EmbeddingReader
from runtime.messages import NANOSECONDS_PER_SECOND, Frameset
from runtime.recorded_embeddings import Scene
from runtime.recording.provenance import ModelProvenance


class SceneError(ValueError):
    """There is no embedding to be had; the text says why and what to do."""


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
