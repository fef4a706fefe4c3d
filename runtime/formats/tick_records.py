"""One tick as a recording holds it (`/tick`): everything that rules saw on it beyond the signals from outside.

Tracks and camera views are tables: the names of the fields once, then a row for each record. A field that is None for
every record is left out, and a reader skips fields that it does not know. `tracks` or `cameras` is null where nothing
looked, which is not the same as an empty table. `signals` holds the tick's own (`heads.*`, `diff.*`, `health.*`, ...).

Numbers are written as they are, so that rules which are evaluated again over a recording (its ticks, and the
signals of its other topics up to each tick's time) fire exactly as they did: same rules, same times. They stay short
because the tracker and the camera views round what they tell. Two things can differ: a sample that came later than
its tick was seen one tick later live, and state from before the recording's start is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeAlias

from runtime.formats.json_messages import encode_json, encode_known, finite
from runtime.messages import CameraView, SignalValue, TickReport, Track

_Plain: TypeAlias = Callable[[Any], Any]
_TRACK_FIELDS = tuple(field.name for field in fields(Track))
_VIEW_FIELDS = tuple(field.name for field in fields(CameraView))


@dataclass(frozen=True, slots=True)
class RecordedTick:
    """What one recorded tick says."""

    sequence: int
    time_ns: int
    wall_ns: int
    tracks: Sequence[Track] | None
    cameras: Sequence[CameraView] | None
    signals: Mapping[str, SignalValue]
    firings: Sequence[str]  # rules


def encode_tick(report: TickReport) -> bytes:
    """A tick's bookkeeping and what its rules saw: who was present, what was followed, what fired, how long it took."""
    try:
        return encode_json(_fields(report, None))
    except ValueError:  # a number somewhere is not finite
        return encode_known(_fields(report, finite))


def _fields(report: TickReport, plain: _Plain | None) -> dict[str, Any]:
    frameset = report.frameset
    flags = list(zip(frameset.cameras, frameset.present.tolist(), strict=True)) if frameset else []
    return {
        "sequence": report.sequence,
        "time_ns": report.time_ns,
        "wall_ns": report.wall_ns,
        "frameset_sequence": frameset.sequence if frameset else None,
        "present": [camera for camera, present in flags if present],
        "missing": [camera for camera, present in flags if not present],
        "tracks": _table(report.tracks, _TRACK_FIELDS, plain),
        "cameras": _table(report.cameras, _VIEW_FIELDS, plain),
        "signals": dict(report.signals),
        "firings": [firing.rule for firing in report.firings],
        "timings_ms": {stage: round(value, 4) for stage, value in report.timings_ms.items()},
    }


def decode_tick(data: bytes) -> RecordedTick:
    """The inverse of `encode_tick`, as far as rules need it.

    Raises:
        ValueError: it is no tick, or one without what a tick must have.
    """
    try:
        said: dict[str, Any] = json.loads(data)
        return RecordedTick(
            sequence=int(said["sequence"]),
            time_ns=int(said["time_ns"]),
            wall_ns=int(said["wall_ns"]),
            tracks=_tracks(said["tracks"]),
            cameras=_views(said["cameras"]),
            signals={name: value for name, value in said["signals"].items() if value is not None},
            firings=tuple(said["firings"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a recorded tick of this version: {error!r:.200}") from error


def _table(records: Sequence[Any] | None, names: Sequence[str], plain: _Plain | None) -> dict[str, Any] | None:
    """Rows of fields; without those that no record knows. `plain` makes null of what JSON cannot say."""
    if records is None:
        return None
    rows: list[tuple[Any, ...]] = list(map(attrgetter(*names), records))
    if plain is not None:
        rows = [tuple(map(plain, row)) for row in rows]
    known = [index for index, column in enumerate(zip(*rows, strict=True)) if column.count(None) < len(column)]
    if len(known) < len(names):
        rows = [tuple(map(row.__getitem__, known)) for row in rows]
    return {"fields": [names[index] for index in known], "rows": rows}


def _records(table: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    known = set(names)
    rows = (zip(table["fields"], row, strict=True) for row in table["rows"])
    return [{name: value for name, value in row if name in known} for row in rows]


def _tracks(table: Mapping[str, Any] | None) -> list[Track] | None:
    if table is None:
        return None
    records = _records(table, _TRACK_FIELDS)
    return [Track(**{**record, "box_px": tuple(record["box_px"])}) for record in records]


def _views(table: Mapping[str, Any] | None) -> list[CameraView] | None:
    return None if table is None else [CameraView(**record) for record in _records(table, _VIEW_FIELDS)]
