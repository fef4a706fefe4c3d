"""Capture times for streams whose timestamps run on the camera's clock (RTSP, V4L2).

A packet cannot arrive before it was captured, and the quickest one was delayed least: so the smallest difference
between arrival and stream time, over the past, is the best estimate of the offset between the two clocks. It may grow
by `DRIFT_PPM`, because clocks drift apart. Network jitter thus does not reach the capture times.
"""

from __future__ import annotations

#: Crystal clocks differ by at most some 100 parts in a million.
DRIFT_PPM = 200
#: A stream time this far off starts anew: the camera has restarted, or jumped.
RESTART_NS = 2_000_000_000


class StreamClock:
    """Maps stream times to our monotonic clock."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_arrival_ns = 0

    def capture_time(self, stream_ns: int | None, arrival_ns: int) -> int:
        """When a packet with stream time `stream_ns` (None: it has none) was captured, at the latest."""
        if stream_ns is None:
            return arrival_ns
        measured_ns = arrival_ns - stream_ns
        if self._offset_ns is None or abs(measured_ns - self._offset_ns) > RESTART_NS:
            self._offset_ns = measured_ns
        else:
            drift_ns = (arrival_ns - self._last_arrival_ns) * DRIFT_PPM // 1_000_000
            self._offset_ns = min(measured_ns, self._offset_ns + drift_ns)
        self._last_arrival_ns = arrival_ns
        return stream_ns + self._offset_ns
