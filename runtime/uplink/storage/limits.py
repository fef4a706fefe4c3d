"""What may be stored, and how it is said that something may not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What one vehicle, and all of them, may occupy."""

    max_clip_bytes: int = 4 << 30
    vehicle_quota_bytes: int = 256 << 30
    #: Charged for each clip beside its bytes, so that tiny ones are not free: its metadata at the largest, its rows.
    clip_overhead_bytes: int = 64 << 10
    #: Clips that are stored or were removed (their numbers are kept), and numbers that will never come.
    vehicle_clips: int = 1_000_000
    vehicle_tombstones: int = 1_000_000
    vehicle_partials: int = 16
    disk_reserve_bytes: int = 64 << 20


class RefusedError(Exception):
    """The receiver will not take this now; `code` goes to the vehicle."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
