"""How clips go: erased by order of a person, expired by policy, or given way to another. Rows first, then bytes.

The transaction that deletes rows leaves the names of their bytes in `deletions`; whoever comes by deletes them
(`empty_deletions`), so a removal that was cut short anywhere goes on. A name is never used again, which is why it may
be deleted at any time, twice, and by several receivers at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.storage import tables
from runtime.uplink.storage.clip_facts import facts_of
from runtime.uplink.storage.database import Database
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.limits import RefusedError
from runtime.uplink.storage.rows import (
    ERASED_ON_ARRIVAL,
    ClipKey,
    PartialRow,
    StoredClip,
    forget_clip,
    forget_partial,
    leave_for_deletion,
    log_access,
    partials_of,
    remember_removed,
    stored_clip,
)

#: Names deleted, and clips expired, in one go; what is left is done next time.
MAX_AT_ONCE = 1000
#: Deletions that fail in one go before it is left: a store that is away takes its time for each.
MAX_FAILURES = 2
PUT_OFF_NS = 600 * NANOSECONDS_PER_SECOND
DAY_NS = 86_400 * NANOSECONDS_PER_SECOND
#: A clip of a number that was given up may be offered by a message that came late, which nothing follows. It may also
#: be in earnest, by a vehicle whose spool began anew on another disk: so it is taken, but has to go on.
GIVEN_UP_NS = 3600 * NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure found. `unknown_time`: clips that do not say what they show, and were erased to be sure."""

    id: int
    clips: int
    partials: int
    size_bytes: int
    unknown_time: int


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many days after arrival a clip goes; None: never. `by_priority` is stronger than `clips_days`."""

    clips_days: float | None = None
    by_priority: Mapping[str, float | None] = field(default_factory=dict)
    partials_days: float | None = 30.0

    def days_of(self, priority: str) -> float | None:
        """The days of one priority."""
        return self.by_priority.get(priority, self.clips_days)


def empty_deletions(database: Database, depot: Depot, wall_ns: int) -> int:
    """Delete bytes that no row wants; how many names that was. Raises OSError; what is left is deleted next time.

    Names that cannot be deleted are put off, so that they hold up no others; they are tried until that succeeds.
    """
    table = tables.deletions
    due = select(table).where(table.c.due_wall_ns <= wall_ns).order_by(table.c.due_wall_ns, table.c.name)
    with database.reading() as connection:
        rows = connection.execute(due.limit(MAX_AT_ONCE)).all()
    if rows:
        deleted, failed = _deleted(depot, sorted({row.name for row in rows}))
        with database.writing() as connection:
            done = table.c.name.in_([*deleted, *failed]) & (table.c.due_wall_ns <= wall_ns)
            connection.execute(delete(table).where(done))
            leave_for_deletion(connection, database, failed, wall_ns + PUT_OFF_NS)
        for error in failed.values():
            raise error
    return len(rows)


def _deleted(depot: Depot, names: Sequence[str]) -> tuple[Sequence[str], dict[str, OSError]]:
    """Delete all; where that fails one by one, to learn which will not go. What was not tried is in neither."""
    deleted: list[str] = []
    failed: dict[str, OSError] = {}
    try:
        depot.delete(names)
    except OSError:
        for name in names:
            try:
                depot.delete([name])
                deleted.append(name)
            except OSError as error:
                failed[name] = error
                if len(failed) == MAX_FAILURES:
                    break
        return deleted, failed
    return names, failed


def erase(
    database: Database, vehicle: str, from_wall_ns: int, to_wall_ns: int, who: str, reason: str, wall_ns: int
) -> Erasure:
    """Forget what a vehicle saw from one moment to another, here and whatever of it is still to come.

    Any clip that may show some of that time goes whole. The order itself is logged in the same transaction. The
    caller empties `deletions` afterwards; until then the bytes are there, and nothing leads to them.
    """
    if from_wall_ns > to_wall_ns:
        raise ValueError(f"the range ends before it begins: {from_wall_ns} to {to_wall_ns}")
    with database.writing() as connection:
        database.lock_vehicle(connection, vehicle)
        order = {
            "vehicle": vehicle, "from_wall_ns": from_wall_ns, "to_wall_ns": to_wall_ns, "ordered_wall_ns": wall_ns,
        }  # fmt: skip
        ident = connection.execute(insert(tables.erasures).values(order).returning(tables.erasures.c.id)).scalar_one()
        found = _clips_that_may_show(connection, vehicle, from_wall_ns, to_wall_ns)
        for clip in found:
            forget_clip(connection, database, clip, "erased", wall_ns)
        under_way = [
            row
            for row in partials_of(connection, vehicle)
            if facts_of(row.metadata).may_overlap(from_wall_ns, to_wall_ns, wall_ns)
        ]
        for row in sorted(under_way, key=lambda each: each.id):
            forget_partial(connection, database, row, wall_ns)
            if facts_of(row.metadata).end_wall_ns is not None:
                remember_removed(connection, row.key, "erased", wall_ns)
        unknown = sum(facts_of(clip.metadata).end_wall_ns is None for clip in found)
        outcome = Erasure(int(ident), len(found), len(under_way), sum(clip.size_bytes for clip in found), unknown)
        detail = {
            "erasure": outcome.id, "from_wall_ns": from_wall_ns, "to_wall_ns": to_wall_ns, "reason": reason,
            "clips": sorted(clip.key.n for clip in found), "under_way": sorted(row.key.n for row in under_way),
        }  # fmt: skip
        log_access(connection, wall_ns, who, "erase", vehicle, detail)
    return outcome


def is_erased(connection: Connection, offered: PartialRow, wall_ns: int) -> bool:
    """True when an erasure stands for what a clip shows; it is removed then, before it was ever here."""
    orders = connection.execute(select(tables.erasures).where(tables.erasures.c.vehicle == offered.key.vehicle))
    facts = facts_of(offered.metadata)
    for order in orders.all():
        if not facts.may_overlap(order.from_wall_ns, order.to_wall_ns, order.ordered_wall_ns):
            continue
        if facts.end_wall_ns is None:
            raise RefusedError("erased_time", "the clip does not say what time it shows, and some of it is erased")
        remember_removed(connection, offered.key, "erased", wall_ns)
        _count_arrival(connection, offered.key, order, wall_ns)
        return True
    return False


def _count_arrival(connection: Connection, key: ClipKey, order: Row[Any], wall_ns: int) -> None:
    """One line in the log for each order, however many clips of its time a vehicle offers: those are counted."""
    table = tables.erasures
    connection.execute(update(table).where(table.c.id == order.id).values(arrived=table.c.arrived + 1))
    if order.arrived == 0:
        log_access(connection, wall_ns, "receiver", ERASED_ON_ARRIVAL, key.vehicle, {"erasure": int(order.id)})


def _clips_that_may_show(
    connection: Connection, vehicle: str, from_wall_ns: int, to_wall_ns: int
) -> Sequence[StoredClip]:
    """Stored clips of that time; those of unknown time are judged by their arrival, before which they were made."""
    table = tables.clips
    known = (table.c.start_wall_ns <= to_wall_ns) & (table.c.end_wall_ns >= from_wall_ns)
    unknown = table.c.start_wall_ns.is_(None) & (table.c.received_wall_ns >= from_wall_ns)
    rows = connection.execute(select(table).where(table.c.vehicle == vehicle, known | unknown))
    return [stored_clip(row, Path()) for row in rows]


def expire(database: Database, policy: RetentionPolicy, who: str, wall_ns: int) -> int:
    """Remove clips and partials whose days are over, `MAX_AT_ONCE` at most; how many went. What went is logged."""
    gone = 0
    for priority in _priorities(database):
        days = policy.days_of(priority)
        if days is not None:
            gone += _expire_clips(database, priority, wall_ns - round(days * DAY_NS), who, wall_ns, MAX_AT_ONCE - gone)
    table = tables.partials
    if policy.partials_days is not None:
        over = table.c.touched_wall_ns < wall_ns - round(policy.partials_days * DAY_NS)
        gone += _expire_partials(database, over, "expire unfinished", who, wall_ns)
    given_up = exists().where(tables.tombstones.c.vehicle == table.c.vehicle, tables.tombstones.c.n == table.c.n)
    over = given_up & (table.c.touched_wall_ns < wall_ns - GIVEN_UP_NS)
    return gone + _expire_partials(database, over, "expire given up", who, wall_ns)


def _priorities(database: Database) -> list[str]:
    with database.reading() as connection:
        return sorted(connection.execute(select(tables.clips.c.priority).distinct()).scalars())


def _expire_clips(database: Database, priority: str, before_wall_ns: int, who: str, wall_ns: int, limit: int) -> int:
    table = tables.clips
    over = (table.c.priority == priority) & (table.c.received_wall_ns < before_wall_ns)
    with database.reading() as connection:
        question = select(table).where(over).order_by(table.c.received_wall_ns).limit(max(0, limit))
        found = [stored_clip(row, Path()) for row in connection.execute(question)]
    for vehicle in sorted({clip.key.vehicle for clip in found}):
        with database.writing() as connection:
            database.lock_vehicle(connection, vehicle)
            own = [clip for clip in found if clip.key.vehicle == vehicle]
            gone = [clip for clip in own if forget_clip(connection, database, clip, "expired", wall_ns)]
            if gone:  # not by another receiver meanwhile
                detail = {"priority": priority, "clips": sorted(clip.key.n for clip in gone)}
                log_access(connection, wall_ns, who, "expire", vehicle, detail)
    return len(found)


def _expire_partials(database: Database, over: Any, action: str, who: str, wall_ns: int) -> int:
    """A clip that was never finished: its vehicle may offer it again, from the first byte."""
    gone = 0
    with database.reading() as connection:
        untouched = [tables.partials.c.id, tables.partials.c.vehicle]
        rows = connection.execute(select(*untouched).where(over)).all()
    for vehicle in sorted({row.vehicle for row in rows}):
        with database.writing() as connection:
            database.lock_vehicle(connection, vehicle)
            ids = {row.id for row in rows if row.vehicle == vehicle}
            own = [row for row in partials_of(connection, vehicle) if row.id in ids]
            for partial in sorted(own, key=lambda each: each.id):
                forget_partial(connection, database, partial, wall_ns)
            if own:
                detail = {"n": sorted(row.key.n for row in own)}
                log_access(connection, wall_ns, who, action, vehicle, detail)
            gone += len(own)
    return gone
