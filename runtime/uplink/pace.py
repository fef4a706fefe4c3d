"""A token bucket that may be overdrawn once and then waits: for a bandwidth cap, and for what one vehicle may ask."""

from __future__ import annotations

from runtime.messages import NANOSECONDS_PER_SECOND


class Pace:
    """At most `rate_per_s` on average and `burst` at once, of bytes or whatever is counted; None means no cap."""

    def __init__(self, rate_per_s: float | None, burst: float) -> None:
        if rate_per_s is not None and (rate_per_s <= 0 or burst <= 0):
            raise ValueError(f"a pace of {rate_per_s} a second, {burst} at once: give positive amounts, or none")
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_ns: int | None = None

    def is_open(self, now_ns: int) -> bool:
        """True when something may be spent now. A clock that jumps back gains nothing and costs nothing."""
        if self._rate_per_s is None:
            return True
        if self._filled_ns is not None:
            gained = max(0, now_ns - self._filled_ns) * self._rate_per_s / NANOSECONDS_PER_SECOND
            self._tokens = min(self._burst, self._tokens + gained)
        self._filled_ns = now_ns
        return self._tokens > 0

    def spend(self, amount: float) -> None:
        """Note what was spent."""
        if self._rate_per_s is not None:
            self._tokens -= amount
