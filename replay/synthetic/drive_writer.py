"""Writes a synthetic drive: one MCAP file in the layout of every recording, truth included.

    <out>/<name>-<hash>/drive.mcap

The hash covers everything that the bytes depend on (seed, size, rate, length, weather, the generator's version), so a
folder that exists is the drive and is used as it is. A drive is made under a temporary name next to it and renamed
when it is complete: a half-written drive is never found. Cameras are painted by a few processes; how many does not
change a single byte.

Beside the usual topics: `/truth/events` (what was planted), `/truth/<camera>` (objects in each frame, also of frames
that a faulty camera did not deliver), `/truth/ego` and `/truth/lanes` (see `truth_topics`), the calibration of each
camera, and `drive` and `synthetic` metadata.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import multiprocessing
import os
import queue
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replay.synthetic.atmosphere import WEATHERS
from replay.synthetic.camera_film import film_path, read_film, shoot, time_ns_of
from replay.synthetic.recording import Recording
from replay.synthetic.rigs import CAMERAS, synthetic_rig
from replay.synthetic.simulation import drive_road, simulate
from replay.synthetic.truth_topics import EGO_CHANNEL, LANES_CHANNEL, ego_truth, lane_truth
from runtime.formats.mcap_files import McapTopicWriter
from runtime.messages import NANOSECONDS_PER_SECOND, Packet, SignalValue
from runtime.rig import Rig

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    FrameQueue = Queue[int]

#: Raise it when the same parameters begin to give other bytes, so that old folders are not used.
GENERATOR_VERSION = 2
WALL_EPOCH_NS = 1_767_225_600 * NANOSECONDS_PER_SECOND  # 2026-01-01T00:00:00Z: the drive's own date
DRIVE_FILE = "drive.mcap"
POLL_S = 0.2
MOST_PROCESSES = 8
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DriveParameters:
    """Everything that a drive's bytes depend on."""

    seed: int
    duration_s: float
    rate_hz: float
    width: int
    height: int
    weather: str

    def problems(self) -> list[str]:
        """What is wrong with them; empty when they can be used."""
        found = []
        if self.seed < 0:
            found.append(f"seed must not be negative (got {self.seed}; fix: write 0 or more)")
        if not 1.0 <= self.duration_s <= 24 * 3600:
            found.append(f"duration must be 1 s to one day (got {self.duration_s} s)")
        if not 1.0 <= self.rate_hz <= 100:
            found.append(f"rate must be 1 to 100 Hz (got {self.rate_hz} Hz)")
        for name, value in (("width", self.width), ("height", self.height)):
            if not 64 <= value <= 8192 or value % 4:
                found.append(f"{name} must be 64 to 8192 and divisible by 4 (got {value}; fix: {value // 4 * 4})")
        if self.weather not in WEATHERS:
            found.append(f"weather must be one of {', '.join(WEATHERS)} (got {self.weather!r})")
        return found

    @property
    def folder_name(self) -> str:
        """Readable, and different for every drive."""
        text = json.dumps(
            [GENERATOR_VERSION, self.seed, self.duration_s, self.rate_hz, self.width, self.height, self.weather]
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"synthetic-{self.weather}-{self.seed}-{digest}"


def synthesize_drive(
    out_dir: Path | str,
    seed: int,
    duration_s: float,
    rate_hz: float = 20.0,
    size: tuple[int, int] = (1280, 960),
    progress: Progress | None = None,
    weather: str | None = None,
    processes: int | None = None,
) -> Path:
    """Make the drive, or find it made; returns the path of its MCAP file.

    `progress(done, total)` counts frames of all cameras and is called from the caller's thread. Without `weather` the
    seed chooses it. `processes` (default: one for each core) changes the time that it takes and nothing else.

    Raises:
        ValueError: when a parameter cannot be used; the message names all of them.
    """
    chosen = WEATHERS[seed % len(WEATHERS)] if weather is None else weather
    parameters = DriveParameters(int(seed), float(duration_s), float(rate_hz), size[0], size[1], chosen)
    if problems := parameters.problems():
        raise ValueError("; ".join(problems))
    final = Path(out_dir) / parameters.folder_name
    report = progress or (lambda done, total: None)
    if not (final / DRIVE_FILE).exists():
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{parameters.folder_name}-", dir=out_dir) as work:
            _make(parameters, Path(work), report, processes or min(MOST_PROCESSES, os.cpu_count() or 1))
            _publish(Path(work), final)
    return final / DRIVE_FILE


def write_signal_drive(path: Path, seed: int, duration_s: float, rate_hz: float = 20.0, weather: str = "clear") -> None:
    """The drive of that seed without its cameras, in seconds instead of minutes: signals and truth alone.

    Raises:
        ValueError: when a parameter cannot be used; the message names all of them.
    """
    parameters = DriveParameters(seed, duration_s, rate_hz, 64, 64, weather)
    if problems := parameters.problems():
        raise ValueError("; ".join(problems))
    recording = simulate(seed, duration_s, rate_hz, weather)
    with McapTopicWriter(path, wall_offset_ns=WALL_EPOCH_NS - time_ns_of(0.0)) as writer:
        description = {"name": f"signals-{seed}", "description": f"synthetic drive, seed {seed}, signals alone"}
        writer.metadata("drive", description)
        writer.metadata("synthetic", _provenance(parameters))
        sources = [_signals(writer, recording), _truth(writer, recording), _frame_truth(writer, recording)]
        for _, _, write in heapq.merge(*sources, key=lambda item: item[:2]):
            write()


def _make(parameters: DriveParameters, work: Path, progress: Progress, processes: int) -> None:
    recording = simulate(parameters.seed, parameters.duration_s, parameters.rate_hz, parameters.weather)
    films = work / "films"
    films.mkdir()
    _shoot_all(recording, parameters, films, progress, processes)
    (work / "drive").mkdir()
    _write_mcap(recording, parameters, films, work / "drive" / DRIVE_FILE)


def _publish(work: Path, final: Path) -> None:
    """Give the finished drive its name; somebody else may have been faster with the same bytes."""
    try:
        (work / "drive").rename(final)
    except OSError:
        if not (final / DRIVE_FILE).exists():
            shutil.rmtree(final, ignore_errors=True)  # a folder without a drive: left by a deletion halfway
            (work / "drive").rename(final)


def _shoot_all(
    recording: Recording, parameters: DriveParameters, films: Path, progress: Progress, processes: int
) -> None:
    """All cameras, shared out among a few processes."""
    context = multiprocessing.get_context("spawn")
    frames: FrameQueue = context.Queue()
    size = (parameters.width, parameters.height)
    groups = [group for index in range(processes) if (group := CAMERAS[index::processes])]
    total, done = len(recording.frames) * len(CAMERAS), 0
    with ProcessPoolExecutor(len(groups), context, _remember_queue, (frames,)) as pool:
        jobs = [pool.submit(_shoot_group, recording, group, size, films) for group in groups]
        while not _finished(jobs):
            done = _report(frames, done, total, progress)
    _report(frames, done, total, progress)


def _finished(jobs: list[Future[None]]) -> bool:
    """Whether all are done, waiting a moment; raises what any of them raised."""
    finished, pending = wait(jobs, timeout=POLL_S, return_when=FIRST_EXCEPTION)
    for job in finished:
        job.result()
    return not pending


def _report(frames: FrameQueue, done: int, total: int, progress: Progress) -> int:
    try:
        while True:
            done += frames.get_nowait()
    except queue.Empty:
        progress(done, total)
    return done


_frames: FrameQueue | None = None  # set once in each painting process: pools hand queues over at their start only


def _remember_queue(frames: FrameQueue) -> None:
    global _frames
    _frames = frames


def _shoot_group(recording: Recording, cameras: tuple[str, ...], size: tuple[int, int], films: Path) -> None:
    assert _frames is not None
    shoot(recording, cameras, size, films, _frames.put)


def _write_mcap(recording: Recording, parameters: DriveParameters, films: Path, path: Path) -> None:
    """Merge signals, truth and films by time into one file."""
    with McapTopicWriter(path, wall_offset_ns=WALL_EPOCH_NS - time_ns_of(0.0)) as writer:
        writer.metadata("drive", _description(parameters))
        writer.metadata("synthetic", _provenance(parameters))
        _write_calibration(writer, synthetic_rig(parameters.width, parameters.height))
        sources = [_signals(writer, recording), _truth(writer, recording), _frame_truth(writer, recording)]
        sources += [_film(writer, films, camera) for camera in CAMERAS]
        for _, _, write in heapq.merge(*sources, key=lambda item: item[:2]):
            write()


Writing = tuple[int, int, Callable[[], None]]  # time, rank among equal times, what to do


def _description(parameters: DriveParameters) -> dict[str, str]:
    text = f"synthetic drive, seed {parameters.seed}, {parameters.weather}, eight cameras"
    return {"name": parameters.folder_name, "description": text}


def _provenance(parameters: DriveParameters) -> dict[str, str]:
    fields = {name: str(getattr(parameters, name)) for name in DriveParameters.__dataclass_fields__}
    return {**fields, "generator_version": str(GENERATOR_VERSION)}


def _write_calibration(writer: McapTopicWriter, rig: Rig) -> None:
    for camera in rig.cameras:
        matrix = (camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0)
        start_ns = time_ns_of(0.0)
        writer.calibration(camera.name, camera.width, camera.height, matrix, camera.distortion, time_ns=start_ns)


def _signals(writer: McapTopicWriter, recording: Recording) -> Iterator[Writing]:
    """Changed columns only, except once a second, when all are written."""
    known: dict[str, dict[str, SignalValue]] = {}
    refreshed_s: dict[str, float] = {}
    for row in recording.signals:
        before = known.setdefault(row.namespace, {})
        is_refresh = row.time_s - refreshed_s.get(row.namespace, -1.0) >= 1.0
        if is_refresh:
            refreshed_s[row.namespace] = row.time_s
        values = {name: value for name, value in row.values.items() if is_refresh or before.get(name) != value}
        before.update(row.values)
        if values:
            yield _signal_writing(writer, row.namespace, values, time_ns_of(row.time_s))


def _signal_writing(
    writer: McapTopicWriter, namespace: str, values: Mapping[str, SignalValue], time_ns: int
) -> Writing:
    return time_ns, 0, lambda: writer.signals(namespace, values, time_ns)


def _truth(writer: McapTopicWriter, recording: Recording) -> Iterator[Writing]:
    for event in recording.events:
        until_ns = None if event.until_s is None else time_ns_of(event.until_s)
        time_ns = time_ns_of(event.time_s)
        yield time_ns, 1, _bound(writer.truth_event, event.event, event.detail, time_ns, until_ns)


def _frame_truth(writer: McapTopicWriter, recording: Recording) -> Iterator[Writing]:
    """The car's own truth and its lanes, once a frame."""
    road = drive_road(recording.seed, recording.road_length_m)
    for state in recording.frames:
        time_ns = time_ns_of(state.time_s)
        for channel, values in ((EGO_CHANNEL, ego_truth(road, state)), (LANES_CHANNEL, lane_truth(road, state))):
            data = json.dumps(values, separators=(",", ":")).encode()
            yield time_ns, 2, _bound(writer.write, channel, data, time_ns)


def _film(writer: McapTopicWriter, films: Path, camera: str) -> Iterator[Writing]:
    rank = 3 + CAMERAS.index(camera)
    wall_offset_ns = writer.wall_offset_ns
    for record in read_film(film_path(films, camera)):
        if record.access_unit:
            wall_ns = record.time_ns + wall_offset_ns
            packet = Packet(camera, record.number, record.time_ns, wall_ns, "h264", record.is_key, record.access_unit)
            yield record.time_ns, rank, _bound(writer.packet, packet)
        objects = json.loads(record.truth_json)
        yield record.time_ns, rank, _bound(writer.truth_objects, camera, objects, record.time_ns, record.number)


def _bound(function: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: function(*arguments)
