"""Seeded chance: the same seed, words and time give the same number, live and replayed."""

from __future__ import annotations

import hashlib

_RANGE = 2.0**64


def uniform(seed: int, *words: object) -> float:
    """A number in [0, 1) that follows from `seed` and `words` alone."""
    return _drawn(repr((seed, *words)))


class Draws:
    """The numbers of `uniform(seed, *words, time_ns)` for one time after another."""

    def __init__(self, seed: int, *words: object) -> None:
        self._before_time = repr((seed, *words))[:-1]

    def at(self, time_ns: int) -> float:
        """The number at a time."""
        return _drawn(f"{self._before_time}, {time_ns})")


def _drawn(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / _RANGE
