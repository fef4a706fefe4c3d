"""Grading of firings against truth."""

from __future__ import annotations

from replay.truth import grade
from runtime.drives import TruthEvent

SECOND = 1_000_000_000


def event(name: str, start_s: float, until_s: float | None = None) -> TruthEvent:
    until_ns = None if until_s is None else int(until_s * SECOND)
    return TruthEvent(time_ns=int(start_s * SECOND), event=name, detail="", until_ns=until_ns)


def test_firing_inside_the_window_is_a_hit_and_a_second_one_is_not_false() -> None:
    grades = grade([event("cut_in_seen", 10, 12)], [("cut_in_seen", 11 * SECOND), ("cut_in_seen", 13 * SECOND)],
                   ["cut_in_seen"])  # fmt: skip
    assert grades.totals() == {"hit": 1, "missed": 0, "false": 0}


def test_takeover_half_a_second_too_late_is_missed_and_false() -> None:
    grades = grade([event("driver_takeover", 10)], [("driver_takeover", int(10.6 * SECOND))], ["driver_takeover"])
    assert grades.totals() == {"hit": 0, "missed": 1, "false": 1}
    assert grades.missed_events[0].time_ns == 10 * SECOND


def test_takeover_is_graded_even_when_the_truth_lists_none() -> None:
    grades = grade([event("engage", 1)], [("driver_takeover", SECOND), ("random_baseline", SECOND)],
                   ["driver_takeover", "random_baseline"])  # fmt: skip
    assert grades.totals() == {"hit": 0, "missed": 0, "false": 1}


def test_events_of_rules_that_are_not_loaded_are_not_held_against_the_run() -> None:
    assert grade([event("detection_flicker", 4)], [], ["driver_takeover"]).totals()["missed"] == 0
