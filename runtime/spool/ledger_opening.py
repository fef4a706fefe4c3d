"""The ledger at start-up: opened, or set aside and begun anew where it is damaged."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.formats.durable_files import remove_durably, rename_durably
from runtime.spool.ballast import BALLAST_BYTES, SLICE_BYTES, Ballast
from runtime.spool.clips import LedgerError
from runtime.spool.gate import Gate
from runtime.spool.ledger import Ledger, finish_replacing, is_sound, ledger_error


def open_or_set_aside(path: Path, gate: Gate, ballast: Ballast, wall_ns: int) -> tuple[Ledger, bool]:
    """Open the ledger; a damaged one is renamed and a new one begun. The flag says whether that happened.

    One damaged ledger is kept for a look; an older one goes, for it counts against the quota. On a full disk the
    ballast gives way, slice by slice. Raises LedgerError (unreadable, locked; errno ENOSPC: full) and OSError.
    """
    for _ in range(BALLAST_BYTES // SLICE_BYTES):
        ballast.make_room()
        try:
            return _open_or_set_aside(path, gate, ballast, wall_ns)
        except LedgerError as error:
            if error.errno != errno.ENOSPC or not ballast.held_bytes:
                raise
            ballast.give_up()
    return _open_or_set_aside(path, gate, ballast, wall_ns)


def _open_or_set_aside(path: Path, gate: Gate, ballast: Ballast, wall_ns: int) -> tuple[Ledger, bool]:
    finish_replacing(path)
    try:
        with _told_as_ledger_error(path, ballast):
            ledger = Ledger(path, gate, ballast)
            with ledger.reading() as connection:
                if is_sound(connection):
                    return ledger, False
            connection.close()
    except sqlite3.DatabaseError:
        pass  # "file is not a database", "database disk image is malformed": replaced below, with an alarm
    for old in path.parent.glob("ledger.corrupt-*"):
        remove_durably(old)
    for suffix in ("", "-wal", "-shm"):  # the ledger first: without it SQLite discards the other two
        part = path.with_name(path.name + suffix)
        if part.exists():
            rename_durably(part, path.with_name(f"ledger.corrupt-{wall_ns}.sqlite{suffix}"))
    with _told_as_ledger_error(path, ballast):
        return Ledger(path, gate, ballast), True


@contextmanager
def _told_as_ledger_error(path: Path, ballast: Ballast) -> Iterator[None]:
    """Locked, full or unreadable disk: the file itself is not to blame."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ledger_error("open", path, error, ballast) from error
