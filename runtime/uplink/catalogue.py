"""The receiver's catalogue: clips stored, clips under way, numbers that will never come.

`clips` is what the vehicle was told with DONE. `partials` is what it was told with ACK: ranges and segments are
written here only after their bytes are durable. `final_path` on a partial means that its bytes may be there already.

Any number of receivers share one catalogue. Each decision about a vehicle's clips is one transaction under that
vehicle's lock, so two receivers that are asked at once answer one after the other; a transaction that finds the
partial's id gone writes nothing and says so. Questions of people are in `storage.asking`, removal in
`storage.removal`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import URL, insert, select, update

from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import (
    account_of,
    book,
    charge_of,
    charge_of_number,
    check_clip,
    check_number,
)
from runtime.uplink.storage.backlog import Backlog
from runtime.uplink.storage.clip_facts import facts_of
from runtime.uplink.storage.database import Database
from runtime.uplink.storage.limits import RefusedError, StoreLimits
from runtime.uplink.storage.removal import is_erased
from runtime.uplink.storage.rows import (
    Admission,
    ClipKey,
    PartialRow,
    Segment,
    StoredClip,
    add_partial,
    forget_partial,
    has_clip,
    is_settled,
    leave_final,
    one,
    partial_row,
    partials_of,
    path_of_clip,
    stored_clip,
)

__all__ = ["Catalogue", "ClipKey", "PartialRow", "StoredClip"]

#: A clip under way counts as coming for so long after its last bytes.
COMING_NS = 3600 * 1_000_000_000
#: Of why a number will never come; a vehicle may say more (`notices`).
MAX_KEPT_REASON_LENGTH = 128


class Catalogue:
    """One open catalogue, shared by the threads of the receiver. `place` and `upgrades`: see `Database`."""

    def __init__(self, place: Path | URL | str, upgrades: bool = False) -> None:
        self.database = Database(place, upgrades)
        self.backlog = Backlog(self.database)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    # -- clips under way ----------------------------------------------------------------------------------------

    def admit(self, offered: PartialRow, limits: StoreLimits, wall_ns: int) -> Admission:
        """Decide about an offer. Raises RefusedError, and then nothing gave way."""
        with self.database.writing() as connection:
            account = self.database.lock_vehicle(connection, offered.key.vehicle)
            if is_settled(connection, offered.key):
                return Admission(None)
            check_number(account, offered.key.n, limits)
            if account.clips + account.removed >= limits.vehicle_clips:
                raise RefusedError(
                    "vehicle_quota", f"a vehicle may have {limits.vehicle_clips} clips, removed ones too"
                )
            if is_erased(connection, offered, wall_ns):
                return Admission(None)
            own = partials_of(connection, offered.key.vehicle)
            for row in own:
                if row.key == offered.key and row.size_bytes == offered.size_bytes:
                    return Admission(row)
            if offered.size_bytes > limits.max_clip_bytes:
                detail = f"{offered.size_bytes} bytes, at most {limits.max_clip_bytes} are taken"
                raise RefusedError("too_large", detail)
            wrong = [row for row in own if row.key == offered.key]
            others = [row for row in own if row.key != offered.key]
            gave_way = [*wrong, *others[: max(0, len(others) + 1 - limits.vehicle_partials)]]
            for row in sorted(gave_way, key=lambda each: each.id):  # the order in which everybody locks partials
                forget_partial(connection, self.database, row, wall_ns)
            account = account_of(connection, offered.key.vehicle)
            check_clip(account, offered.size_bytes, offered.metadata, limits)
            return Admission(add_partial(connection, offered, wall_ns), tuple(gave_way))

    def save_ranges(self, held: Iterable[tuple[int, RangeSet, Sequence[Segment]]], wall_ns: int) -> dict[int, RangeSet]:
        """These bytes of partials (by id) are durable. One commit for all; what is held now, without ids that are gone.

        Several receivers may add to one partial: what is there already stays.
        """
        result: dict[int, RangeSet] = {}
        table = tables.partials
        with self.database.writing() as connection:
            for ident, ranges, segments in sorted(held, key=lambda entry: entry[0]):
                locked = select(table.c.ranges, table.c.segment_count).where(table.c.id == ident).with_for_update()
                known = connection.execute(locked).first()
                if known is None:
                    continue
                union = RangeSet([*json.loads(known.ranges), *ranges])
                count = known.segment_count + len(segments)
                values = {"ranges": json.dumps(list(union)), "touched_wall_ns": wall_ns, "segment_count": count}
                connection.execute(update(table).where(table.c.id == ident).values(values))
                for segment in segments:
                    row = {"name": segment.name, "partial": ident, "start": segment.start, "end": segment.end}
                    connection.execute(insert(tables.segments).values(row))
                result[ident] = union
        return result

    def segments(self, ident: int) -> list[Segment]:
        """Where the bytes of a partial lie, by their start."""
        table = tables.segments
        with self.database.reading() as connection:
            rows = connection.execute(
                select(table).where(table.c.partial == ident).order_by(table.c.start, table.c.end)
            )
            return [Segment(int(row.start), int(row.end), row.name) for row in rows]

    def wanted_segments(self, names: Sequence[str]) -> set[str]:
        """Those of these segments (a few thousand at most) that a partial still wants."""
        column = tables.segments.c.name
        with self.database.reading() as connection:
            return set(connection.execute(select(column).where(column.in_(names))).scalars())

    def plan_final_path(self, ident: int, path: str | None) -> str | None:
        """The bytes are about to be put at the path that comes back; None takes a plan back. None: the row is gone.

        The first receiver that plans decides: its day of arrival stands in the path of all.
        """
        table = tables.partials
        with self.database.writing() as connection:
            known = connection.execute(select(table.c.final_path).where(table.c.id == ident).with_for_update()).first()
            if known is None:
                return None
            final = path if path is None or known.final_path is None else str(known.final_path)
            connection.execute(update(table).where(table.c.id == ident).values(final_path=final))
            return final

    def drop_partial(self, row: PartialRow, wall_ns: int) -> None:
        """Forget a clip under way; its bytes are left for deletion."""
        with self.database.writing() as connection:
            self.database.lock_vehicle(connection, row.key.vehicle)
            forget_partial(connection, self.database, row, wall_ns)

    def partial(self, key: ClipKey) -> PartialRow | None:
        """One clip under way."""
        with self.database.reading() as connection:
            row = connection.execute(select(tables.partials).where(one(tables.partials, key))).first()
            return None if row is None else partial_row(row)

    def partials(self, vehicle: str | None = None) -> list[PartialRow]:
        """Clips under way, least recently touched first; of one vehicle or of all."""
        with self.database.reading() as connection:
            return partials_of(connection, vehicle)

    def missing_bytes(self, wall_ns: int) -> dict[int, int]:
        """What clips under way have still to bring, by id; one to which nothing came lately is left out.

        Reads a row of each clip under way of the whole fleet: not for every message (`storage.disk_room`).
        """
        table = tables.partials
        lately = select(table.c.id, table.c.size_bytes, table.c.ranges).where(
            table.c.touched_wall_ns > wall_ns - COMING_NS
        )
        with self.database.reading() as connection:
            rows = connection.execute(lately)
            return {int(row.id): int(row.size_bytes) - RangeSet(json.loads(row.ranges)).total for row in rows}

    def untouched_since(self, wall_ns: int) -> list[PartialRow]:
        """Clips under way to which nothing was added since then."""
        table = tables.partials
        with self.database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.touched_wall_ns < wall_ns).order_by(table.c.id))
            return [partial_row(row) for row in rows]

    # -- stored clips -------------------------------------------------------------------------------------------

    def store(self, row: PartialRow, path: str, wall_ns: int) -> bool:
        """The clip is verified and durably at its final path: from this commit on it is ours.

        False when the partial is gone and the clip is not there: it was removed meanwhile, and `path` is left for
        deletion. So it is where the clip is stored at another path: its partial gave way, and it came again. What was
        left for deletion then may have been deleted for good before these bytes were put.
        """
        facts = facts_of(row.metadata)
        with self.database.writing() as connection:
            self.database.lock_vehicle(connection, row.key.vehicle)
            stored_at = path_of_clip(connection, row.key)
            if stored_at is not None:
                if stored_at != path:
                    leave_final(connection, self.database, path, wall_ns)
                return True
            known = select(tables.partials.c.id).where(tables.partials.c.id == row.id)
            if connection.execute(known).first() is None:  # only who holds the vehicle's row deletes it
                leave_final(connection, self.database, path, wall_ns)
                return False
            connection.execute(
                insert(tables.clips).values(
                    **row.key.columns, size_bytes=row.size_bytes, priority=row.priority, metadata=row.metadata,
                    path=path, received_wall_ns=wall_ns, **facts.columns,
                )
            )  # fmt: skip
            found = [("rule", rule) for rule in facts.rules] + [("campaign", label) for label in facts.campaigns]
            if found:
                rows = [{**row.key.columns, "kind": kind, "name": label} for kind, label in found]
                connection.execute(insert(tables.labels), rows)
            charged = charge_of(row.size_bytes, row.metadata)
            sums = {"clips": 1, "clip_bytes": row.size_bytes, "charged_bytes": charged}
            book(connection, row.key.vehicle, highest_n=row.key.n, **sums)
            forget_partial(connection, self.database, row, wall_ns, kept=path)
            return True

    def has(self, key: ClipKey) -> bool:
        """True when the clip need not come: it is stored, or was removed on purpose."""
        with self.database.reading() as connection:
            return is_settled(connection, key)

    def has_clip(self, key: ClipKey) -> bool:
        """True when the clip is stored here."""
        with self.database.reading() as connection:
            return has_clip(connection, key)

    def clips(self, directory: Path, vehicle: str | None = None) -> list[StoredClip]:
        """Stored clips by vehicle and number; paths below `directory`."""
        question = select(tables.clips).order_by(tables.clips.c.vehicle, tables.clips.c.n)
        if vehicle is not None:
            question = question.where(tables.clips.c.vehicle == vehicle)
        with self.database.reading() as connection:
            return [stored_clip(row, directory) for row in connection.execute(question)]

    # -- numbers without a clip ---------------------------------------------------------------------------------

    def record_tombstone(self, vehicle: str, n: int, reason: str, limits: StoreLimits, wall_ns: int) -> None:
        """Number `n` of this vehicle will never come. Raises RefusedError when it has said so of too many.

        It is charged to the quota, which never refuses it: what a full quota makes the vehicle drop, it may say.
        """
        table = tables.tombstones
        kept = reason.replace("\0", "")[:MAX_KEPT_REASON_LENGTH]
        values = {"vehicle": vehicle, "n": n, "reason": kept, "wall_ns": wall_ns}
        with self.database.writing() as connection:
            account = self.database.lock_vehicle(connection, vehicle)
            known = select(table.c.n).where(table.c.vehicle == vehicle, table.c.n == n)
            if connection.execute(known).first() is not None:
                return
            check_number(account, n, limits)
            if account.tombstones >= limits.vehicle_tombstones:
                raise RefusedError("vehicle_quota", f"a vehicle may give up {limits.vehicle_tombstones} numbers")
            connection.execute(insert(table).values(values))
            book(connection, vehicle, highest_n=n, tombstones=1, charged_bytes=charge_of_number(kept))

    def tombstones(self, vehicle: str) -> dict[int, str]:
        """Reasons by number."""
        table = tables.tombstones
        with self.database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.vehicle == vehicle).order_by(table.c.n))
            return {int(row.n): str(row.reason) for row in rows}

    def removed(self, vehicle: str) -> dict[int, str]:
        """Why numbers of this vehicle are gone on purpose: erased, expired."""
        table = tables.removed
        with self.database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.vehicle == vehicle).order_by(table.c.n))
            return {int(row.n): str(row.reason) for row in rows}
