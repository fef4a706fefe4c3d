"""The past-time operators give the verdicts that independent monitors of temporal logic give."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

pytest.importorskip("rtamt", reason="rtamt is not installed: pip install 'shadowrig[bench]'")
pytest.importorskip("reelay", reason="reelay is not installed: pip install 'shadowrig[bench]'")

from temporal_logic_monitors import Formula, Trace, disagreements, formulas, shadowrig_monitor, traces


@given(formulas(longest_steps=8), traces(length=60))
@settings(max_examples=300, deadline=None)
def test_verdicts_are_those_of_rtamt_and_reelay(formula: Formula, trace: Trace) -> None:
    found, _ = disagreements(formula, trace)
    assert not found


def test_a_wrong_verdict_would_be_seen() -> None:
    once, longer = (Formula("once", (Formula("atom", name="x"),), steps=steps) for steps in (2, 3))
    trace = [(1.0, 0.0)] + [(0.0, 0.0)] * 6
    assert shadowrig_monitor([once])(trace) != shadowrig_monitor([longer])(trace)
    assert disagreements(once, trace) == ([], 7)
