"""A bandwidth cap: a token bucket that may be overdrawn by one message and then waits."""

from __future__ import annotations

from runtime.messages import NANOSECONDS_PER_SECOND


class Pace:
    """At most `max_bytes_per_s` on average, `burst_bytes` at once; None means no cap."""

    def __init__(self, max_bytes_per_s: int | None, burst_bytes: int) -> None:
        if max_bytes_per_s is not None and max_bytes_per_s <= 0:
            raise ValueError(f"max_bytes_per_s is {max_bytes_per_s}: give a positive rate, or none for no cap")
        self._rate = max_bytes_per_s
        self._burst_bytes = float(burst_bytes)
        self._tokens = float(burst_bytes)
        self._filled_ns: int | None = None

    def is_open(self, now_ns: int) -> bool:
        """True when something may be sent now."""
        if self._rate is None:
            return True
        if self._filled_ns is not None:
            gained = (now_ns - self._filled_ns) * self._rate / NANOSECONDS_PER_SECOND
            self._tokens = min(self._burst_bytes, self._tokens + gained)
        self._filled_ns = now_ns
        return self._tokens > 0

    def spend(self, sent_bytes: int, now_ns: int) -> None:
        """Note what was sent."""
        if self._rate is not None:
            self._tokens -= sent_bytes
