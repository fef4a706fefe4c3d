"""How old footage is, and how that is handed on: what is made of something older is as old as that.

So it is with a clip that is cut out of a sealed one, and with what is rescued of half a clip; else whoever asked again
in time would keep footage for ever. Until the clip is sealed its draft's row says how old it will be, so that a kill in
between changes nothing. What the ages mean, and which clock to believe, is `wall_time`'s.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

#: Of a run of the machine whose name nobody noted: an earlier one.
SOME_BOOT = "unknown"


@dataclass(frozen=True, slots=True)
class Age:
    """Since when something is kept: in which run of the machine, by its monotonic clock (None: not noted), Unix time.

    Both in ns.
    """

    boot_id: str | None
    since_ns: int | None
    since_wall_ns: int


def age_of_clip(connection: sqlite3.Connection, n: int) -> Age | None:
    """Of a sealed clip; None when its row is gone."""
    row = connection.execute("SELECT sealed_boot_id, sealed_ns, sealed_wall_ns FROM clips WHERE n = ?", (n,)).fetchone()
    return None if row is None else Age(*row)


def age_noted(draft: sqlite3.Row) -> Age | None:
    """What a row of `drafts` says that its clip will be as old as; None: it will be new."""
    if draft["as_old_as_wall_ns"] is None:
        return None
    return Age(draft["as_old_as_boot_id"], draft["as_old_as_ns"], int(draft["as_old_as_wall_ns"]))


def note_age(connection: sqlite3.Connection, draft_id: int, age: Age) -> None:
    """Note beside a draft what its clip will be as old as."""
    connection.execute(
        "UPDATE drafts SET as_old_as_boot_id = ?, as_old_as_ns = ?, as_old_as_wall_ns = ? WHERE id = ?",
        (age.boot_id, age.since_ns, age.since_wall_ns, draft_id),
    )


def set_age(connection: sqlite3.Connection, n: int, age: Age) -> None:
    """A sealed clip is that old, whenever it was sealed."""
    connection.execute(
        "UPDATE clips SET sealed_boot_id = ?, sealed_ns = ?, sealed_wall_ns = ? WHERE n = ?",
        (age.boot_id or SOME_BOOT, age.since_ns, age.since_wall_ns, n),
    )


def hand_on_age(connection: sqlite3.Connection, draft_id: int, n: int) -> Age | None:
    """Clip `n` is as old as its draft says, if it says so. Before the draft's row goes, in the same transaction."""
    draft = connection.execute("SELECT * FROM drafts WHERE id = ?", (draft_id,)).fetchone()
    age = None if draft is None else age_noted(draft)
    if age is not None:
        set_age(connection, n, age)
    return age
