"""What calibration measures on: framesets from drives and images, through the runtime's own decoding and preparation.

A drive is cut into as many equal spans as samples are wanted, and one moment is taken from each, so that a sample set
is spread over time whatever the seed; of several random moments of a span the one is taken that adds most to the range
of light (`light`). At each moment every camera gives its last picture and every signal its last value. Images fill
framesets row by row, chosen by their light as well. Instants that are already prepared (`from_arrays`) come in as they
are.

A network with states gets a *lead-in* before each moment: consecutive instants at the pace of the drive's first camera,
from which `feeds` makes the state that it has at that moment. An image is led in to by itself: a scene that stands
still. Lead-ins are bounded by `MAX_LEAD_IN_BYTES` for a source. Matrices of the rig come from the `rig.yaml` in the
drive's own folder.

Same sources and same seed: same samples, and the same `sample_hash`, which `ranges.json` keeps. Sources that give
nothing (no such file, no picture, too many cameras for the network) are collected and raised together as
`SamplingError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from calibration.int8.light import choose_by_light
from calibration.int8.pictures import first_picture, luma, lumas_at, pictures_at, readable
from calibration.int8.ranges import Feed
from runtime.capture.preparation import ImagePreparer
from runtime.drives import Drive, DriveCamera, open_drive
from runtime.formats.documents import DocumentError
from runtime.formats.image_spec import Geometry
from runtime.inference.calibration_feed import Calibrations, calibration_values, stand_in_cameras
from runtime.inference.manifest import ImagesInput, Manifest
from runtime.inference.rows import layout_for
from runtime.messages import NANOSECONDS_PER_SECOND, SignalValue
from runtime.rig import Rig, load_rig

#: Moments of each span, and images for each row, among which light decides.
CANDIDATES = 4
#: Instants before a sample that a network with states runs on: most of what a leaky memory holds is younger.
LEAD_IN_INSTANTS = 8
MAX_LEAD_IN_BYTES = 512 * 1024 * 1024
DEFAULT_PERIOD_NS = NANOSECONDS_PER_SECOND // 20

Progress = Callable[[int, int], None]


class SamplingError(ValueError):
    """Some sources cannot be sampled; the message has one line for each."""


@dataclass(slots=True)
class Instant:
    """One instant before a sample, as the network would see it."""

    images: NDArray[np.uint8]  # [N, 3, H, W]
    present: NDArray[np.bool_]  # [N]
    signals: dict[str, float]


@dataclass(slots=True)
class Sample:
    """One instant as the network would see it: row i is batch row i, missing rows hold the pad value."""

    images: NDArray[np.uint8]  # [N, 3, H, W]
    present: NDArray[np.bool_]  # [N]
    geometry: tuple[Geometry | None, ...]
    signals: dict[str, float]  # by signal name, known ones only
    origin: str
    #: What calibration inputs take, by input and stream (`runtime.inference.calibration_feed`).
    calibrations: Calibrations = field(default_factory=dict)
    lead_in: tuple[Instant, ...] = ()  # oldest first


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
    cameras = tuple(drive.cameras)
    try:
        layout = layout_for(manifest, cameras)
        matrices = calibration_values(manifest, layout, cameras, _rig_of(drive) if manifest.calibrations else None)
    except ValueError as error:
        raise SamplingError(f"{drive.path}: {error}") from error
    samples = [_empty(manifest.images, layout.rows, f"{drive.path}@{moment}", matrices) for moment in moments]
    wanted = _lead_ins(manifest, drive, samples, moments)
    times = [time_ns for time_ns, _ in wanted]
    for name, camera in drive.cameras.items():
        preparer, row = ImagePreparer(manifest.images.image_spec), layout.row_of_camera[name]
        for index, picture in pictures_at(camera, times):
            _place(wanted[index][1], row, preparer, picture)
    _fill_signals(wanted, drive, {entry.signal for entry in manifest.signals})
    seen = [sample for sample in samples if sample.present.any()]
    if not seen:
        raise SamplingError(f"{drive.path}: no camera gave a picture that can be decoded")
    return seen


def sample_images(
    manifest: Manifest, paths: Sequence[Path], count: int, generator: np.random.Generator
) -> list[Sample]:
    """Image files in random order, as many to a sample as a run of the network sees."""
    rows = manifest.rows
    names = stand_in_cameras(manifest)
    try:
        matrices = calibration_values(manifest, layout_for(manifest, names), names, None)
    except ValueError as error:
        raise SamplingError(
            f"{paths[0]}: {error}; images tell nothing of a rig: give drives with a rig.yaml"
        ) from error
    faults: list[str] = []
    shuffled = [paths[index] for index in generator.permutation(len(paths))]
    order = _images_of_every_light(shuffled, count * rows, faults)
    preparer = ImagePreparer(manifest.images.image_spec)
    samples = []
    for start in range(0, len(order), rows):
        sample = _empty(manifest.images, rows, str(order[start]), matrices)
        for row, path in enumerate(order[start : start + rows]):
            if (picture := _read(path, faults)) is not None:
                _place(sample, row, preparer, picture)
        if manifest.states:
            sample.lead_in = (Instant(sample.images, sample.present, sample.signals),) * LEAD_IN_INSTANTS
        samples.append(sample)
    if faults:
        raise SamplingError("\n".join(dict.fromkeys(faults)))
    return samples


def from_arrays(
    images: NDArray[np.uint8],
    signals: dict[str, float],
    origin: str,
    calibrations: Calibrations | None = None,
    lead_in: Sequence[Instant] = (),
) -> Sample:
    """A sample of images `[N, 3, H, W]` that are already prepared."""
    count = images.shape[0]
    present = np.ones(count, np.bool_)
    return Sample(np.asarray(images), present, (None,) * count, signals, origin, calibrations or {}, tuple(lead_in))


def feeds_of(manifest: Manifest, sample: Sample) -> list[Feed]:
    """What a network without states is run on for one sample; `feeds.build_feeds` knows every network."""
    from calibration.int8.feeds import stateless_feed, streams_of

    return [stateless_feed(manifest, sample, sample.calibrations, stream) for stream in streams_of(manifest, sample)]


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
    """One moment of each of `count` spans: of some random ones, that which adds most to the range of light."""
    span = (drive.end_ns - drive.start_ns) / count
    drawn = np.sort(generator.random((count, CANDIDATES)), axis=1)
    times = (drive.start_ns + ((np.arange(count)[:, None] + drawn) * span)).astype(np.int64)
    camera = next(iter(drive.cameras.values()))
    lumas = lumas_at(camera, times.reshape(-1).tolist()).reshape(count, CANDIDATES)
    return [int(times[index, candidate]) for index, candidate in enumerate(choose_by_light(list(lumas)))]


def _images_of_every_light(paths: Sequence[Path], wanted: int, faults: list[str]) -> list[Path]:
    """As many of the paths as are wanted; where there are more, light decides between neighbours."""
    if len(paths) <= wanted:
        return list(paths)
    groups = [paths[index::wanted][:CANDIDATES] for index in range(wanted)]
    pictures = ([_read(path, faults) for path in group] for group in groups)
    lumas = [np.array([np.nan if picture is None else luma(picture) for picture in group]) for group in pictures]
    return [group[index] for group, index in zip(groups, choose_by_light(lumas), strict=True)]


def _read(path: Path, faults: list[str]) -> av.VideoFrame | None:
    """The image in a file; None, with a fault noted, when there is none."""
    try:
        return first_picture(path)
    except (OSError, av.error.FFmpegError, StopIteration) as error:
        faults.append(f"{path}: is not an image that can be read ({error}); give JPEG or PNG files")
        return None


def _lead_ins(
    manifest: Manifest, drive: Drive, samples: Sequence[Sample], moments: Sequence[int]
) -> list[tuple[int, Sample | Instant]]:
    """Samples, and instants that lead in to them where the network has states, in order of time."""
    wanted: list[tuple[int, Sample | Instant]] = list(zip(moments, samples, strict=True))
    length = min(LEAD_IN_INSTANTS, MAX_LEAD_IN_BYTES // (len(samples) * samples[0].images.nbytes))
    period_ns = _period_ns(next(iter(drive.cameras.values()))) if manifest.states else 0
    for sample, moment in zip(samples, moments, strict=True) if manifest.states else ():
        times = [moment - step * period_ns for step in range(length, 0, -1)]
        times = [time_ns for time_ns in times if time_ns >= drive.start_ns]
        sample.lead_in = tuple(
            Instant(sample.images.copy(), np.zeros_like(sample.present), {}) for _ in range(len(times))
        )
        wanted += zip(times, sample.lead_in, strict=True)
    return sorted(wanted, key=lambda entry: entry[0])


def _period_ns(camera: DriveCamera) -> int:
    """The usual time from one picture of the camera to the next."""
    times = np.sort([packet.time_ns for packet in readable(camera)])
    steps = np.diff(times)
    return max(1, int(np.median(steps[steps > 0]))) if (steps > 0).any() else DEFAULT_PERIOD_NS


def _rig_of(drive: Drive) -> Rig | None:
    """The calibration that lies in the drive's own folder, if any. Raises DocumentError."""
    path = (drive.path if drive.path.is_dir() else drive.path.parent) / "rig.yaml"
    return load_rig(path) if path.is_file() else None


def _empty(spec: ImagesInput, rows: int, origin: str, matrices: Calibrations) -> Sample:
    images = np.full((rows, *spec.image_spec.plane_shape), spec.pad_value, np.uint8)
    return Sample(images, np.zeros(rows, np.bool_), (None,) * rows, {}, origin, matrices)


def _place(place: Sample | Instant, row: int, preparer: ImagePreparer, picture: av.VideoFrame) -> None:
    geometry = preparer.prepare(picture, place.images[row])
    place.present[row] = True
    if isinstance(place, Sample):
        place.geometry = (*place.geometry[:row], geometry, *place.geometry[row + 1 :])


def _fill_signals(wanted: Sequence[tuple[int, Sample | Instant]], drive: Drive, names: set[str]) -> None:
    """The last values at each instant; `wanted` is in order of time."""
    if not names:
        return
    latest: dict[str, SignalValue] = {}
    pending = 0
    for signal in drive.signal_samples():
        while pending < len(wanted) and signal.time_ns > wanted[pending][0]:
            wanted[pending][1].signals = _numbers(latest)
            pending += 1
        if signal.name in names:
            latest[signal.name] = signal.value
    for _, place in wanted[pending:]:
        place.signals = _numbers(latest)


def _numbers(values: Mapping[str, SignalValue]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if not isinstance(value, str)}
