"""Room on the disk: every draft reserves its bytes first, and whoever gives way for it is settled before it begins.

One round: look at the ledger and either admit, or decide who goes and commit that; then unlink them and look again.
Only a round that finds the room already free admits, so the quota holds even when two processes ask at once.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.clock import Clock
from runtime.messages import Priority
from runtime.spool.admission import HIGHEST_RANK, Kind, Resident, choose_victims, evictable
from runtime.spool.clips import ClipDraft, QuotaExceededError, create_locked
from runtime.spool.folder import SpoolFolder, drop_partial, unlink_clip
from runtime.spool.ledger import Ledger, add_alarm, add_to_fact, entomb, residents, used_bytes

#: What is left free on the disk itself, whatever the quota says.
DISK_RESERVE_BYTES = 16 << 20
MAX_ADMISSION_ROUNDS = 8


def free_disk_bytes(directory: Path) -> int:
    """Bytes that an ordinary user may still write to the disk of `directory`."""
    return shutil.disk_usage(directory).free


class Reservations:
    """Admits drafts to a spool of `quota_bytes` for clips."""

    def __init__(
        self,
        folder: SpoolFolder,
        ledger: Ledger,
        quota_bytes: int,
        clock: Clock,
        disk_free: Callable[[Path], int],
    ) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self._ledger = ledger
        self._clock = clock
        self._disk_free = disk_free

    def begin(self, estimated_bytes: int, priority: Priority = Priority.NORMAL) -> ClipDraft:
        """Reserve room and hand out an empty, locked draft file. Raises QuotaExceededError."""
        for _ in range(MAX_ADMISSION_ROUNDS):
            with self._ledger.transaction() as connection:
                shortfall_bytes = self._shortfall(connection, estimated_bytes)
                if shortfall_bytes <= 0:
                    return self._create_draft(connection, estimated_bytes, priority)
                victims = self._condemn(connection, shortfall_bytes, priority)
            self._remove_victims(victims, estimated_bytes, priority)
        raise self._refusal(estimated_bytes, priority)

    def extend(self, draft: ClipDraft, total_bytes: int) -> None:
        """Reserve `total_bytes` in all for a draft that turns out larger. Raises QuotaExceededError."""
        for _ in range(MAX_ADMISSION_ROUNDS):
            with self._ledger.transaction() as connection:
                growth_bytes = total_bytes - draft.reserved_bytes
                shortfall_bytes = self._shortfall(connection, growth_bytes) if growth_bytes > 0 else 0
                if shortfall_bytes <= 0:
                    connection.execute(
                        "UPDATE drafts SET reserved_bytes = ? WHERE id = ?", (total_bytes, draft.draft_id)
                    )
                    draft.reserved_bytes = total_bytes
                    return
                victims = self._condemn(connection, shortfall_bytes, draft.priority)
            self._remove_victims(victims, growth_bytes, draft.priority)
        raise self._refusal(total_bytes, draft.priority)

    def enforce(self) -> None:
        """Bring a spool that was found over its quota back under it, in eviction order.

        That happens when a recorder wrote more than it had reserved and died, or when the quota was lowered. Safety
        clips stay even then, with an alarm.
        """
        with self._ledger.transaction() as connection:
            excess_bytes = used_bytes(connection) - self.quota_bytes
            if excess_bytes <= 0:
                return
            found = residents(connection)
            victims = choose_victims(found, excess_bytes, HIGHEST_RANK) or evictable(found, HIGHEST_RANK)
            self._settle(connection, victims, "the spool was found over its quota")
            add_alarm(connection, self._clock.wall_ns(), f"found {excess_bytes} bytes over the quota")
        self._remove(victims)

    def _shortfall(self, connection: sqlite3.Connection, wanted_bytes: int) -> int:
        """How many bytes must go first; not positive when there is room."""
        over_quota = used_bytes(connection) + wanted_bytes - self.quota_bytes
        over_disk = wanted_bytes + DISK_RESERVE_BYTES - self._disk_free(self.folder.directory)
        return max(over_quota, over_disk)

    def _create_draft(self, connection: sqlite3.Connection, reserved_bytes: int, priority: Priority) -> ClipDraft:
        row = connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'drafts'")
        draft_id = int(row.fetchone()[0])
        path = self.folder.partial / f"draft-{draft_id:012d}.mcap"
        while path.exists():  # left behind under a ledger that was lost
            draft_id += 1
            path = self.folder.partial / f"draft-{draft_id:012d}.mcap"
        connection.execute(
            "INSERT INTO drafts (id, file_name, reserved_bytes, priority) VALUES (?, ?, ?, ?)",
            (draft_id, path.name, reserved_bytes, priority.value),
        )
        return ClipDraft(draft_id, path, reserved_bytes, priority, create_locked(path))

    def _condemn(
        self, connection: sqlite3.Connection, shortfall_bytes: int, priority: Priority
    ) -> Sequence[Resident] | None:
        """Decide who goes and write that down; their files go after the commit."""
        victims = choose_victims(residents(connection), shortfall_bytes, priority.rank)
        self._settle(connection, victims or (), f"evicted to make room for a clip of priority {priority.value}")
        return victims

    def _settle(self, connection: sqlite3.Connection, victims: Sequence[Resident], reason: str) -> None:
        for victim in victims:
            if victim.kind is Kind.PENDING:
                entomb(connection, victim.key, reason, self._clock.wall_ns())
                add_to_fact(connection, "evicted", 1)

    def _remove_victims(self, victims: Sequence[Resident] | None, wanted_bytes: int, priority: Priority) -> None:
        if victims is None:
            raise self._refusal(wanted_bytes, priority)
        self._remove(victims)

    def _remove(self, victims: Sequence[Resident]) -> None:
        for victim in victims:
            if victim.kind is Kind.PARTIAL:
                drop_partial(self.folder, self._ledger, victim.key, self._clock.wall_ns(), "evicted")
            else:
                unlink_clip(self.folder, self._ledger, victim.key)

    def _refusal(self, wanted_bytes: int, priority: Priority) -> QuotaExceededError:
        with self._ledger.transaction() as connection:
            add_to_fact(connection, "refused", 1)
            freeable_bytes = sum(r.size_bytes for r in evictable(residents(connection), priority.rank))
            available_bytes = max(0, freeable_bytes - self._shortfall(connection, 0))
            add_alarm(connection, self._clock.wall_ns(), f"no room for {wanted_bytes} bytes of {priority.value}")
        return QuotaExceededError(
            f"spool {self.folder.directory} has no room for {wanted_bytes} bytes of priority {priority.value}:"
            f" at most {available_bytes} could be freed of a quota of {self.quota_bytes}"
            " (record fewer cameras or seconds, or raise the quota)",
            available_bytes,
        )
