"""Where a delivery takes its clips from and notes what became of them, as a protocol; the spool keeps it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from runtime.uplink.transfer import OutgoingClip


class TombstoneRow(Protocol):
    """A number that will never be delivered; `runtime.spool.Tombstone` is one."""

    @property
    def n(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Outbox(Protocol):
    """Where clips come from; `runtime.spool.Spool` is one."""

    def pending(self, limit: int = ..., without: Collection[int] = ...) -> Sequence[OutgoingClip]: ...
    def mark_delivered(self, n: int) -> bool: ...
    def set_damaged_aside(self, n: int, reason: str) -> bool: ...
    def unreported_tombstones(self, limit: int = ...) -> Sequence[TombstoneRow]: ...
    def mark_tombstone_reported(self, n: int) -> None: ...
