"""Counts for the status file, cheap however much there is: accounts, and rows that are few or have their own index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import totals
from runtime.uplink.storage.database import Database

#: Of a catalogue that receivers share, which is asked over a network.
SHARED_PERIOD_NS = 30 * NANOSECONDS_PER_SECOND


class Figures:
    """Remembers them, so that a shared catalogue is asked now and then only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[int, dict[str, int]] | None = None

    def at(self, wall_ns: int) -> dict[str, int]:
        """The counts now, or a moment ago. Raises CatalogueError."""
        known = self._known
        if known is None or not self._database.is_shared or not 0 <= wall_ns - known[0] < SHARED_PERIOD_NS:
            known = self._known = (wall_ns, figures(self._database))
        return known[1]


def figures(database: Database) -> dict[str, int]:
    """What all vehicles together have here. Raises CatalogueError."""
    verified = tables.clips.c.verified
    questions = {
        "verification_failed": _count(tables.clips, verified == 0),
        "unverified": _count(tables.clips, verified.is_(None)),
        "partial": _count(tables.partials),
        "deletions_waiting": _count(tables.deletions),
        "vehicles": _count(tables.vehicles, tables.vehicles.c.clips > 0),
    }
    with database.reading() as connection:
        sums = totals(connection)
        found = {name: int(connection.execute(question).scalar_one()) for name, question in questions.items()}
    found |= {"clips": sums.clips, "bytes": sums.clip_bytes, "charged_bytes": sums.charged_bytes}
    found |= {"tombstones": sums.tombstones, "removed": sums.removed}
    return found | {"verified": sums.clips - found["verification_failed"] - found["unverified"]}


def _count(table: Table, *conditions: ColumnElement[bool]) -> Select[Any]:
    return select(func.count()).select_from(table).where(*conditions)
