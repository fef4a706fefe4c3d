"""Room on the disk: every draft reserves its bytes first, and whoever gives way for it is settled before it begins.

One round: look at the ledger and either admit, or decide who goes and commit that; then unlink them and look again.
Only a round that finds the room already free admits, so the quota holds even when two processes ask at once.

The quota counts whole blocks of the disk: the ledger, and the small files of others beside it (`small_files`), with
what they really occupy, and may soon, where that is more than their reserve. The disk itself may be fuller than the
quota knows, because somebody else writes to it. Clips go for that too, but only while it helps: when what they leave is
taken by others, or given back late, no waiting clip goes for the disk's sake for a while, longer each time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from runtime.backoff import Backoff
from runtime.messages import NANOSECONDS_PER_SECOND, Priority
from runtime.spool.accounts import add_alarm, add_to_fact, entomb, residents, used_bytes
from runtime.spool.admission import HIGHEST_RANK, Kind, Newcomer, Resident, choose_victims, evictable
from runtime.spool.age import Age, note_age
from runtime.spool.ballast import BALLAST_BYTES
from runtime.spool.clips import (
    BLOCK_BYTES,
    ClipDraft,
    QuotaExceededError,
    ShrinkRequiredError,
    create_locked,
    encode_metadata,
    occupied_bytes,
)
from runtime.spool.folder import SpoolFolder, drop_partial, unlink_clip
from runtime.spool.ledger import Ledger
from runtime.spool.shape import ClipShape
from runtime.spool.small_files import small_files_bytes_soon
from runtime.spool.wall_time import TrustedWall

#: What is left free on the disk itself, whatever the quota says.
DISK_RESERVE_BYTES = 16 << 20
#: What the ledger may grow by until somebody is admitted again: its write-ahead log, and the rows of some clips.
LEDGER_GROWTH_BYTES = 1 << 20
MAX_ADMISSION_ROUNDS = 8
#: The disk must have gained this share of what was removed; else somebody else has taken it.
GAINED_SHARE = 0.5
#: How long no waiting clip goes for room on the disk after that: twice as long each time, and no longer than this.
DISK_TAKEN_FIRST_S, DISK_TAKEN_LONGEST_S = 4.0, 600.0

Admitted = TypeVar("Admitted")


@contextmanager
def _without_draft_on_failure() -> Iterator[list[ClipDraft]]:
    """A draft whose row was not committed leaves neither a file nor a lock behind, which nobody would ever take up."""
    created: list[ClipDraft] = []
    try:
        yield created
    except BaseException:
        for draft in created:
            draft.release()
            draft.path.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class Request:
    """Room wanted: for a new draft, or for one that grows."""

    wanted_bytes: int
    priority: Priority
    shape: ClipShape | None

    @property
    def newcomer(self) -> Newcomer:
        """As eviction sees it."""
        return Newcomer(self.priority.rank, self.shape is not None and self.shape.is_smallest)


class Reservations:
    """Admits drafts to a spool of `quota_bytes`, of which `ledger_reserve_bytes` are never given to clips."""

    def __init__(
        self,
        folder: SpoolFolder,
        ledger: Ledger,
        quota_bytes: int,
        ledger_reserve_bytes: int,
        wall: TrustedWall,
        disk_free: Callable[[Path], int],
    ) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self._ledger_reserve_bytes = ledger_reserve_bytes
        self._ledger = ledger
        self._wall = wall
        self._disk_free = disk_free
        self._disk_taken_until_ns: int | None = None  # monotonic; clips have just gone for nothing
        self._disk_pauses = Backoff(DISK_TAKEN_FIRST_S, DISK_TAKEN_LONGEST_S)

    @property
    def clip_quota_bytes(self) -> int:
        """What clips may occupy now."""
        return self.quota_bytes - max(self._ledger_reserve_bytes, self._bytes_beside_clips_soon())

    @property
    def ledger_takes_room(self) -> bool:
        """True when the ledger, with the small files beside it, has outgrown the reserve, or may soon."""
        return self._bytes_beside_clips_soon() > self._ledger_reserve_bytes

    def _bytes_beside_clips_soon(self) -> int:
        ledger_bytes_soon = self._ledger.disk_bytes() + BALLAST_BYTES + LEDGER_GROWTH_BYTES
        return ledger_bytes_soon + small_files_bytes_soon(self.folder.directory)

    def begin(
        self,
        estimated_bytes: int,
        priority: Priority,
        shape: ClipShape | None,
        metadata: Mapping[str, Any],
        as_old_as: Age | None = None,
    ) -> ClipDraft:
        """Reserve room and hand out an empty, locked draft file. Raises QuotaExceededError."""
        request, noted = Request(estimated_bytes, priority, shape), encode_metadata(metadata)
        with _without_draft_on_failure() as created:

            def admit(connection: sqlite3.Connection) -> ClipDraft:
                created.append(self._create_draft(connection, request, noted))
                if as_old_as is not None:
                    note_age(connection, created[0].draft_id, as_old_as)
                return created[0]

            draft = self._with_room(request, occupied_bytes(estimated_bytes), admit)
        if draft is None:
            raise self._refusal(request)
        return draft

    def extend(self, draft: ClipDraft, total_bytes: int) -> int:
        """Reserve `total_bytes` in all for a draft that turns out larger. Raises QuotaExceededError."""
        request = Request(total_bytes - draft.reserved_bytes, draft.priority, draft.shape)
        growth_bytes = occupied_bytes(total_bytes) - occupied_bytes(draft.reserved_bytes)

        def grow(connection: sqlite3.Connection) -> int:
            connection.execute("UPDATE drafts SET reserved_bytes = ? WHERE id = ?", (total_bytes, draft.draft_id))
            draft.reserved_bytes = total_bytes
            return total_bytes

        grown_to_bytes = self._with_room(request, growth_bytes, grow)
        if grown_to_bytes is None:
            raise self._refusal(request, grown_to_bytes=total_bytes)
        return grown_to_bytes

    def _with_room(
        self, request: Request, wanted_bytes: int, admit: Callable[[sqlite3.Connection], Admitted]
    ) -> Admitted | None:
        """What `admit` gives, once there is room for `wanted_bytes`; None when there will be none."""
        for _ in range(MAX_ADMISSION_ROUNDS):
            with self._ledger.transaction() as connection:
                over_quota_bytes, over_disk_bytes = self._shortfalls(connection, wanted_bytes)
                if max(over_quota_bytes, over_disk_bytes) <= 0:
                    return admit(connection)
                in_vain = over_disk_bytes > 0 and self._disk_is_taken
                victims = self._condemn(
                    connection, max(over_quota_bytes, over_disk_bytes), request.newcomer, spare_waiting=in_vain
                )
            if victims is None:
                return None
            free_bytes = self._disk_free(self.folder.directory)
            self._remove(victims)
            if over_disk_bytes > 0 and not self._has_gained(free_bytes, victims):
                return None
        return None

    @property
    def _disk_is_taken(self) -> bool:
        return self._disk_taken_until_ns is not None and self._wall.monotonic_ns() < self._disk_taken_until_ns

    def _has_gained(self, free_bytes: int, victims: Sequence[Resident]) -> bool:
        """Whether the disk has more room now that these are gone; if not, that is noted, with an alarm."""
        removed_bytes = sum(victim.size_bytes for victim in victims)
        gained_bytes = self._disk_free(self.folder.directory) - free_bytes
        if gained_bytes >= GAINED_SHARE * removed_bytes:
            self._disk_taken_until_ns = None
            self._disk_pauses.reset()
            return True
        pause_ns = round(self._disk_pauses.next_s() * NANOSECONDS_PER_SECOND)
        self._disk_taken_until_ns = self._wall.monotonic_ns() + pause_ns
        text = f"{removed_bytes} bytes of clips went, and {gained_bytes} more are free: others fill the disk"
        with self._ledger.transaction() as connection:
            add_alarm(connection, self._wall.now_ns(), text)
        return False

    def enforce(self) -> None:
        """Bring a spool that was found over its quota back under it, in eviction order.

        That happens when a recorder wrote more than it had reserved and died, or when the quota was lowered. Safety
        clips stay even then, with an alarm.
        """
        with self._ledger.transaction() as connection:
            excess_bytes = used_bytes(connection) - self.clip_quota_bytes
            if excess_bytes <= 0:
                return
            found = residents(connection, self._wall)
            nobody = Newcomer(HIGHEST_RANK, takes_any_partial=True)
            victims = choose_victims(found, excess_bytes, nobody) or evictable(found, nobody)
            self._settle(connection, victims, "the spool was found over its quota")
            add_alarm(connection, self._wall.now_ns(), f"found {excess_bytes} bytes over the quota")
        self._remove(victims)

    def _shortfalls(self, connection: sqlite3.Connection, wanted_bytes: int) -> tuple[int, int]:
        """How many bytes must go first for the quota, and for the disk; not positive when there is room."""
        over_quota_bytes = used_bytes(connection) + wanted_bytes - self.clip_quota_bytes
        over_disk_bytes = wanted_bytes + DISK_RESERVE_BYTES - self._disk_free(self.folder.directory)
        return over_quota_bytes, over_disk_bytes

    def _create_draft(self, connection: sqlite3.Connection, request: Request, metadata: str) -> ClipDraft:
        row = connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'drafts'")
        draft_id = int(row.fetchone()[0])
        path = self.folder.partial / f"draft-{draft_id:012d}.mcap"
        while path.exists():  # left behind under a ledger that was lost
            draft_id += 1
            path = self.folder.partial / f"draft-{draft_id:012d}.mcap"
        connection.execute(
            "INSERT INTO drafts (id, file_name, reserved_bytes, priority, metadata, boot_id, begun_ns)"
            " VALUES (:id, :name, :reserved_bytes, :priority, :metadata, :boot_id, :now_ns)",
            {
                "id": draft_id,
                "name": path.name,
                "reserved_bytes": request.wanted_bytes,
                "priority": request.priority.value,
                "metadata": metadata,
                **self._wall.instant(),
            },
        )
        descriptor = create_locked(path)
        return ClipDraft(draft_id, path, request.wanted_bytes, request.priority, descriptor, request.shape)

    def _condemn(
        self, connection: sqlite3.Connection, shortfall_bytes: int, newcomer: Newcomer, spare_waiting: bool
    ) -> Sequence[Resident] | None:
        """Decide who goes and write that down; their files go after the commit."""
        found = residents(connection, self._wall)
        if spare_waiting:
            found = [resident for resident in found if resident.kind is not Kind.PENDING]
        victims = choose_victims(found, shortfall_bytes, newcomer)
        rank = list(Priority)[newcomer.rank].value
        self._settle(connection, victims or (), f"evicted to make room for a clip of priority {rank}")
        return victims

    def _settle(self, connection: sqlite3.Connection, victims: Sequence[Resident], reason: str) -> None:
        for victim in victims:
            if victim.kind in (Kind.EXPIRED, Kind.PENDING):
                prefix = "expired, and " if victim.kind is Kind.EXPIRED else ""
                entomb(connection, victim.key, prefix + reason, self._wall.now_ns())
                add_to_fact(connection, "evicted", 1)

    def _remove(self, victims: Sequence[Resident]) -> None:
        for victim in victims:
            if victim.kind in (Kind.EVIDENCE, Kind.PARTIAL):
                drop_partial(self.folder, self._ledger, victim.key, self._wall.now_ns(), "evicted")
            else:
                unlink_clip(self.folder, self._ledger, victim.key)

    def _refusal(self, request: Request, grown_to_bytes: int | None = None) -> QuotaExceededError:
        wanted_bytes, priority, shape = request.wanted_bytes, request.priority, request.shape
        with self._ledger.transaction() as connection:
            over_quota_bytes, over_disk_bytes = self._shortfalls(connection, 0)
            found = evictable(residents(connection, self._wall), request.newcomer)
            if self._disk_is_taken and over_disk_bytes + wanted_bytes > 0:
                found = [resident for resident in found if resident.kind is not Kind.PENDING]
            freed_bytes = sum(resident.size_bytes for resident in found)
            available_bytes = max(0, freed_bytes - max(over_quota_bytes, over_disk_bytes))
            available_bytes -= available_bytes % BLOCK_BYTES  # files take whole blocks: more would not fit again
            add_to_fact(connection, "refused", 1)
            add_alarm(connection, self._wall.now_ns(), f"no room for {wanted_bytes} bytes of {priority.value}")
            if priority.rank == HIGHEST_RANK and shape is not None and not shape.is_smallest:
                share = 0.5 if grown_to_bytes else available_bytes / max(1, wanted_bytes)
                smaller = shape.shrunk(share)
                text = f"a {priority.value} clip has to shrink to {len(smaller.cameras)} cameras, {smaller.seconds:g} s"
                add_alarm(connection, self._wall.now_ns(), text)
                add_to_fact(connection, "shrunk", 1)
                return ShrinkRequiredError(f"{text}: only clips of its own priority are left", available_bytes, smaller)
        return QuotaExceededError(
            f"spool {self.folder.directory} has no room for {wanted_bytes} bytes of priority {priority.value}:"
            f" at most {available_bytes} could be freed of the {max(0, self.clip_quota_bytes)} that clips may take"
            + (
                " (others fill the disk: give it room)"
                if self._disk_is_taken
                else " (record fewer cameras or seconds, or raise the quota)"
            ),
            available_bytes,
        )
