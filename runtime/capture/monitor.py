"""Which cameras are at fault, and how: one judgement for all of them, made once a tick.

| fault | when |
|---|---|
| `failed` | the source cannot be opened for longer than the grace, or is damaged for good |
| `ended` | a recording is over while other cameras went on for more than a second |
| `wrong_size` | pictures are not of the expected size |
| `corrupt` | a fifth of the last packets is torn, or waits for a key frame after one that was |
| `dropping` | no frame for half a second (or five periods), or a tenth of the last frames was lost |
| `late` | half of the last frames came after their tick, while most other cameras were on time |
| `frozen` | one picture for a second of driving; with the speed unknown, for three in which most others change |

The first that applies is told. Standing cars see standing pictures: while the car is known to stand, nothing is
called frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runtime.capture.camera_watch import CameraCounters, CameraWatch
from runtime.clock import period_of
from runtime.messages import NANOSECONDS_PER_SECOND

#: Every fault that `assess` can name.
FAULTS = ("failed", "ended", "wrong_size", "corrupt", "dropping", "late", "frozen")

CONNECT_GRACE_NS = 5 * NANOSECONDS_PER_SECOND
ENDED_BEFORE_OTHERS_NS = NANOSECONDS_PER_SECOND
SILENT_NS = NANOSECONDS_PER_SECOND // 2
SILENT_PERIODS = 5
FROZEN_MOVING_NS = NANOSECONDS_PER_SECOND
FROZEN_UNKNOWN_NS = 3 * NANOSECONDS_PER_SECOND
TORN_SHARE = 0.2
LATE_SHARE = 0.5
LOST_SHARE = 0.1
#: A share is not believed before so many packets: the first torn one would be all of them.
MIN_PACKETS = 10


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """One camera now. `state` is ok, connecting, ended (with all others), or a fault."""

    camera: str
    state: str
    is_fault: bool
    detail: str
    unchanged_for_ns: int
    counters: CameraCounters


class HealthMonitor:
    """Judges all cameras together."""

    def __init__(self, watches: Iterable[CameraWatch], connect_grace_ns: int = CONNECT_GRACE_NS) -> None:
        self._watches = tuple(watches)
        self._connect_grace_ns = connect_grace_ns
        self._moving_since_ns: int | None = None

    def assess(self, now_ns: int, vehicle_moving: bool | None) -> Mapping[str, CameraHealth]:
        """Every camera's health at `now_ns`. `vehicle_moving` is None while the speed is unknown."""
        if vehicle_moving is not True:
            self._moving_since_ns = None
        elif self._moving_since_ns is None:
            self._moving_since_ns = now_ns
        return {watch.name: self._health(watch, now_ns, vehicle_moving) for watch in self._watches}

    def _health(self, watch: CameraWatch, now_ns: int, vehicle_moving: bool | None) -> CameraHealth:
        fault, detail = self._fault(watch, now_ns, vehicle_moving)
        state = fault or ("ok" if watch.connection == "streaming" else watch.connection)
        return CameraHealth(
            watch.name, state, bool(fault), detail or watch.error, watch.unchanged_for_ns, watch.counters
        )

    def _fault(self, watch: CameraWatch, now_ns: int, vehicle_moving: bool | None) -> tuple[str, str]:
        """The first fault that applies and what is known about it; empty when there is none."""
        if watch.connection != "streaming":
            return self._connection_fault(watch, now_ns)
        if watch.has_wrong_size:
            return "wrong_size", f"pictures are {_size(watch.last_size)}, not {_size(watch.expected_size)}"
        recent = watch.recent()
        enough = watch.counters.packets >= MIN_PACKETS
        if enough and recent.torn >= TORN_SHARE:
            return "corrupt", f"{recent.torn:.0%} of the last packets cannot be decoded"
        silent_ns = self._silent_ns(watch, now_ns)
        if silent_ns:
            return "dropping", f"no frame for {silent_ns / NANOSECONDS_PER_SECOND:.1f} s"
        if enough and recent.lost >= LOST_SHARE:
            return "dropping", f"{recent.lost:.0%} of the last frames were lost"
        if enough and recent.late >= LATE_SHARE and self._most_others_are_on_time(watch):
            return "late", f"{recent.late:.0%} of the last frames came after their tick"
        if self._is_frozen(watch, now_ns, vehicle_moving):
            return "frozen", f"one picture for {watch.unchanged_for_ns / NANOSECONDS_PER_SECOND:.1f} s"
        return "", ""

    def _connection_fault(self, watch: CameraWatch, now_ns: int) -> tuple[str, str]:
        if watch.connection == "failed":
            return "failed", watch.error
        if watch.connection == "connecting":
            return ("failed", watch.error) if now_ns - watch.since_ns > self._connect_grace_ns else ("", "")
        newest_ns = max((other.last_packet_ns or 0 for other in self._watches), default=0)
        ended_early = newest_ns - (watch.last_packet_ns or 0) > ENDED_BEFORE_OTHERS_NS
        return ("ended", "the recording ended before the others") if ended_early else ("", "")

    def _silent_ns(self, watch: CameraWatch, now_ns: int) -> int:
        """How long nothing has come, where that is too long; else 0."""
        rate_hz = watch.info.rate_hz if watch.info is not None else None
        period_ns = period_of(rate_hz) if rate_hz else 0
        last_ns = watch.since_ns if watch.last_packet_ns is None else max(watch.last_packet_ns, watch.since_ns)
        silent_ns = now_ns - last_ns
        # A camera that has just been connected may take its time over the first frame.
        allowed_ns = (
            self._connect_grace_ns if watch.last_packet_ns is None else max(SILENT_NS, SILENT_PERIODS * period_ns)
        )
        return silent_ns if silent_ns > allowed_ns else 0

    def _is_frozen(self, watch: CameraWatch, now_ns: int, vehicle_moving: bool | None) -> bool:
        if vehicle_moving is False:
            return False
        if vehicle_moving is None:
            return watch.unchanged_for_ns >= FROZEN_UNKNOWN_NS and self._most_others_change(watch)
        moving_for_ns = now_ns - (now_ns if self._moving_since_ns is None else self._moving_since_ns)
        return min(watch.unchanged_for_ns, moving_for_ns) >= FROZEN_MOVING_NS

    def _most_others_are_on_time(self, watch: CameraWatch) -> bool:
        """When most cameras are late, the machine is overloaded and the camera is not at fault."""
        others = [other for other in self._watches if other is not watch and other.connection == "streaming"]
        on_time = sum(other.recent().late < LATE_SHARE / 2 for other in others)
        return 2 * on_time >= len(others)

    def _most_others_change(self, watch: CameraWatch) -> bool:
        others = [other for other in self._watches if other is not watch and other.connection == "streaming"]
        changing = sum(other.unchanged_for_ns == 0 for other in others)
        return bool(others) and 2 * changing > len(others)


def _size(size: tuple[int, int] | None) -> str:
    return "unknown" if size is None else f"{size[0]}x{size[1]}"
