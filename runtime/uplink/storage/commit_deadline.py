"""An end to the wait for a COMMIT that PostgreSQL does not answer.

A server ends `statement_timeout` before it commits, so a COMMIT that waits for a synchronous standby which is away, or
for a disk that hangs, waits without end, and the receiver's loop with it. To cancel it would be worse: the server then
commits without the standby and answers success. So the client's end of the connection is shut instead. What was written
may stand, now or when the standby is back, as when a server dies over a COMMIT: nothing is acknowledged, and whoever
asks again is answered by what is there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection

#: Far more than a commit takes; with a flush's PUTs (12 s) still well below the receiver's progress timeout (30 s).
COMMIT_TIMEOUT_S = 5.0


@contextmanager
def shut_when_late(connection: Connection) -> Iterator[threading.Event]:
    """Shut a psycopg connection's socket when the block takes longer than that; the event says whether it was."""
    was_shut = threading.Event()
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None, "a transaction has one"
    with socket.socket(fileno=os.dup(driver_connection.fileno())) as end:

        def shut() -> None:
            was_shut.set()
            with suppress(OSError):  # the other side was first
                end.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(COMMIT_TIMEOUT_S, shut)
        timer.daemon = True
        timer.start()
        try:
            yield was_shut
        finally:
            timer.cancel()
            timer.join()  # it has the socket that is closed next
