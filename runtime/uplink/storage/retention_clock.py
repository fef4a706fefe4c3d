"""Whether the clock may be believed by which clips expire: what has expired does not come back.

Receivers that share a PostgreSQL catalogue are held to its server's clock: none starts that is more than an hour off,
and nothing expires by one that has run ahead since. A receiver alone has no other clock to ask, so it remembers when
it last let clips expire. A clock that is more than a day beyond that has jumped, or the receiver was off for days:
nothing expires then, which its operator is told, until it has run a day by that clock without another jump.
"""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import Connection, delete, func, insert, select, text

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.storage import tables
from runtime.uplink.storage.database import CatalogueError, Database

LARGEST_ERROR_NS = 3600 * NANOSECONDS_PER_SECOND
LONGEST_GAP_NS = 24 * 3600 * NANOSECONDS_PER_SECOND
#: Housekeeping asks every ten minutes: a day.
DOUBTFUL_TURNS = 144


class ClockError(CatalogueError):
    """This machine's clock cannot be right."""


def check_clock(database: Database, wall_ns: int, may_be_behind: bool = False) -> None:
    """Raises ClockError when this machine's clock and the shared catalogue's are far apart, CatalogueError."""
    if not database.is_shared:
        return
    with database.reading() as connection:
        seconds = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    ahead_ns = wall_ns - int(seconds * NANOSECONDS_PER_SECOND)
    if ahead_ns > LARGEST_ERROR_NS or (ahead_ns < -LARGEST_ERROR_NS and not may_be_behind):
        side = "ahead of" if ahead_ns > 0 else "behind"
        hours = abs(ahead_ns) / (3600 * NANOSECONDS_PER_SECOND)
        raise ClockError(f"this machine's clock is {hours:.1f} h {side} {database.label}'s (fix: set the wrong one)")


class RetentionClock:
    """The clock of a receiver that has its catalogue to itself. Used by one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._doubted_wall_ns: int | None = None  # the turn before, when it was doubted

    def check(self, wall_ns: int) -> None:
        """One turn of housekeeping. Raises ClockError when nothing may expire by this clock, CatalogueError."""
        if self._database.is_shared:
            check_clock(self._database, wall_ns, may_be_behind=True)
            return
        with self._database.writing() as connection:
            last_ns, doubted = _last_turn(connection, wall_ns)
            if self._doubted_wall_ns is not None:
                went_on = 0 < wall_ns - self._doubted_wall_ns <= LONGEST_GAP_NS
                doubted = doubted + 1 if went_on else 0
            is_believed = wall_ns - last_ns <= LONGEST_GAP_NS or doubted >= DOUBTFUL_TURNS
            _remember(connection, wall_ns if is_believed else last_ns, 0 if is_believed else doubted)
        self._doubted_wall_ns = None if is_believed else wall_ns
        if not is_believed:
            raise ClockError(
                f"it is {_day(wall_ns)} by this clock, and clips were last let expire, or came, on {_day(last_ns)}:"
                f" nothing expires until the receiver has run a day more (fix: set the clock if it is wrong)"
            )


def _last_turn(connection: Connection, wall_ns: int) -> tuple[int, int]:
    """When clips were last let expire, and how many turns were doubted since; before the first the newest arrival."""
    row = connection.execute(select(tables.retention_turns)).first()
    if row is not None:
        return int(row.wall_ns), int(row.doubted)
    newest = connection.execute(select(func.max(tables.clips.c.received_wall_ns))).scalar()
    return wall_ns if newest is None else int(newest), 0


def _remember(connection: Connection, wall_ns: int, doubted: int) -> None:
    connection.execute(delete(tables.retention_turns))
    connection.execute(insert(tables.retention_turns).values(wall_ns=wall_ns, doubted=doubted))


def _day(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns // NANOSECONDS_PER_SECOND, tz=timezone.utc).strftime("%Y-%m-%d %H:%M")
