"""Stored clips that no verifier has judged yet: whose turn it is, who looks, and what was found.

The backlog is the catalogue itself (`verified IS NULL`), so it is neither lost by a crash nor held in memory, and
several receivers share it: each clip is one verifier's until its lease ends. Vehicles take turns, so that one with
thousands of clips, or with clips that take minutes, makes nobody else wait longer than for one of them. Each attempt
is counted, durably, before anybody looks: a clip that kills whoever looks at it cannot do so for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, select, update

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.storage import tables
from runtime.uplink.storage.database import Database
from runtime.uplink.storage.rows import ClipKey, StoredClip, one, stored_clip

#: A verifier that has not answered for so long is taken for dead; another one looks at its clip. Large ones take more.
SHORTEST_LEASE_NS = 600 * NANOSECONDS_PER_SECOND
LEASE_NS_PER_MEBIBYTE = 5 * NANOSECONDS_PER_SECOND
LONGEST_LEASE_NS = 4200 * NANOSECONDS_PER_SECOND
#: What is kept of a verdict: it lies in the clip's row, and questions of people load thousands of them.
MAX_PROBLEMS = 101  # a hundred, and how many more there are
MAX_PROBLEM_LENGTH = 500
MAX_VERDICT_LENGTH = 16 * 1024


class Backlog:
    """The verifiers' part of a catalogue. Each method is one transaction, and raises CatalogueError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next(self, directory: Path, wall_ns: int, after_vehicle: str = "") -> StoredClip | None:
        """The oldest waiting clip of the next vehicle by name that has one, leased to us; this attempt is in it."""
        with self._database.reading() as connection:
            if self._first(connection, wall_ns, "", directory) is None:  # the usual answer needs no write lock
                return None
        with self._database.writing() as connection:
            found = self._first(connection, wall_ns, after_vehicle, directory, locked=True)
            if found is None:
                return None
            clip = replace(found, verify_attempts=found.verify_attempts + 1)
            lease_ends_ns = wall_ns + verifying_lease_ns(clip.size_bytes)
            mine = {"verifying_until_wall_ns": lease_ends_ns, "verify_attempts": clip.verify_attempts}
            connection.execute(update(tables.clips).where(one(tables.clips, clip.key)).values(mine))
            return clip

    def _first(
        self, connection: Connection, wall_ns: int, after_vehicle: str, directory: Path, locked: bool = False
    ) -> StoredClip | None:
        table = tables.clips
        waiting = (table.c.verified.is_(None)) & (table.c.verifying_until_wall_ns <= wall_ns)
        anybody = select(table).where(waiting).order_by(table.c.vehicle, table.c.received_wall_ns, table.c.n).limit(1)
        turns = (anybody.where(table.c.vehicle > after_vehicle), anybody) if after_vehicle else (anybody,)
        for question in turns:
            row = connection.execute(question.with_for_update(skip_locked=True) if locked else question).first()
            if row is not None:
                return stored_clip(row, directory)
        return None

    def release_all(self) -> None:
        """No verifier is at work: what the last process had begun to look at waits again, its attempts counted."""
        with self._database.writing() as connection:
            begun = tables.clips.c.verified.is_(None) & (tables.clips.c.verifying_until_wall_ns > 0)
            connection.execute(update(tables.clips).where(begun).values(verifying_until_wall_ns=0))

    def put_back(self, clip: StoredClip, counts: bool, not_before_wall_ns: int = 0) -> None:
        """We do not look at this clip any more, and it waits again; an attempt that does not count is taken back."""
        values = {
            "verifying_until_wall_ns": not_before_wall_ns, "verify_attempts": clip.verify_attempts - (not counts)
        }  # fmt: skip
        with self._database.writing() as connection:
            connection.execute(update(tables.clips).where(one(tables.clips, clip.key)).values(values))

    def record(self, key: ClipKey, problems: Sequence[str]) -> None:
        """The verifier's verdict: no problems means verified."""
        verdict = {"verified": int(not problems), "problems": verdict_text(problems)}
        with self._database.writing() as connection:
            connection.execute(update(tables.clips).where(one(tables.clips, key)).values(verdict))


def verifying_lease_ns(size_bytes: int) -> int:
    """How long a clip of this size is one verifier's."""
    return min(LONGEST_LEASE_NS, SHORTEST_LEASE_NS + LEASE_NS_PER_MEBIBYTE * size_bytes // (1 << 20))


def verdict_text(problems: Sequence[str]) -> str:
    """One line for each problem, whatever a clip has put into it, and no more than a row should hold."""
    lines: list[str] = []
    left = MAX_VERDICT_LENGTH
    for number, problem in enumerate(problems):
        line = "".join(each if each.isprintable() else " " for each in problem[:MAX_PROBLEM_LENGTH])
        if number >= MAX_PROBLEMS or len(line) > left:
            lines.append(f"and {len(problems) - number} more")
            break
        lines.append(line)
        left -= len(line) + 1
    return "\n".join(lines)
