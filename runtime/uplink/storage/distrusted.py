"""Clips under way whose bytes cannot be trusted any more, until the catalogue has let go of their rows.

After a write or an fsync that failed, a partial is thrown away and nothing of it is synced, finished or acknowledged
again: the kernel may take a later fsync of the same file for a success. Its row is dropped at once; while the catalogue
does not answer either, the row is remembered here and counts for nothing. A process that dies before it could drop it
forgets that, and may: the row names only ranges whose own fdatasync had succeeded.
"""

from __future__ import annotations

import threading

from runtime.uplink.catalogue import Catalogue, PartialRow


class Distrusted:
    """Shared by the receiver's loop and the workers that finish clips; bounded by what is under way."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._rows: dict[int, PartialRow] = {}

    def __contains__(self, ident: int) -> bool:
        return ident in self._rows

    def drop(self, row: PartialRow, wall_ns: int) -> None:
        """Drop this partial's row, now or as soon as the catalogue answers. Raises CatalogueError when not now."""
        with self._lock:
            self._rows[row.id] = row
        self._drop(row, wall_ns)

    def drop_waiting(self, wall_ns: int) -> None:
        """Drop every row that could not be dropped before. Raises CatalogueError when one still cannot be."""
        with self._lock:
            rows = list(self._rows.values())
        for row in rows:
            self._drop(row, wall_ns)

    def _drop(self, row: PartialRow, wall_ns: int) -> None:
        self._catalogue.drop_partial(row, wall_ns)
        with self._lock:
            self._rows.pop(row.id, None)
