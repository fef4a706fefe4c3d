"""What several connections of one process to one ledger do to each other's locks.

POSIX locks belong to the process: closing any descriptor of a file drops all that the process holds on it, those of
SQLite too. Another process that closes the ledger then believes itself alone and deletes the write-ahead log under us.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.formats.durable_files import open_ledger

LOOK = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute('SELECT count(*) FROM t').fetchone()[0])"


def rows_for_another_process(path: Path) -> int:
    """What somebody else finds; he closes the ledger afterwards."""
    command = [sys.executable, "-c", f"{LOOK}; c.close()", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_second_connection_leaves_the_locks_of_the_first_alone(path):
    first = open_ledger(path)
    first.execute("CREATE TABLE t (x)")
    second = open_ledger(path)
    assert rows_for_another_process(path) == 0
    assert path.with_name("ledger.sqlite-wal").exists(), "somebody else deleted the write-ahead log under us"
    first.execute("INSERT INTO t VALUES (1)")
    second.execute("INSERT INTO t VALUES (2)")
    assert rows_for_another_process(path) == 2
    first.close()
    third = open_ledger(path)
    assert rows_for_another_process(path) == 2
    third.execute("INSERT INTO t VALUES (3)")
    assert rows_for_another_process(path) == 3
    for connection in (second, third):
        connection.close()


def test_a_ledger_that_was_closed_is_prepared_anew(path, monkeypatch):
    prepared: list[Path] = []
    monkeypatch.setattr("runtime.formats.durable_files.sync_file", prepared.append)
    for _ in range(2):
        connections = [open_ledger(path), open_ledger(path)]
        connections[0].execute("CREATE TABLE IF NOT EXISTS t (x)")
        for connection in connections:
            connection.close()
    assert prepared.count(path) == 2, "once for each time that the process had no connection"


def test_threads_that_open_it_at_once_keep_their_locks(path):
    made: list[sqlite3.Connection] = []
    threads = [threading.Thread(target=lambda: made.append(open_ledger(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made[0].execute("CREATE TABLE t (x)")
    assert rows_for_another_process(path) == 0
    for connection in made:
        connection.execute("INSERT INTO t VALUES (1)")
    assert rows_for_another_process(path) == 8
    for connection in made:
        connection.close()
