"""What calibration measures on: framesets from drives and images, through the runtime's own decoding and preparation.

A drive is cut into as many equal spans as samples are wanted, and one moment is taken from each, so that a sample set
is spread over time whatever the seed; of several random moments of a span the one is taken that adds most to the range
of light (`light`). At each moment every camera gives its last picture and every signal its last value. Images and
frames of videos (`image_sources`) fill framesets row by row, images chosen by their light as well. Instants that are
already prepared (`from_arrays`) come in as they are.

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
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from calibration.int8.image_sources import expand, frames_of, images_of_every_light, read_image
from calibration.int8.light import choose_by_light
from calibration.int8.pictures import lumas_at, pictures_at, readable
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

#: Moments of each span among which light decides.
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
        raise SamplingError("nothing to sample: give at least one drive, image or video")
    generator = np.random.default_rng(seed)
    faults: list[str] = []
    stills, videos = expand(images, faults)
    sources: list[Callable[[int], list[Sample]]] = [
        *(partial(_drive_at, manifest, path, generator) for path in drives),
        *(partial(sample_video, manifest, path, generator) for path in videos),
    ]
    if stills:
        sources.append(partial(sample_images, manifest, stills, generator))
    samples: list[Sample] = []
    for source, share in zip(sources, _shares(count, len(sources)), strict=True):
        try:
            samples += source(share)
        except (DocumentError, SamplingError, OSError) as error:
            faults.append(str(error))
        progress(len(samples), count)
    if faults:
        raise SamplingError("\n".join(faults))
    return samples


def _drive_at(manifest: Manifest, path: Path, generator: np.random.Generator, count: int) -> list[Sample]:
    return sample_drive(manifest, open_drive(path), count, generator)


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
    blind = [name for name in cameras if not any(sample.present[layout.row_of_camera[name]] for sample in samples)]
    if blind:
        fix = "mend or leave out the recording: INT8 ranges of what those cameras see would be missing"
        raise SamplingError(f"{drive.path}: no picture of {', '.join(blind)} can be decoded at any sample ({fix})")
    return [sample for sample in samples if sample.present.any()]


def sample_images(
    manifest: Manifest, paths: Sequence[Path], generator: np.random.Generator, count: int
) -> list[Sample]:
    """Image files in random order, as many to a sample as a run of the network sees."""
    faults: list[str] = []
    shuffled = [paths[index] for index in generator.permutation(len(paths))]
    order = images_of_every_light(shuffled, count * manifest.rows, faults)
    pictures = ((str(path), read_image(path, faults)) for path in order)
    samples = _fill_rows(manifest, ((name, picture) for name, picture in pictures if picture is not None))
    if faults:
        raise SamplingError("\n".join(dict.fromkeys(faults)))
    return samples


def sample_video(manifest: Manifest, path: Path, generator: np.random.Generator, count: int) -> list[Sample]:
    """Frames of a video that is no drive, spread over its length, as many to a sample as a run of the network sees."""
    try:
        frames = frames_of(path, count * manifest.rows, generator)
        samples = _fill_rows(manifest, ((f"{path}#{number}", picture) for number, picture in frames))
    except av.error.FFmpegError as error:
        raise SamplingError(f"{path}: is not a video that can be read ({error}); give MP4 or GIF files") from error
    if not samples:
        raise SamplingError(f"{path}: has no frame that can be decoded; give MP4 or GIF files")
    return samples


def _fill_rows(manifest: Manifest, pictures: Iterable[tuple[str, av.VideoFrame]]) -> list[Sample]:
    """Pictures of one camera or of many, row after row. Nothing came before them: states see a scene that stands."""
    names = stand_in_cameras(manifest)
    try:
        matrices = calibration_values(manifest, layout_for(manifest, names), names, None)
    except ValueError as error:
        raise SamplingError(f"{error}; images tell nothing of a rig: give drives with a rig.yaml") from error
    rows, preparer = manifest.rows, ImagePreparer(manifest.images.image_spec)
    samples: list[Sample] = []
    for index, (origin, picture) in enumerate(pictures):
        if index % rows == 0:
            samples.append(_empty(manifest.images, rows, origin, matrices))
        _place(samples[-1], index % rows, preparer, picture)
    for sample in samples if manifest.states else ():
        sample.lead_in = (Instant(sample.images, sample.present, sample.signals),) * LEAD_IN_INSTANTS
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
