"""A drive folder: `drive.yaml` with the videos, tables and CAN log that it names.

The drive's clock runs from the earliest to the latest recorded time of capture tables, signal tables and CAN log. A
drive that has only videos without times starts at 0 and lasts as long as its longest video. Everything except the
videos is read or checked when the drive is opened, and every problem is reported at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from runtime.drives.can_decoding import build_decoder, load_database
from runtime.drives.can_log import CanLog
from runtime.drives.description import CameraEntry, CanEntry, DriveDescription
from runtime.drives.drive import Drive, DriveVideoError, TruthEvent
from runtime.drives.tables import read_frame_times, read_signals, read_truth
from runtime.drives.video_files import ContainerTimedCamera, TimedCamera
from runtime.formats.documents import Document, DocumentError, Problem, load_document, validate
from runtime.formats.signal_names import SignalKind, kind_of
from runtime.messages import NANOSECONDS_PER_SECOND, SignalSample


def open_folder_drive(path: Path) -> Drive:
    """Open the drive that the `drive.yaml` at `path` describes. Raises DocumentError with all problems."""
    document = load_document(path)
    description = validate(document, DriveDescription)
    return _FolderDrive(document, description).open()


class _FolderDrive:
    """A drive folder while it is being opened: what has been found, and what is wrong."""

    def __init__(self, document: Document, description: DriveDescription) -> None:
        self._document = document
        self._description = description
        self._folder = document.path.parent
        self._problems: list[Problem] = []
        self._faults: list[str] = []
        self._time_ranges: list[tuple[int, int]] = []

    def open(self) -> Drive:
        cameras = {name: self._camera(name, entry) for name, entry in self._description.cameras.items()}
        tables = [self._signal_table(name, path) for name, path in self._description.signals.items()]
        log = None if self._description.can is None else self._can_log(self._description.can)
        start_ns, end_ns = self._place_on_clock(cameras)
        truth = self._truth(start_ns)
        if self._problems:
            raise DocumentError(self._problems)
        return Drive(
            name=self._description.name,
            description=self._description.description,
            path=self._document.path,
            start_ns=start_ns,
            end_ns=end_ns,
            cameras=cameras,
            truth=truth,
            read_signals=lambda: _merged(tables, log),
            faults=self._faults,
            signal_kinds=self._signal_kinds(tables),
            files=self._files(),
        )

    def _files(self) -> tuple[Path, ...]:
        """`drive.yaml` and every file that it names, each once."""
        said = self._description
        names = [name for camera in said.cameras.values() for name in (*camera.video, camera.timestamps)]
        names += [*said.signals.values(), said.truth]
        names += [] if said.can is None else [said.can.log, said.can.dbc]
        return (self._document.path, *(self._folder / name for name in dict.fromkeys(names) if name is not None))

    def _signal_kinds(self, tables: list[list[SignalSample]]) -> dict[str, SignalKind]:
        """Of every column that has a value, and of every mapped signal on the bus."""
        kinds = {sample.name: kind_of(sample.name, sample.value) for table in tables for sample in reversed(table)}
        mapped = {} if self._description.can is None else self._description.can.signals
        for name, place in mapped.items():
            kinds.setdefault(name, kind_of(name, True if place.invert else 0.0))
        return kinds

    def _camera(self, name: str, entry: CameraEntry) -> TimedCamera | ContainerTimedCamera:
        paths = [self._folder / video for video in entry.video]
        if entry.timestamps is None:
            offset_ns = round(entry.offset_s * NANOSECONDS_PER_SECOND)
            return ContainerTimedCamera(name, paths, loop=entry.loop, offset_ns=offset_ns)
        times = read_frame_times(self._folder / entry.timestamps, len(paths), self._problems)
        recorded = [time_ns for of_file in times for time_ns in of_file]
        if recorded:
            self._time_ranges.append((min(recorded), max(recorded)))
        return TimedCamera(name, paths, times)

    def _signal_table(self, namespace: str, path: str) -> list[SignalSample]:
        samples = read_signals(self._folder / path, namespace, self._problems)
        if samples:
            self._time_ranges.append((samples[0].time_ns, samples[-1].time_ns))
        return samples

    def _can_log(self, entry: CanEntry) -> CanLog | None:
        log_path = self._folder / entry.log
        if not log_path.is_file():
            self._problems.append(self._document.problem(("can", "log"), "cannot be read", "check the path"))
        try:
            database = load_database(self._folder / entry.dbc, strict=entry.strict)
        except OSError as error:
            message = f"cannot be read: {error.strerror}"
            self._problems.append(self._document.problem(("can", "dbc"), message, "check the path"))
            return None
        except ValueError as error:
            fix = "write strict: false if the database is as it comes from the car" if entry.strict else "correct it"
            self._problems.append(self._document.problem(("can", "dbc"), str(error), fix))
            return None
        decoder, problems = build_decoder(database, entry.signals)
        for found in problems:
            where = ("can", "signals", found.signal_name, found.key)
            self._problems.append(self._document.problem(where, found.message, found.fix))
        if problems or not log_path.is_file():
            return None
        return self._checked(CanLog(log_path, decoder, self._faults))

    def _checked(self, log: CanLog) -> CanLog:
        time_range = log.time_range_ns()
        if time_range is None:
            reason = self._faults.pop() if self._faults else "holds no CAN frames"
            fix = "name a log in a format that python-can reads (.log .asc .blf .trc .mf4 .csv .db)"
            self._problems.append(self._document.problem(("can", "log"), reason, fix))
        else:
            self._time_ranges.append(time_range)
        return log

    def _place_on_clock(self, cameras: dict[str, TimedCamera | ContainerTimedCamera]) -> tuple[int, int]:
        untimed = [camera for camera in cameras.values() if isinstance(camera, ContainerTimedCamera)]
        if self._time_ranges:
            start_ns = min(start for start, _ in self._time_ranges)
            end_ns = max(end for _, end in self._time_ranges)
        else:
            start_ns, end_ns = 0, self._longest_video_ns(untimed)
        for camera in untimed:
            camera.place(start_ns, end_ns)
        return start_ns, end_ns

    def _longest_video_ns(self, cameras: list[ContainerTimedCamera]) -> int:
        durations = [0]
        for camera in cameras:
            try:
                durations.append(camera.duration_ns())
            except DriveVideoError as error:
                self._faults.append(str(error))
        return max(durations)

    def _truth(self, start_ns: int) -> tuple[TruthEvent, ...] | None:
        if self._description.truth is None:
            return None
        return read_truth(self._folder / self._description.truth, start_ns, self._problems)


def _merged(tables: list[list[SignalSample]], log: CanLog | None) -> Iterator[SignalSample]:
    sources: list[Iterator[SignalSample]] = [iter(table) for table in tables]
    if log is not None:
        sources.append(log.signal_samples())
    return heapq.merge(*sources, key=lambda sample: sample.time_ns)
