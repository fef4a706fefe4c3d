"""The recorder's copy on disk of the runtime's budgets and tallies (`selection.json`), so that they survive a reboot.

The runtime writes tmpfs only; the recorder owns the disk. It copies the file when it has changed, at most once a
minute and once more when it leaves. A power cut therefore costs at most the last minute of counting. The copy lies in
the spool's folder; the runtime reads it at its start when tmpfs has none. It counts towards
the spool's quota, so what is larger than `MAX_COPY_BYTES` is not copied, and the status says so.
"""

from __future__ import annotations

import errno
from pathlib import Path

from runtime.formats.durable_files import write_durably
from runtime.formats.selection_file import MAX_COPY_BYTES, SELECTION_FILE
from runtime.messages import NANOSECONDS_PER_SECOND

COPY_INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND


def disk_copy_path(spool: Path) -> Path:
    """Where the copy lies."""
    return spool / SELECTION_FILE


class SelectionCopy:
    """Owned by the recorder's loop."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source
        self._target = target
        self._copied_mtime_ns = 0
        self._next_ns = 0
        self.failures = 0
        self.last_error = ""

    def step(self, now_ns: int) -> None:
        """Copy when it is time and there is something new. A disk that refuses is counted and tried again."""
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + COPY_INTERVAL_NS
            self.copy()

    def copy(self) -> None:
        """Copy what is new now."""
        if not self._source.exists():
            return  # the runtime has saved nothing yet
        try:
            mtime_ns = self._source.stat().st_mtime_ns
            if mtime_ns != self._copied_mtime_ns:
                self._drop_drafts()
                write_durably(self._target, self._read())
                self._copied_mtime_ns = mtime_ns
        except OSError as error:
            self.failures += 1
            self.last_error = f"{self._target}: {error}"

    def _read(self) -> bytes:
        with self._source.open("rb") as stream:
            data = stream.read(MAX_COPY_BYTES + 1)
        if len(data) > MAX_COPY_BYTES:
            raise OSError(
                errno.EFBIG,
                f"{self._source} is larger than the {MAX_COPY_BYTES} bytes that a copy on disk may take, so after"
                " a reboot budgets begin with those of an earlier minute (fix: run fewer rules)",
            )
        return data

    def _drop_drafts(self) -> None:
        """A recorder that was killed left its own, and nobody else writes any."""
        for draft in self._target.parent.glob(f".{self._target.name}.*.new"):
            draft.unlink(missing_ok=True)
