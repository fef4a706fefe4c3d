"""Questions of people: which clips are there, give me one, who has looked. Every answer is logged with who got it.

A question and its log entry are one transaction: what could not be logged is not answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, select

from runtime.uplink.storage import tables
from runtime.uplink.storage.clip_facts import facts_of
from runtime.uplink.storage.database import Database
from runtime.uplink.storage.depot import Depot, DepotError
from runtime.uplink.storage.rows import ERASED_ON_ARRIVAL, StoredClip, log_access, stored_clip

MAX_ANSWERS = 10_000
MAX_HASHES_NAMED = 16


@dataclass(frozen=True, slots=True)
class ClipQuestion:
    """What is asked for; None asks for all. The clip shows some of `from` to `to`; `limit` bounds the answer.

    `campaign` is `name` for every version or `name@version`. `after` is the last clip of the answer before, as
    (vehicle, n, sha256), so that a long list is taken in pieces; without the hash, whatever has that number is passed.
    """

    vehicle: str | None = None
    rule: str | None = None
    campaign: str | None = None
    priority: str | None = None
    model: str | None = None
    kind: str | None = None
    from_wall_ns: int | None = None
    to_wall_ns: int | None = None
    verified: bool | None = None
    after: tuple[str, int, str] | None = None
    limit: int = 1000

    def asked(self) -> dict[str, Any]:
        """What was asked for, for the log."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One line of the access log."""

    id: int
    wall_ns: int
    who: str
    action: str
    vehicle: str | None
    detail: dict[str, Any]


def ask(database: Database, question: ClipQuestion, directory: Path, who: str, wall_ns: int) -> list[StoredClip]:
    """The clips that fit, by vehicle and number. Raises ValueError for a limit out of bounds, CatalogueError."""
    _check_limit(question.limit, "clips")
    with database.writing() as connection:
        found = [stored_clip(row, directory) for row in connection.execute(_statement(question))]
        detail = {**question.asked(), "answered": len(found)}
        log_access(connection, wall_ns, who, "query", question.vehicle, detail)
    return found


def _check_limit(limit: int, what: str) -> None:
    if not 0 < limit <= MAX_ANSWERS:
        raise ValueError(f"a limit of {limit} {what}: 1 to {MAX_ANSWERS} are answered at once")


def _statement(question: ClipQuestion) -> Select[Any]:
    table = tables.clips
    statement = select(table).order_by(table.c.vehicle, table.c.n, table.c.sha256).limit(question.limit)
    for name in ("vehicle", "priority", "model", "kind"):
        value = getattr(question, name)
        if value is not None:
            statement = statement.where(table.c[name] == value)
    if question.from_wall_ns is not None:
        statement = statement.where(table.c.end_wall_ns >= question.from_wall_ns)
    if question.to_wall_ns is not None:
        statement = statement.where(table.c.start_wall_ns <= question.to_wall_ns)
    if question.verified is not None:
        statement = statement.where(table.c.verified == int(question.verified))
    if question.after is not None:
        vehicle, n, sha256 = question.after
        same_vehicle, same_number = table.c.vehicle == vehicle, table.c.n == n
        beyond = (table.c.vehicle > vehicle) | (same_vehicle & (table.c.n > n))
        if sha256:
            beyond |= same_vehicle & same_number & (table.c.sha256 > sha256)
        statement = statement.where(beyond)
    for kind, label in (("rule", question.rule), ("campaign", question.campaign)):
        if label is not None:
            statement = statement.where(_has_label(kind, label))
    return statement


def _has_label(kind: str, name: str) -> Any:
    label, clip = tables.labels, tables.clips
    same = (label.c.vehicle == clip.c.vehicle) & (label.c.n == clip.c.n) & (label.c.sha256 == clip.c.sha256)
    return select(label.c.n).where(same, label.c.kind == kind, label.c.name == name).exists()


@contextmanager
def taken_out(
    database: Database, depot: Depot, vehicle: str, n: int, directory: Path, who: str, wall_ns: int, sha256: str = ""
) -> Iterator[tuple[StoredClip, Path]]:
    """A clip and a file to read it from; `sha256`, or how it begins, chooses among clips of one number.

    LookupError when it is not stored or not the only one that fits, DepotError when its bytes are gone. What the caller
    raises while it has the file is the caller's.
    """
    with database.writing() as connection:
        clip = _only_clip(connection, vehicle, n, directory, sha256)
        log_access(connection, wall_ns, who, "fetch", vehicle, {"n": n, "sha256": clip.key.sha256})
    with ExitStack() as stack:
        try:
            path = stack.enter_context(depot.local_copy(clip.name))
        except FileNotFoundError as error:
            raise DepotError(f"clip {n} of {vehicle}: its bytes are not at {clip.name}") from error
        yield clip, path


def _only_clip(connection: Connection, vehicle: str, n: int, directory: Path, sha256: str) -> StoredClip:
    """A vehicle that lost its spool begins at 1 again: one number may stand for several clips."""
    table = tables.clips
    question = select(table).where(table.c.vehicle == vehicle, table.c.n == n).order_by(table.c.sha256)
    of_number = [stored_clip(row, directory) for row in connection.execute(question)]
    found = [clip for clip in of_number if clip.key.sha256.startswith(sha256)]
    if len(found) == 1:
        return found[0]
    if of_number:
        hashes = ", ".join(clip.key.sha256 for clip in (found or of_number)[:MAX_HASHES_NAMED])
        which = f"{len(found)} clips of {vehicle} with number {n} fit" if found else f"no clip {n} of {vehicle} fits"
        raise LookupError(f"{which} (fix: --sha256 with one of {hashes})")
    raise LookupError(f"no clip {n} of {vehicle} is stored (fix: `shadowrig catalogue query --vehicle {vehicle}`)")


def access_log(
    database: Database, vehicle: str | None = None, limit: int = 1000, after: int | None = None
) -> list[AccessEntry]:
    """Entries by their number, of one vehicle or of all: those that follow `after`, or the newest for None.

    What came of an erased time is one entry for each erasure, answered with how many clips that were by now. Raises
    ValueError for a limit out of bounds, CatalogueError.
    """
    _check_limit(limit, "entries")
    table = tables.access_log
    question = select(table).order_by(table.c.id.desc() if after is None else table.c.id).limit(limit)
    if after is not None:
        question = question.where(table.c.id > after)
    if vehicle is not None:
        question = question.where(table.c.vehicle == vehicle)
    with database.reading() as connection:
        rows = connection.execute(question).all()
        orders = connection.execute(select(tables.erasures.c.id, tables.erasures.c.arrived)).all()
    arrived = {int(order.id): int(order.arrived) for order in orders}
    entries = []
    for row in reversed(rows) if after is None else rows:
        detail = json.loads(row.detail)
        if row.action == ERASED_ON_ARRIVAL:
            detail["clips_so_far"] = arrived.get(detail["erasure"], 0)
        entries.append(AccessEntry(int(row.id), int(row.wall_ns), row.who, row.action, row.vehicle, detail))
    return entries


def described(clip: StoredClip) -> dict[str, Any]:
    """A clip as JSON for people and their programs."""
    facts = asdict(facts_of(clip.metadata))
    return {
        "vehicle": clip.key.vehicle, "n": clip.key.n, "sha256": clip.key.sha256, "bytes": clip.size_bytes,
        "priority": clip.priority, "received_wall_ns": clip.received_wall_ns, "verified": clip.verified,
        "problems": clip.problems.splitlines(), "at": clip.name, **facts, "metadata": json.loads(clip.metadata),
    }  # fmt: skip


def has_vehicle(database: Database, vehicle: str) -> bool:
    """True for a vehicle that ever offered something, also when nothing of it is left. Not logged: it shows no clip.

    The vehicle's own row does not count: an erasure makes one, too.
    """
    places = [table.c.vehicle for table in (tables.clips, tables.partials, tables.removed, tables.tombstones)]
    with database.reading() as connection:
        rows = [connection.execute(select(place).where(place == vehicle).limit(1)).first() for place in places]
    return any(row is not None for row in rows)
