"""Waiting before the next attempt: exponential, bounded, with full jitter, so that a fleet does not return in step."""

from __future__ import annotations

import random


class Backoff:
    """Delays between attempts; `reset` after a success. Randomness is handed in."""

    def __init__(self, first_s: float, longest_s: float, rng: random.Random) -> None:
        if not 0 < first_s <= longest_s:
            raise ValueError(f"back-off needs 0 < first_s <= longest_s, got {first_s} and {longest_s}")
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """The next delay: between half the ceiling and the ceiling, which doubles up to the longest."""
        delay_s = self._ceiling_s * (0.5 + 0.5 * self._rng.random())
        self._ceiling_s = min(self._longest_s, 2 * self._ceiling_s)
        return delay_s

    def reset(self) -> None:
        """Start small again."""
        self._ceiling_s = self._first_s
