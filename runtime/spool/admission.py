"""Who makes room for whom: the eviction order of a full spool, as a pure function.

Order: files of delivered clips, partial clips nobody finished, then pending clips, lowest priority first and oldest
first within one priority. A clip never evicts a higher priority; one of the same priority gives way to a newer one,
except the highest: nothing evicts a safety clip, the newcomer has to shrink instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

HIGHEST_RANK = 0


class Kind(IntEnum):
    """What a file in the spool is, in eviction order."""

    DELIVERED = 0
    PARTIAL = 1
    PENDING = 2


@dataclass(frozen=True, slots=True)
class Resident:
    """One file that occupies the spool. `key` is n, or the draft's id for a partial clip."""

    kind: Kind
    key: int
    rank: int
    size_bytes: int


def evictable(residents: Iterable[Resident], rank: int) -> list[Resident]:
    """What may give way to a clip of `rank`, first victim first."""

    def may_go(resident: Resident) -> bool:
        if resident.kind is not Kind.PENDING:
            return True
        return resident.rank > rank or resident.rank == rank != HIGHEST_RANK

    return sorted(filter(may_go, residents), key=lambda r: (r.kind, -r.rank if r.kind is Kind.PENDING else 0, r.key))


def choose_victims(residents: Iterable[Resident], shortfall_bytes: int, rank: int) -> Sequence[Resident] | None:
    """The fewest leading victims that free `shortfall_bytes`, or None when all together do not."""
    victims: list[Resident] = []
    freed_bytes = 0
    for resident in evictable(residents, rank):
        if freed_bytes >= shortfall_bytes:
            break
        victims.append(resident)
        freed_bytes += resident.size_bytes
    return victims if freed_bytes >= shortfall_bytes else None
