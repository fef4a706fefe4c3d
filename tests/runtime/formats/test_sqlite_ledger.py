"""What one process does with a ledger must not take the log away from another that writes to it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from runtime.formats.sqlite_ledger import open_ledger
from runtime.spool import Spool

OPEN_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
connection.close()
"""


def look_from_another_process(path: Path) -> None:
    """As a command line does that asks a catalogue: it opens, reads, and closes as the last one, for all it knows."""
    subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, str(path)], check=True, capture_output=True)


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM numbers ORDER BY n")]


def test_a_second_connection_of_this_process_leaves_the_first_its_place_in_the_file(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with closing(open_ledger(path)) as first:
        first.execute("CREATE TABLE numbers (n INTEGER)")
        with closing(open_ledger(path)) as second:
            second.execute("INSERT INTO numbers VALUES (1)")
        inode = log_of(path).stat().st_ino
        look_from_another_process(path)
        assert log_of(path).stat().st_ino == inode, "the log that we write to was deleted"
        first.execute("INSERT INTO numbers VALUES (2)")
        assert rows(path) == [1, 2]
    look_from_another_process(path)
    assert not log_of(path).exists(), "the last one tidies up"


def test_threads_that_open_it_at_once_keep_their_places(tmp_path):
    path, made = tmp_path / "ledger.sqlite", []
    threads = [threading.Thread(target=lambda: made.append(open_ledger(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made[0].execute("CREATE TABLE numbers (n INTEGER)")
    inode = log_of(path).stat().st_ino
    look_from_another_process(path)
    assert log_of(path).stat().st_ino == inode
    for number, connection in enumerate(made):
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    assert rows(path) == list(range(8))
    for connection in made:
        connection.close()


def test_a_spool_opened_twice_in_one_process_keeps_its_log(tmp_path):
    with Spool.open(tmp_path, 64 << 20) as spool, Spool.open(tmp_path, 64 << 20):
        inode = log_of(spool.folder.ledger).stat().st_ino
        look_from_another_process(spool.folder.ledger)
        assert log_of(spool.folder.ledger).stat().st_ino == inode


def test_a_ledger_that_was_closed_is_made_again_for_the_next(tmp_path):
    path = tmp_path / "ledger.sqlite"
    open_ledger(path).close()
    path.unlink()
    with closing(open_ledger(path)) as connection:
        connection.execute("CREATE TABLE numbers (n INTEGER)")
        assert path.stat().st_mode & 0o777 == 0o660 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
