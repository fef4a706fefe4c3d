"""Files that are looked at again and again, and read again where they look otherwise than before.

A file is taken for unchanged when it is the same inode with the same size and times. File systems tell time coarsely
(a few milliseconds, a second or two on some), so one that is overwritten twice in a moment may look as it did in
between: therefore every fourth time all are read. That a file is gone shows at once, whatever its times.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

READ_ALL_EVERY = 4

#: Inode, size and the times of its content and of its entry, in nanoseconds; None when it cannot be looked at.
Look = tuple[int, int, int, int] | None


def look_of(path: Path) -> Look:
    """How a file (a link's target) looks."""
    try:
        status = os.stat(path)
    except OSError:  # who reads it will say why
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class UnchangedFiles:
    """What `read` made of files; what it raises is not remembered. One round at a time."""

    def __init__(self, read: Callable[[Path], bytes]) -> None:
        self._read = read
        self._known: dict[Path, tuple[Look, bytes]] = {}
        self._rounds = 0

    def begin_round(self) -> None:
        """All are about to be looked at again."""
        if self._rounds % READ_ALL_EVERY == 0:
            self._known = {}  # those that are gone, too
        self._rounds += 1

    def content(self, path: Path) -> bytes:
        """What `read` makes of this file now. Raises what `read` raises."""
        look = look_of(path)  # before it is read: what changes in between looks otherwise next time
        known = self._known.get(path)
        if look is not None and known is not None and known[0] == look:
            return known[1]
        content = self._read(path)
        self._known[path] = look, content
        return content
