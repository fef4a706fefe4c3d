"""When a vehicle gives a session up: the link is silent, or one answer does not come while others do.

Silence means the most: a link over which nothing at all comes while an answer is due is dead. One missing answer among
others means less. It may be lost; or it waits, over a slow link, behind everything that was sent before its question,
as the acknowledgement of a chunk does, which is measured. So it gets several times as long as that took last, and never
less than silence does nor more than a few times that: a lost answer must not hold a clip up for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.messages import NANOSECONDS_PER_SECOND

#: So many times the delay of the last acknowledgement may one answer take ...
DELAYS_OF_AN_ANSWER = 4
#: ... but no longer than so many times what silence may.
SILENCES_OF_AN_ANSWER = 8


class Patience:
    """How long `silence_s` of nothing is, and since when there is nothing."""

    def __init__(self, silence_s: float) -> None:
        self._silence_ns = int(silence_s * NANOSECONDS_PER_SECOND)
        self._heard_ns = 0

    def heard(self, now_ns: int) -> None:
        """Something came, whatever it was; or a session begins."""
        self._heard_ns = now_ns

    def is_over(self, waits: Iterable[int | None], delay_ns: int, now_ns: int) -> bool:
        """`waits` says since when answers are due (None: that one is not), `delay_ns` how late the last ACK came."""
        since_ns = min((since for since in waits if since is not None), default=None)
        if since_ns is None:
            return False
        if now_ns - max(since_ns, self._heard_ns) > self._silence_ns:
            return True
        allowed_ns = min(DELAYS_OF_AN_ANSWER * delay_ns, SILENCES_OF_AN_ANSWER * self._silence_ns)
        return now_ns - since_ns > max(self._silence_ns, allowed_ns)
