"""What keeps the receiver from its work: told to its operator, and never to a vehicle.

The text of such an error names databases, buckets and paths. Vehicles get the code and a sentence that names nothing.
"""

from __future__ import annotations

import logging

from runtime.messages import NANOSECONDS_PER_SECOND

LOG_PERIOD_NS = 60 * NANOSECONDS_PER_SECOND

log = logging.getLogger("shadowrig")


class Troubles:
    """Counts them, keeps the last one for the status file, logs one a minute. Belongs to the receiver's loop."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""
        self._logged_wall_ns: int | None = None

    def note(self, error: OSError, wall_ns: int) -> None:
        """Something could not be read, stored or written."""
        self.count += 1
        self.last = str(error)
        if self._logged_wall_ns is None or abs(wall_ns - self._logged_wall_ns) >= LOG_PERIOD_NS:
            self._logged_wall_ns = wall_ns
            log.warning("storage trouble (%d so far): %s", self.count, self.last)
