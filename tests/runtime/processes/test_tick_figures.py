"""What the runtime's status says of latency: ticks at the phase that stands, apart from those while it is measured."""

from __future__ import annotations

import numpy as np

from runtime.messages import NANOSECONDS_PER_MILLISECOND, Frameset, TickReport
from runtime.processes.runtime_status import TickFigures


def _report() -> TickReport:
    frameset = Frameset(
        0, 0, ("front",), np.ones(1, np.bool_), np.zeros(1, np.int64), np.zeros(1, np.int64),
        np.zeros((1, 3, 2, 2), np.uint8),
    )  # fmt: skip
    return TickReport(0, 0, frameset, None, None, None, [], {})


def test_latency_is_of_the_phase_that_stands() -> None:
    figures = TickFigures()
    figures.add(_report(), 90 * NANOSECONDS_PER_MILLISECOND, is_measuring=True)
    figures.add(_report(), 40 * NANOSECONDS_PER_MILLISECOND, is_measuring=False)
    assert (figures.latency.count, figures.latency_while_measuring.count) == (1, 1)
    assert figures.latency.max_ns == 40 * NANOSECONDS_PER_MILLISECOND
    assert figures.framesets == 2


def test_a_phase_that_is_measured_again_begins_a_new_count() -> None:
    figures = TickFigures()
    figures.add(_report(), 40 * NANOSECONDS_PER_MILLISECOND, is_measuring=False)
    figures.add(_report(), 90 * NANOSECONDS_PER_MILLISECOND, is_measuring=True)
    assert figures.latency.count == 0
    figures.add(_report(), 50 * NANOSECONDS_PER_MILLISECOND, is_measuring=False)
    assert figures.latency.max_ns == 50 * NANOSECONDS_PER_MILLISECOND
