"""Waiting before the next attempt, written once: it doubles, it is bounded, and it starts small after a success.

What many vehicles do against one receiver waits with full jitter, so that a fleet does not return in step; what one
process does for itself (a camera, a signal source, a child) waits exactly.
"""

from __future__ import annotations

import random

#: Of a camera, a signal source or a process of this machine that is tried again.
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0


class Backoff:
    """Delays between attempts; `reset` after a success. Randomness is handed in; without it there is no jitter."""

    def __init__(
        self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S, rng: random.Random | None = None
    ) -> None:
        if not 0 < first_s <= longest_s:
            raise ValueError(f"back-off needs 0 < first_s <= longest_s, got {first_s} and {longest_s}")
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """The next delay: the ceiling, with jitter between half of it and all; it doubles up to the longest."""
        share = 1.0 if self._rng is None else 0.5 + 0.5 * self._rng.random()
        delay_s = self._ceiling_s * share
        self._ceiling_s = min(self._longest_s, 2 * self._ceiling_s)
        return delay_s

    def reset(self) -> None:
        """Start small again."""
        self._ceiling_s = self._first_s
