"""What calibration measures on: framesets from drives and images, through the runtime's own decoding and preparation.

A drive is cut into as many equal spans as samples are wanted, and one moment is drawn from each, so that a sample set
is spread over time whatever the seed. At each moment every camera gives its last picture (only the group of pictures
around the moment is decoded) and every signal its last value. Images fill framesets row by row. Instants that are
already prepared (`from_arrays`) come in as they are.

Same sources and same seed: same samples, and the same `sample_hash`, which `ranges.json` keeps. Sources that give
nothing (no such file, no picture, too many cameras for the network) are collected and raised together as
`SamplingError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from calibration.int8.ranges import Feed
from runtime.capture.decoding import PacketDecoder, UnknownCodecError
from runtime.capture.preparation import ImagePreparer
from runtime.drives import Drive, DriveCamera, DriveVideoError, open_drive
from runtime.formats.documents import DocumentError
from runtime.formats.image_spec import Geometry
from runtime.inference.manifest import ImagesInput, Manifest
from runtime.inference.rows import layout_for
from runtime.messages import Packet, SignalValue

#: Packets from one key frame to the next that are kept for decoding; longer groups are decoded from their last part.
LONGEST_GROUP_PACKETS = 1200

Progress = Callable[[int, int], None]


class SamplingError(ValueError):
    """Some sources cannot be sampled; the message has one line for each."""


@dataclass(slots=True)
class Sample:
    """One instant as the network would see it: row i is batch row i, missing rows hold the pad value."""

    images: NDArray[np.uint8]  # [N, 3, H, W]
    present: NDArray[np.bool_]  # [N]
    geometry: tuple[Geometry | None, ...]
    signals: dict[str, float]  # by signal name, known ones only
    origin: str


def sample_sources(
    manifest: Manifest,
    drives: Sequence[Path],
    images: Sequence[Path],
    count: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> list[Sample]:
    """`count` samples at most, shared evenly by the sources. Raises `SamplingError` when any source fails."""
    if not drives and not images:
        raise SamplingError("nothing to sample: give at least one drive or image")
    generator = np.random.default_rng(seed)
    faults: list[str] = []
    samples: list[Sample] = []
    shares = _shares(count, len(drives) + bool(images))
    for share, path in zip(shares, drives, strict=False):
        try:
            samples += sample_drive(manifest, open_drive(path), share, generator)
        except (DocumentError, SamplingError, OSError) as error:
            faults.append(str(error))
        progress(len(samples), count)
    if images:
        try:
            samples += sample_images(manifest, images, shares[-1], generator)
        except SamplingError as error:
            faults.append(str(error))
        progress(len(samples), count)
    if faults:
        raise SamplingError("\n".join(faults))
    return samples


def sample_drive(manifest: Manifest, drive: Drive, count: int, generator: np.random.Generator) -> list[Sample]:
    """`count` moments of a drive, all cameras at each."""
    if not drive.cameras:
        raise SamplingError(f"{drive.path}: drive {drive.name!r} has no cameras to calibrate on")
    moments = _moments(drive, count, generator)
    try:
        layout = layout_for(manifest, tuple(drive.cameras))
    except ValueError as error:
        raise SamplingError(f"{drive.path}: {error}") from error
    samples = [_empty(manifest.images, layout.rows, f"{drive.path}@{moment}") for moment in moments]
    for name, camera in drive.cameras.items():
        preparer = ImagePreparer(manifest.images.image_spec)
        for index, picture in _pictures_at(camera, moments):
            _place(samples[index], layout.row_of_camera[name], preparer, picture)
    _fill_signals(samples, moments, drive, {entry.signal for entry in manifest.signals})
    seen = [sample for sample in samples if sample.present.any()]
    if not seen:
        raise SamplingError(f"{drive.path}: no camera gave a picture that can be decoded")
    return seen


def sample_images(
    manifest: Manifest, paths: Sequence[Path], count: int, generator: np.random.Generator
) -> list[Sample]:
    """Image files in random order, as many to a sample as the network's batch has rows."""
    rows = manifest.images.batch
    order = [paths[index] for index in generator.permutation(len(paths))][: count * rows]
    preparer = ImagePreparer(manifest.images.image_spec)
    samples, faults = [], []
    for start in range(0, len(order), rows):
        sample = _empty(manifest.images, rows, str(order[start]))
        for row, path in enumerate(order[start : start + rows]):
            try:
                _place(sample, row, preparer, _first_picture(path))
            except (OSError, av.error.FFmpegError, StopIteration) as error:
                faults.append(f"{path}: is not an image that can be read ({error}); give JPEG or PNG files")
        samples.append(sample)
    if faults:
        raise SamplingError("\n".join(faults))
    return samples


def from_arrays(images: NDArray[np.uint8], signals: dict[str, float], origin: str) -> Sample:
    """A sample of images `[N, 3, H, W]` that are already prepared."""
    count = images.shape[0]
    return Sample(np.asarray(images), np.ones(count, np.bool_), (None,) * count, signals, origin)


def feeds_of(manifest: Manifest, sample: Sample) -> list[Feed]:
    """What the network is run on for one sample: one feed, or one for each camera when its batch is 1."""
    signals = {
        entry.name: np.full(entry.shape, sample.signals.get(entry.signal, entry.unknown), np.float32)
        for entry in manifest.signals
    }
    spec = manifest.images
    if spec.batch > 1:
        return [{spec.name: to_input(spec, sample.images), **signals}]
    rows = np.flatnonzero(sample.present)
    return [{spec.name: to_input(spec, sample.images[row : row + 1]), **signals} for row in rows]


def to_input(spec: ImagesInput, images: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Prepared pixels as the network's input: `(pixel * scale - mean) / std` for floats."""
    if spec.dtype == "uint8":
        return images
    mean = np.array(spec.mean, np.float32).reshape(1, 3, 1, 1)
    std = np.array(spec.std, np.float32).reshape(1, 3, 1, 1)
    return np.asarray((images.astype(np.float32) * np.float32(spec.scale) - mean) / std, np.float32)


def sample_hash(feeds: Iterable[Feed]) -> str:
    """SHA-256 over everything that the ranges were measured on."""
    digest = hashlib.sha256()
    for feed in feeds:
        for name in sorted(feed):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(feed[name]).tobytes())
    return digest.hexdigest()


def _shares(count: int, sources: int) -> list[int]:
    """`count` split as evenly as it goes, at least one each."""
    return [max(1, count // sources + (index < count % sources)) for index in range(sources)]


def _moments(drive: Drive, count: int, generator: np.random.Generator) -> list[int]:
    span = (drive.end_ns - drive.start_ns) / count
    return [drive.start_ns + int((index + generator.random()) * span) for index in range(count)]


def _empty(spec: ImagesInput, rows: int, origin: str) -> Sample:
    images = np.full((rows, *spec.image_spec.plane_shape), spec.pad_value, np.uint8)
    return Sample(images, np.zeros(rows, np.bool_), (None,) * rows, {}, origin)


def _place(sample: Sample, row: int, preparer: ImagePreparer, picture: av.VideoFrame) -> None:
    geometry = preparer.prepare(picture, sample.images[row])
    sample.present[row] = True
    sample.geometry = (*sample.geometry[:row], geometry, *sample.geometry[row + 1 :])


def _pictures_at(camera: DriveCamera, moments: Sequence[int]) -> Iterable[tuple[int, av.VideoFrame]]:
    """The camera's last picture at each moment, as far as its video goes. `moments` are in order."""
    group: list[Packet] = []
    pending = 0
    for packet in _readable(camera):
        while pending < len(moments) and packet.time_ns > moments[pending]:
            picture = _last_picture(camera, group)
            if picture is not None:
                yield pending, picture
            pending += 1
        if pending == len(moments):
            return
        if packet.is_key or len(group) >= LONGEST_GROUP_PACKETS:
            group = []
        group.append(packet)
    if pending < len(moments) and (picture := _last_picture(camera, group)) is not None:
        yield pending, picture


def _readable(camera: DriveCamera) -> Iterable[Packet]:
    """Packets up to where the video breaks: a damaged recording is still good to calibrate on before the damage."""
    try:
        yield from camera.packets()
    except DriveVideoError:
        return


def _last_picture(camera: DriveCamera, group: Sequence[Packet]) -> av.VideoFrame | None:
    if not group:
        return None
    try:
        decoder = PacketDecoder(camera.stream())
    except (UnknownCodecError, DriveVideoError):
        return None
    frames = [frame for packet in group for frame in decoder.decode(packet)]
    return frames[-1].picture if frames else None


def _first_picture(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        picture: av.VideoFrame = next(iter(container.decode(video=0)))
        return picture


def _fill_signals(samples: Sequence[Sample], moments: Sequence[int], drive: Drive, wanted: set[str]) -> None:
    if not wanted:
        return
    latest: dict[str, SignalValue] = {}
    pending = 0
    for signal in drive.signal_samples():
        while pending < len(moments) and signal.time_ns > moments[pending]:
            samples[pending].signals = {name: float(value) for name, value in latest.items()}
            pending += 1
        if signal.name in wanted:
            latest[signal.name] = signal.value
    for index in range(pending, len(moments)):
        samples[index].signals = {name: float(value) for name, value in latest.items()}
