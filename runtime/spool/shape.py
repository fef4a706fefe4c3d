"""What a clip holds, and how it shrinks when only clips of the highest priority are left: fewer cameras, then shorter.

Bytes are taken as proportional to cameras and to seconds. That is an estimate; the reservation is what binds, and a
clip that outgrows it is told to shrink further. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Shorter than this a clip explains nothing.
SHORTEST_S = 5.0


@dataclass(frozen=True, slots=True)
class ClipShape:
    """Cameras, the most wanted first, and the length of a clip. No cameras: signals only."""

    cameras: tuple[str, ...]
    seconds: float

    @property
    def is_smallest(self) -> bool:
        """True when there is nothing left to give up."""
        return len(self.cameras) <= 1 and self.seconds <= SHORTEST_S

    @property
    def smallest(self) -> ClipShape:
        """One camera and SHORTEST_S, or what there is if that is less."""
        return ClipShape(self.cameras[:1], min(self.seconds, SHORTEST_S))

    def shrunk(self, share: float) -> ClipShape:
        """The largest smaller shape of about `share` (0 to 1) of these bytes; `smallest` at the least."""
        count = max(1, len(self.cameras))
        kept = min(int(count * share), count - 1)
        if kept >= 1:
            return ClipShape(self.cameras[:kept], self.seconds)
        seconds = self.seconds * min(1.0, count * share)
        return ClipShape(self.cameras[:1], max(seconds, self.smallest.seconds))
