"""Who makes room for whom: the eviction order of a full spool, as a pure function.

Order: files of delivered clips, files set aside to be looked at, partial clips nobody finished, expired clips, then
pending clips; partial and pending ones lowest priority first and oldest first within one priority. A clip never evicts
a higher priority unless that has expired: not half a clip of it either, which may still be rescued. One of the same
priority gives way to a newer one. Within the highest priority it does so only for a newcomer that has shrunk as far as
it can (`shape`): before that the newcomer is refused and told what would fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

HIGHEST_RANK = 0


class Kind(IntEnum):
    """What a file in the spool is, in eviction order."""

    DELIVERED = 0
    EVIDENCE = 1
    PARTIAL = 2
    EXPIRED = 3
    PENDING = 4


#: What goes by its priority.
_RANKED = (Kind.PARTIAL, Kind.PENDING)


@dataclass(frozen=True, slots=True)
class Resident:
    """One file that occupies the spool. `key` is n, or the draft's id for evidence and partial clips."""

    kind: Kind
    key: int
    rank: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who asks for room: its rank, and whether it is already as small as it can be."""

    rank: int
    is_smallest: bool = False
    takes_any_partial: bool = False  # the quota itself asks: half a clip may be what broke it

    def may_replace(self, resident: Resident) -> bool:
        """True when `resident` may go for this newcomer."""
        if resident.kind not in _RANKED or resident.rank > self.rank:
            return True
        if resident.kind is Kind.PARTIAL and self.takes_any_partial:
            return True
        return resident.rank == self.rank and (self.rank != HIGHEST_RANK or self.is_smallest)


def evictable(residents: Iterable[Resident], newcomer: Newcomer) -> list[Resident]:
    """What may give way to `newcomer`, first victim first."""

    def order(resident: Resident) -> tuple[int, int, int]:
        return resident.kind, -resident.rank if resident.kind in _RANKED else 0, resident.key

    return sorted(filter(newcomer.may_replace, residents), key=order)


def choose_victims(
    residents: Iterable[Resident], shortfall_bytes: int, newcomer: Newcomer
) -> Sequence[Resident] | None:
    """The fewest leading victims that free `shortfall_bytes`, or None when all together do not."""
    victims: list[Resident] = []
    freed_bytes = 0
    for resident in evictable(residents, newcomer):
        if freed_bytes >= shortfall_bytes:
            break
        victims.append(resident)
        freed_bytes += resident.size_bytes
    return victims if freed_bytes >= shortfall_bytes else None
