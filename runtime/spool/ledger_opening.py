"""The ledger at start-up: opened, or set aside and begun anew where it is damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from runtime.formats.durable_files import remove_durably, rename_durably
from runtime.spool.gate import Gate
from runtime.spool.ledger import Ledger, finish_replacing, is_sound


def open_or_set_aside(path: Path, gate: Gate, wall_ns: int) -> tuple[Ledger, bool]:
    """Open the ledger; a damaged one is renamed and a new one begun. The flag says whether that happened.

    One damaged ledger is kept for a look; an older one goes, for it counts against the quota.
    """
    finish_replacing(path)
    try:
        ledger = Ledger(path, gate)
        with ledger.reading() as connection:
            if is_sound(connection):
                return ledger, False
        connection.close()
    except sqlite3.OperationalError:
        raise  # locked, full or unreadable disk: the file itself is not to blame
    except sqlite3.DatabaseError:
        pass  # "file is not a database", "database disk image is malformed": replaced below, with an alarm
    for old in path.parent.glob("ledger.corrupt-*"):
        remove_durably(old)
    for suffix in ("", "-wal", "-shm"):  # the ledger first: without it SQLite discards the other two
        part = path.with_name(path.name + suffix)
        if part.exists():
            rename_durably(part, path.with_name(f"ledger.corrupt-{wall_ns}.sqlite{suffix}"))
    return Ledger(path, gate), True
