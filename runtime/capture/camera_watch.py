"""What is known about one camera while it runs: its state, its counters and its last seconds.

Written by the camera's thread (or the replay loop), read by the health monitor. Times are capture times. The windows
are short and bounded, so that a fault that is over stops being one.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.capture.stillness import StillnessMeter
from runtime.formats.bitstream import StreamInfo
from runtime.messages import NANOSECONDS_PER_SECOND, Packet

Connection = Literal["connecting", "streaming", "ended", "failed"]

#: Frames that the shares of torn, lost and late frames are taken over: about two seconds.
WINDOW_FRAMES = 64
#: A gap longer than this is an outage, not so many single lost frames.
MAX_LOST_IN_A_GAP = 1000
#: A gap of so many periods between two capture times means that a frame is lost; below it is jitter.
LOST_FROM_PERIODS = 1.6


@dataclass(slots=True)
class CameraCounters:
    """One camera since the start."""

    packets: int = 0
    bytes: int = 0
    decoded: int = 0
    decode_errors: int = 0  # packets that were torn
    undecoded: int = 0  # packets dropped while waiting for a key frame
    wrong_size: int = 0  # pictures of another size than expected; they reach no frameset
    lost: int = 0  # frames that never came, judged by the gaps between capture times
    bad_time: int = 0  # packets whose capture time cannot be
    reconnects: int = 0

    def __add__(self, other: CameraCounters) -> CameraCounters:
        return CameraCounters(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(CameraCounters))
        )


@dataclass(frozen=True, slots=True)
class RecentShares:
    """How much of a camera's last frames were torn, lost or late: 0 to 1."""

    torn: float
    lost: float
    late: float


@dataclass(frozen=True, slots=True)
class WatchReport:
    """A camera's record at one moment, for another process."""

    counters: CameraCounters
    connection: Connection
    error: str
    info: StreamInfo | None
    since_ns: int
    last_packet_ns: int | None
    last_size: tuple[int, int] | None
    expected_size: tuple[int, int] | None
    unchanged_for_ns: int
    recent: RecentShares


class CameraWatch:
    """The running record of one camera."""

    def __init__(
        self,
        name: str,
        expected_size: tuple[int, int] | None = None,
        opened_ns: int = 0,
        last_packet_ns: int | None = None,
    ) -> None:
        """`last_packet_ns` is that of a process that ran the camera before: what never came since is lost."""
        self.name = name
        self.counters = CameraCounters()
        self.connection: Connection = "connecting"
        self.error = ""
        self.info: StreamInfo | None = None
        self.since_ns = opened_ns  # when the connection came into its present state
        self.last_packet_ns = last_packet_ns
        self.last_size: tuple[int, int] | None = None
        self._expected_size = expected_size
        self._stillness = StillnessMeter()
        self._torn: deque[bool] = deque(maxlen=WINDOW_FRAMES)
        self._lost: deque[int] = deque(maxlen=WINDOW_FRAMES)
        self._late: deque[bool] = deque(maxlen=WINDOW_FRAMES)
        self._lock = threading.Lock()

    def connected(self, info: StreamInfo, now_ns: int) -> None:
        """The source has opened."""
        self.info = info
        if self._expected_size is None and info.width and info.height:
            self._expected_size = (info.width, info.height)
        self._change("streaming", "", now_ns)

    def disconnected(self, error: str, now_ns: int) -> None:
        """The source broke off or could not be opened; it will be tried again."""
        if self.connection != "connecting":
            self.counters.reconnects += 1
            self._change("connecting", error, now_ns)
        self.error = error

    def ended(self, now_ns: int) -> None:
        """A recording is over."""
        self._change("ended", "", now_ns)

    def failed(self, error: str, now_ns: int) -> None:
        """The camera will not come back."""
        self._change("failed", error, now_ns)

    def _change(self, connection: Connection, error: str, now_ns: int) -> None:
        self.connection = connection
        self.error = error
        self.since_ns = now_ns

    def packet(self, packet: Packet) -> None:
        """A packet came; gaps between capture times are lost frames."""
        self.counters.packets += 1
        self.counters.bytes += len(packet.data)
        lost = self._lost_before(packet.time_ns)
        self.counters.lost += lost
        if self.last_packet_ns is None or packet.time_ns > self.last_packet_ns:
            self.last_packet_ns = packet.time_ns
        with self._lock:
            self._lost.append(lost)

    def _lost_before(self, time_ns: int) -> int:
        if self.last_packet_ns is None or self.info is None or not self.info.rate_hz:
            return 0
        periods = (time_ns - self.last_packet_ns) * self.info.rate_hz / NANOSECONDS_PER_SECOND
        return 0 if periods < LOST_FROM_PERIODS else min(round(periods) - 1, MAX_LOST_IN_A_GAP)

    def decoding(self, *, pictures: int, errors: int, skipped: int, joining: bool = False) -> None:
        """What the decoder made of one packet; `joining`: it has not met the stream's first key frame yet."""
        self.counters.decoded += pictures
        self.counters.decode_errors += errors
        self.counters.undecoded += skipped
        with self._lock:
            self._torn.append(errors > 0 or (skipped > 0 and not joining))

    def accepts(self, width: int, height: int) -> bool:
        """True when a picture has the expected size; counts it when not."""
        self.last_size = (width, height)
        if self._expected_size is None:
            self._expected_size = (width, height)
        if self._expected_size == (width, height):
            return True
        self.counters.wrong_size += 1
        return False

    def offered(self, late: bool) -> None:
        """A frame went to the assembler."""
        with self._lock:
            self._late.append(late)

    def picture(self, image: NDArray[np.uint8], time_ns: int) -> None:
        """A prepared image of the camera."""
        self._stillness.see(image, time_ns)

    def report(self) -> WatchReport:
        """All of it at this moment."""
        return WatchReport(
            replace(self.counters), self.connection, self.error, self.info, self.since_ns, self.last_packet_ns,
            self.last_size, self._expected_size, self.unchanged_for_ns, self.recent(),
        )  # fmt: skip

    @property
    def unchanged_for_ns(self) -> int:
        """How long the camera has shown one picture."""
        return self._stillness.unchanged_for_ns

    @property
    def has_wrong_size(self) -> bool:
        """True while its pictures are not of the expected size."""
        return self.last_size is not None and self.last_size != self._expected_size

    @property
    def expected_size(self) -> tuple[int, int] | None:
        """Width and height that its pictures should have."""
        return self._expected_size

    def recent(self) -> RecentShares:
        """Shares over the last frames."""
        with self._lock:
            lost = sum(self._lost)
            return RecentShares(
                torn=_share(sum(self._torn), len(self._torn)),
                lost=_share(lost, lost + len(self._lost)),
                late=_share(sum(self._late), len(self._late)),
            )


class MirroredWatch(CameraWatch):
    """The record of a camera that another process runs, as of its last report."""

    def __init__(self, name: str, expected_size: tuple[int, int] | None = None, opened_ns: int = 0) -> None:
        super().__init__(name, expected_size, opened_ns)
        self._reported = RecentShares(0.0, 0.0, 0.0)
        self._unchanged_for_ns = 0
        self._before = CameraCounters()
        self._is_orphan = False

    def adopt(self, report: WatchReport) -> None:
        """What the camera's process knows now."""
        self.counters = self._before + report.counters
        if self._is_orphan and report.connection == "connecting" and not report.error:
            return  # the next process has not got so far: what is known is how the last one ended, and since when
        self._is_orphan = False
        self.connection, self.error, self.info = report.connection, report.error, report.info
        self.since_ns, self.last_packet_ns = report.since_ns, report.last_packet_ns
        self.last_size, self._expected_size = report.last_size, report.expected_size
        self._unchanged_for_ns, self._reported = report.unchanged_for_ns, report.recent

    def orphaned(self, error: str, now_ns: int) -> None:
        """Its process is gone: another one will count on from here."""
        self.disconnected(error, now_ns)
        self._before, self._is_orphan = replace(self.counters), True
        self._unchanged_for_ns, self._reported = 0, RecentShares(0.0, 0.0, 0.0)

    @property
    def unchanged_for_ns(self) -> int:
        return self._unchanged_for_ns

    def recent(self) -> RecentShares:
        return self._reported


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
