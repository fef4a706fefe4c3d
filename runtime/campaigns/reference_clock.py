"""Wall time that never goes back: what dates are judged by, whatever the vehicle's clock is set to.

The latest time that was ever seen is kept on disk, and goes on with the monotonic clock while a process lives. A clock
that was set back, or that starts at 1970 for want of a battery, then reads that time: an expired campaign stays
expired, and a frozen repository looks as old as it is.
Running ahead cannot be told from the truth: a clock that was once set to a wrong future makes dates look passed
until it comes, which stops campaigns and starts none.
"""

from __future__ import annotations

import json
from pathlib import Path

from runtime.formats.durable_files import write_durably

#: How much the time on disk may lag behind: it is written no more often.
WRITE_STEP_NS = 60 * 1_000_000_000


class ReferenceClock:
    """One reader and writer (the uploader); others may only read, with `may_write` False."""

    def __init__(self, path: Path, may_write: bool = True) -> None:
        self._path = path
        self._may_write = may_write
        self._latest_ns = self._written_ns = _read(path)
        self._latest_at_ns: int | None = None  # on the monotonic clock

    def judge(self, wall_ns: int, now_ns: int) -> int:
        """The time to judge dates by, now that the vehicle's clocks say this. OSError when it cannot be kept."""
        if self._latest_at_ns is not None:
            self._latest_ns += max(0, now_ns - self._latest_at_ns)
        self._latest_at_ns = now_ns
        if not self._may_write:
            self._latest_ns = max(self._latest_ns, _read(self._path))
        self._latest_ns = max(self._latest_ns, wall_ns)
        if self._may_write and self._latest_ns >= self._written_ns + WRITE_STEP_NS:
            write_durably(self._path, json.dumps({"wall_ns": self._latest_ns}).encode())
            self._written_ns = self._latest_ns
        return self._latest_ns


def _read(path: Path) -> int:
    """0 when there is none, or none that can be read: the vehicle's clock alone then decides, as on its first day."""
    try:
        value = json.loads(path.read_bytes())["wall_ns"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return value if type(value) is int and value > 0 else 0
