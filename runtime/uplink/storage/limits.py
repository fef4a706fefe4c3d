"""What may be stored, and how it is said that something may not."""

from __future__ import annotations

from dataclasses import dataclass

SEGMENTS_AT_LEAST = 1024
SMALLEST_SEGMENT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What one vehicle, and all of them, may occupy.

    `vehicle_quota_bytes` holds everything that is kept of a vehicle, rows too (`storage.accounts`). What the
    configuration's `receiver` section sets has the defaults of that section.
    """

    max_clip_bytes: int = 2_000_000_000
    vehicle_quota_bytes: int = 100_000_000_000
    #: Clips that are stored or were removed (their numbers are kept), and numbers that will never come.
    vehicle_clips: int = 1_000_000
    vehicle_tombstones: int = 1_000_000
    #: How far a number may be beyond the highest one that is known of its vehicle.
    numbers_ahead: int = 1_000_000
    vehicle_partials: int = 16
    disk_reserve_bytes: int = 64_000_000


def most_segments(size_bytes: int) -> int:
    """How many pieces a clip may come in, where each becomes an object: honest ones have 16 KiB or more."""
    return SEGMENTS_AT_LEAST + size_bytes // SMALLEST_SEGMENT_BYTES


def smallest_alone_bytes(size_bytes: int) -> int:
    """How small a piece of a clip may be that touches no other, where each becomes an object."""
    return min(2 * SMALLEST_SEGMENT_BYTES, size_bytes // 64)


class SetupError(OSError):
    """The storage will not work as it is configured, however often it is tried: a person has to mend it."""


class RefusedError(Exception):
    """The receiver will not take this now; `code` goes to the vehicle."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
