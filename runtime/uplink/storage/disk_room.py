"""Room on the disk of a folder: for what comes now, and for what clips under way have still to bring.

A receiver that has its folder to itself learns of every clip under way from its own loop, so it keeps what they will
bring as a running sum: no offer reads the rows of the whole fleet. The rows are read at the start, and now and then
beside the messages, which forgets clips to which nothing came lately and those that were expired or erased meanwhile.
Where bytes lie in object storage there is no disk to fill, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.limits import StoreLimits

READ_PERIOD_NS = 60 * NANOSECONDS_PER_SECOND


class DiskRoom:
    """Used by one thread, the receiver's loop. Bounded by the catalogue's clips under way."""

    def __init__(self, depot: Depot, catalogue: Catalogue, limits: StoreLimits) -> None:
        self.coming_bytes = 0
        self._depot = depot
        self._catalogue = catalogue
        self._reserve_bytes = limits.disk_reserve_bytes
        self._coming: dict[int, int] = {}  # bytes by the partial's id; those that are complete bring nothing
        self._read_at_wall_ns: int | None = None

    def has_room_now(self, size_bytes: int) -> bool:
        """True when so much can be written without touching the reserve."""
        free = self._depot.free_bytes()
        return free is None or size_bytes + self._reserve_bytes <= free

    def has_room_for_clip(self, size_bytes: int, wall_ns: int) -> bool:
        """True when a new clip has room beside what others have still to bring. Raises CatalogueError."""
        free = self._depot.free_bytes()
        if free is None:
            return True
        if self._read_at_wall_ns is None:
            self.refresh(wall_ns)
        return size_bytes + self._reserve_bytes + self.coming_bytes <= free

    def expect(self, ident: int, missing_bytes: int) -> None:
        """This partial has so much still to bring."""
        if not self._depot.is_exclusive:
            return
        self.coming_bytes += missing_bytes - self._coming.pop(ident, 0)
        if missing_bytes:
            self._coming[ident] = missing_bytes

    def forget(self, ident: int) -> None:
        """This partial brings nothing any more."""
        self.expect(ident, 0)

    def refresh(self, wall_ns: int) -> None:
        """Read the rows again when that is due. Raises CatalogueError."""
        if not self._depot.is_exclusive:
            return
        if self._read_at_wall_ns is not None and 0 <= wall_ns - self._read_at_wall_ns < READ_PERIOD_NS:
            return
        self._become(self._catalogue.missing_bytes(wall_ns))
        self._read_at_wall_ns = wall_ns

    def _become(self, found: Mapping[int, int]) -> None:
        self._coming = {ident: missing_bytes for ident, missing_bytes in found.items() if missing_bytes}
        self.coming_bytes = sum(self._coming.values())
