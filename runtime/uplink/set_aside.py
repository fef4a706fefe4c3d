"""Clips that the receiver does not take now, and until when each of them is left alone.

They stay pending in the spool, and others go on. A few are offered again after a while. Of many each waits longer, so
that all of them together cost no more than OFFERS_A_WAIT questions in that while: where thousands are refused for good,
asking for those again and again would leave no time to reach the clips behind them.
"""

from __future__ import annotations

from collections.abc import Collection

from runtime.messages import NANOSECONDS_PER_SECOND

OFFERS_A_WAIT = 100
#: More are not remembered: the one whose wait ends first is offered again instead.
MAX_SET_ASIDE = 20_000


class SetAside:
    """Numbers of refused clips; each is left alone for `wait_s`, or longer where there are many."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._until_ns: dict[int, int] = {}

    def add(self, n: int, now_ns: int) -> None:
        """Clip `n` was refused just now."""
        self._until_ns.pop(n, None)
        if len(self._until_ns) >= MAX_SET_ASIDE:
            del self._until_ns[min(self._until_ns, key=self._until_ns.__getitem__)]
        waits = max(1.0, (len(self._until_ns) + 1) / OFFERS_A_WAIT)
        self._until_ns[n] = now_ns + int(waits * self._wait_s * NANOSECONDS_PER_SECOND)

    def release(self, now_ns: int) -> None:
        """Forget those that have waited long enough."""
        self._until_ns = {n: until_ns for n, until_ns in self._until_ns.items() if until_ns > now_ns}

    @property
    def numbers(self) -> Collection[int]:
        """All of them."""
        return self._until_ns.keys()

    def __contains__(self, n: int) -> bool:
        return n in self._until_ns
