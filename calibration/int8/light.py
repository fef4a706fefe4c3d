"""Chooses samples of every light: from each span of a recording one candidate, so that dark and bright are represented.

Time is divided into spans beforehand, which makes samples diverse in time; within a span the choice is free. The
darkest and the brightest candidate of all are taken for their spans; then each other span, in order, takes the
candidate whose brightness is farthest from all that were taken (farthest-point sampling, Gonzalez 1985). Candidates of
unknown brightness (NaN) are taken only where a span has no other. Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def choose_by_light(lumas: Sequence[NDArray[np.float64]]) -> list[int]:
    """For each span, the index of the candidate to take; `lumas[span]` is the brightness of its candidates."""
    chosen: dict[int, int] = {}
    taken: list[float] = []

    def take(span: int, candidate: int) -> None:
        chosen[span] = candidate
        if np.isfinite(lumas[span][candidate]):
            taken.append(float(lumas[span][candidate]))

    for pick in (min, max):
        known = [
            (float(value), span, candidate)
            for span, values in enumerate(lumas)
            for candidate, value in enumerate(values)
            if span not in chosen and np.isfinite(value)
        ]
        if known:
            # Of equally extreme ones the first, whichever end it is.
            extreme = pick(value for value, _, _ in known)
            _, span, candidate = next(entry for entry in known if entry[0] == extreme)
            take(span, candidate)
    for span, values in enumerate(lumas):
        if span not in chosen:
            take(span, _farthest(values, taken))
    return [chosen[span] for span in range(len(lumas))]


def _farthest(values: NDArray[np.float64], taken: Sequence[float]) -> int:
    if not taken or not np.isfinite(values).any():
        return 0
    distance = np.abs(values[:, None] - np.array(taken)[None, :]).min(axis=1)
    return int(np.nanargmax(distance))
