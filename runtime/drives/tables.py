"""The CSV files of a drive folder: signals, capture times and truth.

Each table has a header row and a column of time: `mono_ns` (the drive's monotonic nanoseconds), or for truth also
`elapsed_s` (seconds from the drive's start). Tables are read whole when the drive is opened, so that a bad row stops
the drive before anything starts; every bad row is reported with its line, up to a limit per file.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.drives.drive import TruthEvent
from runtime.formats.documents import Problem, suggest
from runtime.formats.signal_names import parse_signal_text
from runtime.messages import NANOSECONDS_PER_SECOND, SignalSample

#: A table with more bad rows than this is the wrong file; the rest would only repeat it.
MAX_PROBLEMS_PER_FILE = 20

TIME_COLUMN = "mono_ns"
FRAME_TIME_COLUMNS = ("start_of_frame_mono_ns", "mono_ns")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table and the line it stands on."""

    line: int
    cells: Mapping[str, str]


class Table:
    """A CSV file that is being read: its header, its rows and what is wrong with them."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self._problems = problems
        self._reported = 0
        self.columns, self.rows = self._read()

    def _read(self) -> tuple[list[str], list[Row]]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.DictReader(stream, restkey="", restval="")
                rows = [Row(reader.line_num, cells) for cells in reader]
                return [name.strip() for name in reader.fieldnames or []], rows
        except OSError as error:
            self.report(0, f"cannot be read: {error.strerror}", None, "check the path in drive.yaml")
        except (UnicodeDecodeError, csv.Error) as error:
            self.report(0, f"is not a CSV file: {error}", None, "write it as UTF-8 text with a header row")
        return [], []

    def report(self, line: int, message: str, value: object, fix: str) -> None:
        """Note a problem; beyond the limit only the first ones are kept."""
        self._reported += 1
        if self._reported <= MAX_PROBLEMS_PER_FILE:
            self._problems.append(Problem(str(self.path), line, 1 if line else 0, message, value, fix))

    def time_column(self, names: tuple[str, ...]) -> str | None:
        """The first of `names` that the table has; reports a problem when it has none."""
        found = next((name for name in names if name in self.columns), None)
        if found is None and self.columns:
            wanted = " or ".join(names)
            self.report(1, f"has no column {wanted}", ", ".join(self.columns), f"add a column {names[-1]}")
        return found

    def parse(self, row: Row, column: str, convert: Callable[[str], Any], what: str) -> Any:
        """One cell as a value; None, with a problem noted, where it is not one."""
        text = (row.cells.get(column) or "").strip()
        try:
            return convert(text)
        except ValueError:
            self.report(row.line, f"column {column} is not {what}", text, f"write {what} or remove the row")
            return None


def read_signals(path: Path, namespace: str, problems: list[Problem]) -> list[SignalSample]:
    """Every non-empty cell of a signal table as a sample `<namespace>.<column>`, in order of time."""
    table = Table(path, problems)
    time_column = table.time_column((TIME_COLUMN,))
    if time_column is None:
        return []
    names = {column: f"{namespace}.{column}" for column in table.columns if column and column != time_column}
    samples: list[SignalSample] = []
    for row in table.rows:
        time_ns = table.parse(row, time_column, _nanoseconds, "a whole number of nanoseconds")
        if time_ns is not None:
            samples.extend(_row_samples(table, row, names, time_ns))
    samples.sort(key=lambda sample: sample.time_ns)
    return samples


def _row_samples(table: Table, row: Row, names: Mapping[str, str], time_ns: int) -> Iterator[SignalSample]:
    for column, name in names.items():
        text = row.cells.get(column) or ""
        try:
            value = parse_signal_text(name, text)
        except ValueError:
            table.report(row.line, f"column {column} does not fit the signal {name}", text, "correct it or empty it")
            continue
        if value is not None:
            yield SignalSample(name, time_ns, value)


def read_frame_times(path: Path, file_count: int, problems: list[Problem]) -> list[list[int]]:
    """Capture times by video file and frame. Without a `segment` column all rows belong to the files in order.

    With a `segment` column (and `frame`, else the rows' order) row (s, f) is frame f of the s-th file.
    """
    table = Table(path, problems)
    time_column = table.time_column(FRAME_TIME_COLUMNS)
    by_segment: list[list[tuple[int, int]]] = [[] for _ in range(file_count)]
    if time_column is None:
        return [[] for _ in by_segment]
    for row in table.rows:
        time_ns = table.parse(row, time_column, _nanoseconds, "a whole number of nanoseconds")
        segment = table.parse(row, "segment", _count, "a file's number, from 0") if "segment" in table.columns else 0
        if time_ns is None or segment is None:
            continue
        if segment >= file_count:
            table.report(row.line, "the camera has no such video file", segment, f"use 0 to {file_count - 1}")
            continue
        frames = by_segment[segment]
        frame = table.parse(row, "frame", _count, "a frame's number") if "frame" in table.columns else len(frames)
        if frame is not None:
            frames.append((frame, time_ns))
    return [_ordered(table, frames) for frames in by_segment]


def _ordered(table: Table, frames: list[tuple[int, int]]) -> list[int]:
    """Times by frame number; a frame that the table leaves out is a problem, because all later ones would shift."""
    frames.sort()
    times = [time_ns for _, time_ns in frames]
    if [number for number, _ in frames] != list(range(len(frames))):
        table.report(0, "frames of one segment are not numbered 0, 1, 2, …", None, "number every frame once")
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        table.report(0, "capture times do not rise from frame to frame", None, "correct the times or remove the rows")
    return times


def read_truth(path: Path, drive_start_ns: int, problems: list[Problem]) -> tuple[TruthEvent, ...]:
    """The labelled events of a drive, in order of time."""
    table = Table(path, problems)
    time_column = table.time_column((TIME_COLUMN, "elapsed_s"))
    if "event" not in table.columns and table.columns:
        table.report(1, "has no column event", ", ".join(table.columns), suggest("event", table.columns))
        return ()
    events = []
    for row in table.rows if time_column is not None else []:
        time_ns = _truth_time(table, row, str(time_column), drive_start_ns)
        event = (row.cells.get("event") or "").strip()
        if not event:
            table.report(row.line, "names no event", event, "write the event's name or remove the row")
        elif time_ns is not None:
            until_ns = table.parse(row, "until_ns", _count, "nanoseconds") if row.cells.get("until_ns") else None
            events.append(TruthEvent(time_ns, event, (row.cells.get("detail") or "").strip(), until_ns))
    return tuple(sorted(events, key=lambda event: event.time_ns))


def _truth_time(table: Table, row: Row, column: str, drive_start_ns: int) -> int | None:
    if column == TIME_COLUMN:
        time_ns: int | None = table.parse(row, column, _nanoseconds, "a whole number of nanoseconds")
        return time_ns
    elapsed_s = table.parse(row, column, float, "a number of seconds")
    return None if elapsed_s is None else drive_start_ns + round(elapsed_s * NANOSECONDS_PER_SECOND)


def _nanoseconds(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value
