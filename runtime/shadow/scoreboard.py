"""Running agreement between shadow and controller, bounded in memory: one small record per compared signal."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.messages import Comparison

#: Differences from the controller, of a second candidate too, and of the candidates from each other.
COUNTED = ("diff.", "diff_b.", "ab.")


@dataclass(slots=True)
class Agreement:
    """Count, mean and extreme of one `diff.*` signal."""

    count: int = 0
    sum_absolute: float = 0.0
    largest_absolute: float = 0.0

    def add(self, difference: float) -> None:
        """Take one more difference into account."""
        self.count += 1
        self.sum_absolute += abs(difference)
        self.largest_absolute = max(self.largest_absolute, abs(difference))

    def to_dict(self) -> dict[str, float]:
        """`count`, `mean_absolute` and `largest_absolute`, in the signal's unit."""
        mean = self.sum_absolute / self.count if self.count else 0.0
        return {"count": self.count, "mean_absolute": mean, "largest_absolute": self.largest_absolute}


class Scoreboard:
    """Agreement by signal since the start of the drive."""

    def __init__(self) -> None:
        self._agreements: dict[str, Agreement] = {}

    def add(self, comparison: Comparison) -> None:
        """Count every difference that was known on this tick."""
        for name, value in comparison.values.items():
            if name.startswith(COUNTED):
                self._agreements.setdefault(name, Agreement()).add(value)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """`{"diff.accel_mps2": {"count", "mean_absolute", "largest_absolute"}, ...}`."""
        return {name: agreement.to_dict() for name, agreement in sorted(self._agreements.items())}
