"""What a comparison of two files takes in and gives: instants of outputs, and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Instant:
    """The outputs of one instant, stacked over cameras, and which of the rows hold a camera's image."""

    tensors: Mapping[str, NDArray[np.generic]]
    present: NDArray[np.bool_]  # [rows]

    def rows_of(self, name: str) -> NDArray[np.float64]:
        """A tensor's rows that count: those of present cameras, or all where it has none per camera."""
        value = np.asarray(self.tensors[name])
        return value[self.present] if value.ndim and value.shape[0] == self.present.size else value


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured value over `count` things; None where there was nothing to measure. `detail` is for people.

    Where both files have a value of their own, `fp32` and `candidate` hold them.
    """

    metric: str
    value: float | None
    count: int = 0
    detail: str = ""
    fp32: float | None = None
    candidate: float | None = None


class HeadComparison(Protocol):
    """Collects how alike two files are in one head."""

    def add(self, reference: Instant, candidate: Instant) -> None:
        """Take in one instant."""

    def findings(self) -> list[Finding]:
        """What was measured."""
