"""Firings whose clip is not sealed yet, and what was reserved for each. Bounded: the oldest is let go, as if sealed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

#: Enough for an hour of a firing every second; one that is let go stays charged with its estimate.
MAX_RESERVATIONS = 4096


class Reservation(NamedTuple):
    """One firing."""

    sequence: int
    time_ns: int
    rule: str
    campaign: str
    size_bytes: int


class Reservations:
    """By sequence number, oldest first."""

    __slots__ = ("_by_sequence", "forgotten")

    def __init__(self) -> None:
        self._by_sequence: dict[int, Reservation] = {}
        self.forgotten = 0

    def add(self, reservation: Reservation) -> None:
        """A rule fired."""
        if len(self._by_sequence) >= MAX_RESERVATIONS:
            del self._by_sequence[next(iter(self._by_sequence))]
            self.forgotten += 1
        self._by_sequence[reservation.sequence] = reservation

    def take(self, sequence: int, time_ns: int | None) -> Reservation | None:
        """Remove and give the firing; None when it is unknown, answered already, or of another time."""
        found = self._by_sequence.get(sequence)
        if found is None or (time_ns is not None and time_ns != found.time_ns):
            return None
        return self._by_sequence.pop(sequence)

    def to_list(self) -> list[Reservation]:
        """All, oldest first."""
        return list(self._by_sequence.values())

    def load(self, saved: Iterable[Sequence[Any]]) -> None:
        """Take over what `to_list` gave, as JSON has it. TypeError or ValueError when it is something else."""
        for sequence, time_ns, rule, campaign, size_bytes in saved:
            self.add(Reservation(int(sequence), int(time_ns), str(rule), str(campaign), int(size_bytes)))

    def __len__(self) -> int:
        return len(self._by_sequence)
