"""`heads.novelty`: how far a scene is from everything that this run has seen.

Each row of the embedding (each camera) has a memory of at most `members` unit vectors, kept by the doubling algorithm
for incremental clustering (Charikar, Chekuri, Feder, Motwani, "Incremental clustering and dynamic information
retrieval", STOC 1997): a vector joins when it is farther than the radius r from every member; when the memory is full,
r doubles and members closer than r to an earlier one leave, until there is room. So every vector ever taken in lies
within 2r of a member, and members lie at least r apart, whatever the drive was and however long. r is a length of
chord on the unit sphere, where the triangle inequality holds; cosine distance is chord² / 2.

The novelty of a tick is the cosine distance (0..2) of its most novel camera to that camera's nearest member, taken
before the vector joins. In its first `settle_s` after a camera's first image everything would be new: unknown until
then, camera by camera. Nothing here is random and time is an argument, so a replay finds the same.

Cost: one stacked product a tick. Doubling compares all members of a row once; at most one row doubles on a tick (others
wait with joining), and a row can double at most `log2(2 / first_radius)` times in a run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.messages import NANOSECONDS_PER_SECOND

_EMPTY = np.float32(-np.inf)
_NEVER = -1


@dataclass(frozen=True, slots=True)
class NoveltySettings:
    """How much is remembered and from when novelty is told."""

    members: int = 256
    first_radius: float = 0.05  # chord; a cosine distance of 0.00125
    settle_s: float = 20.0

    def __post_init__(self) -> None:
        if not 2 <= self.members <= 4096 or not 0.0 < self.first_radius < 2.0 or self.settle_s < 0.0:
            raise ValueError(f"members 2 to 4096, first_radius above 0 and below 2, settle_s >= 0: got {self}")


class NoveltyMemory:
    """What one run has seen, row by row."""

    def __init__(self, rows: int, dimension: int, settings: NoveltySettings | None = None) -> None:
        self.settings = settings or NoveltySettings()
        self._members = np.zeros((rows, self.settings.members, dimension), np.float32)
        self._similarity = np.zeros((rows, self.settings.members, 1), np.float32)
        #: 0 where a member is, minus infinity where there is none yet.
        self._absence = np.full((rows, self.settings.members), _EMPTY)
        self._radius = np.full(rows, self.settings.first_radius)
        self._first_ns = np.full(rows, _NEVER, np.int64)
        self.counts = [0] * rows

    def observe(self, vectors: NDArray[np.float32], counts: NDArray[np.bool_], time_ns: int) -> float | None:
        """Novelty of this tick's unit vectors `[rows, D]`, of which `counts` says which to look at; then learn them."""
        np.matmul(self._members, vectors[:, :, None], out=self._similarity)
        nearest = (self._similarity[:, :, 0] + self._absence).max(axis=1)
        distance = np.clip(1.0 - nearest, 0.0, None)
        settled = counts & (self._first_ns != _NEVER)
        settled &= time_ns - self._first_ns >= self.settings.settle_s * NANOSECONDS_PER_SECOND
        novelty = float(min(distance[settled].max(), 2.0)) if settled.any() else None
        self._first_ns[counts & (self._first_ns == _NEVER)] = time_ns
        self._learn(vectors, np.flatnonzero(counts & (distance > _cosine(self._radius))).tolist())
        return novelty

    def _learn(self, vectors: NDArray[np.float32], rows: list[int]) -> None:
        has_doubled = False
        for row in rows:
            if self.counts[row] == self.settings.members:
                if not has_doubled:
                    self._double(row)
                    has_doubled = True
                continue  # the wider radius may cover it now; if not, the next tick that is like it brings it in
            self._members[row, self.counts[row]] = vectors[row]
            self._absence[row, self.counts[row]] = 0.0
            self.counts[row] += 1

    def _double(self, row: int) -> None:
        """Double the radius of one row until a member can leave. Ends: at 2 one member covers the whole sphere."""
        members = self._members[row]
        # Vector by vector: a product of whole matrices would wake BLAS's threads, which wait for each other spinning.
        distance = 1.0 - np.matmul(members[None], members[:, :, None])[:, :, 0]
        np.fill_diagonal(distance, np.inf)
        closest = float(distance.min())
        self._radius[row] *= 2.0
        while _cosine(self._radius[row : row + 1])[0] < closest:
            self._radius[row] *= 2.0
        kept = _apart(distance, float(_cosine(self._radius[row : row + 1])[0]))
        members[: len(kept)] = members[kept]
        members[len(kept) :] = 0.0
        self._absence[row, len(kept) :] = _EMPTY
        self.counts[row] = len(kept)


def _apart(distance: NDArray[np.float32], threshold: float) -> list[int]:
    """Members in the order in which they came, without those that an earlier one covers."""
    covered = np.zeros(distance.shape[0], np.bool_)
    kept = []
    for member in range(distance.shape[0]):
        if not covered[member]:
            kept.append(member)
            covered |= distance[member] <= threshold
    return kept


def _cosine(chord: NDArray[np.float64]) -> NDArray[np.float64]:
    return chord * chord / 2.0
