"""Firings whose clip is not sealed yet, and what was reserved for each. Bounded: the oldest is let go, as if sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

#: Enough for an hour of a firing every second; one that is let go stays charged with its estimate.
MAX_RESERVATIONS = 4096


class Reservation(NamedTuple):
    """One firing."""

    sequence: int
    time_ns: int
    rule: str
    rule_version: str
    campaign: str
    size_bytes: int


def reservation_from(saved: Sequence[Any], shift_ns: int) -> Reservation:
    """One as JSON has it, with its time moved. TypeError or ValueError when it is something else."""
    sequence, time_ns, rule, rule_version, campaign, size_bytes = saved
    names = (str(rule), str(rule_version), str(campaign))
    return Reservation(int(sequence), int(time_ns) + shift_ns, *names, int(size_bytes))


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

    def __len__(self) -> int:
        return len(self._by_sequence)
