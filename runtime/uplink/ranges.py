"""Sets of bytes of one file as half-open ranges `[start, end)`: sorted, disjoint, never touching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class RangeSet:
    """Bytes that are held. Adding and subtracting keep the ranges normal."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add `[start, end)`; an empty or negative range is the caller's mistake."""
        if not 0 <= start < end:
            raise ValueError(f"range [{start}, {end}) is empty or negative")
        kept = [(a, b) for a, b in self._ranges if b < start or a > end]
        merged = [(a, b) for a, b in self._ranges if not (b < start or a > end)]
        low = min([start, *(a for a, _ in merged)])
        high = max([end, *(b for _, b in merged)])
        self._ranges = sorted([*kept, (low, high)])

    def update(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Add every range."""
        for start, end in ranges:
            self.add(start, end)

    def covers(self, start: int, end: int) -> bool:
        """True when every byte of `[start, end)` is held."""
        return any(a <= start and end <= b for a, b in self._ranges)

    def missing(self, size: int) -> list[tuple[int, int]]:
        """What is not held of `[0, size)`, in order."""
        return self.missing_of(0, size)

    def missing_of(self, start: int, end: int) -> list[tuple[int, int]]:
        """What is not held of `[start, end)`, in order."""
        gaps: list[tuple[int, int]] = []
        position = start
        for low, high in self._ranges:
            if low >= end:
                break
            if low > position:
                gaps.append((position, low))
            position = max(position, high)
        if position < end:
            gaps.append((position, end))
        return gaps

    @property
    def total(self) -> int:
        """How many bytes are held."""
        return sum(end - start for start, end in self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._ranges == other._ranges

    def __repr__(self) -> str:
        return f"RangeSet({self._ranges})"
