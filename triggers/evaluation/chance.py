"""Seeded chance: the same seed, words and time give the same number, live and replayed."""

from __future__ import annotations

import hashlib

_RANGE = 2.0**64


def uniform(seed: int, *words: object) -> float:
    """A number in [0, 1) that follows from `seed` and `words` alone."""
    text = repr((seed, *words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / _RANGE
