"""What a recorded drive is, whatever it was recorded in.

A `Drive` is a description and a set of readers; opening one reads no video. `Drive.signal_samples()` and
`DriveCamera.packets()` each start from the beginning every time they are called, and may be read by different
threads. Times are the recording's own monotonic nanoseconds; sources that play a drive live map them (see
`runtime.clock` and the paced sources).

A drive with a bad *description* cannot be opened (`DocumentError` with every problem). A drive with a bad *video* can:
its camera yields every packet that is there and then raises `DriveVideoError`; the other cameras are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runtime.formats.bitstream import StreamInfo
from runtime.formats.signal_names import CANONICAL_SIGNALS, RecordedKind, SignalKind
from runtime.messages import NANOSECONDS_PER_SECOND, Packet, SignalSample


class DriveVideoError(ValueError):
    """A camera of a drive has no video, or less than it should: missing, truncated or unreadable files."""


class DriveCamera(Protocol):
    """One camera of a recorded drive."""

    @property
    def name(self) -> str:
        """The camera's name in the drive."""

    def stream(self) -> StreamInfo:
        """The stream's codec, size and rate. Raises DriveVideoError when nothing of the video can be opened."""

    def packets(self) -> Iterator[Packet]:
        """Every packet in decoding order, ending with the drive. Raises DriveVideoError after the last good one."""


@dataclass(frozen=True, slots=True)
class TruthEvent:
    """Something that truly happened in a drive, planted or labelled by a person."""

    time_ns: int
    event: str
    detail: str = ""
    until_ns: int | None = None


@dataclass(slots=True)
class Drive:
    """A recording that can be played."""

    name: str
    description: str
    path: Path
    start_ns: int
    end_ns: int
    cameras: Mapping[str, DriveCamera]
    truth: tuple[TruthEvent, ...] | None
    read_signals: Callable[[], Iterator[SignalSample]] = field(repr=False)
    #: What is wrong with the recording and was left out: damaged records, an unreadable end of a log.
    faults: list[str] = field(default_factory=list)
    #: Every file that the drive is read from; some may be missing or unreadable.
    files: tuple[Path, ...] = ()
    #: The signals that it holds, and of which kind their values are.
    signal_kinds: Mapping[str, SignalKind] = field(default_factory=dict)
    #: Namespaces in which there may be more of them (a long recording is only looked into).
    open_namespaces: frozenset[str] = frozenset()

    @property
    def knows_all_signals(self) -> bool:
        """Whether `signal_kinds` are all signals that it holds."""
        return not self.open_namespaces

    def may_hold(self, signal: str) -> bool:
        """False when it is certain that it holds no such signal."""
        return signal in self.signal_kinds or signal.partition(".")[0] in self.open_namespaces

    @property
    def declared(self) -> Mapping[str, RecordedKind]:
        """Its signals beyond the canonical ones; whether a number means a boolean is left to the rule that reads it."""
        own = {name: kind for name, kind in self.signal_kinds.items() if name not in CANONICAL_SIGNALS}
        return {name: "text" if kind == "text" else "any" for name, kind in own.items()}

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last recorded moment."""
        return (self.end_ns - self.start_ns) / NANOSECONDS_PER_SECOND

    def signal_samples(self) -> Iterator[SignalSample]:
        """Every signal sample, in order of time."""
        return self.read_signals()


@dataclass(frozen=True, slots=True)
class DriveEpoch:
    """Where a drive's own time lies on a live clock, shared by all of its cameras and signals."""

    drive_start_ns: int
    live_start_ns: int

    def to_live(self, drive_time_ns: int) -> int:
        """Live time of a moment of the drive."""
        return drive_time_ns - self.drive_start_ns + self.live_start_ns

    def to_drive(self, live_time_ns: int) -> int:
        """The drive's own time at a live moment."""
        return live_time_ns - self.live_start_ns + self.drive_start_ns
