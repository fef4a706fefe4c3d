"""What may be stored, and how it is said that something may not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What one vehicle, and all of them, may occupy."""

    max_clip_bytes: int = 4 << 30
    vehicle_quota_bytes: int = 256 << 30
    vehicle_partials: int = 16
    disk_reserve_bytes: int = 64 << 20


class RefusedError(Exception):
    """The receiver will not take this now; `code` goes to the vehicle."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
