"""Firings against what really happened: which planted or recorded events were hit, missed, or fired at falsely.

A truth event carries the name of the rule that must find it. A firing of that rule inside the event's window is a
hit; further firings inside the same window are the same hit again. A rule is graded only where the truth speaks of
it: its name occurs among the events, or it is in `ALWAYS_GRADED`, because a truth file that lists no takeover says
that there was none. Firings of other rules (random baseline, say) are neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runtime.drives import TruthEvent
from runtime.messages import NANOSECONDS_PER_SECOND

#: Rules whose absence from the truth means "never happened".
ALWAYS_GRADED = frozenset({"driver_takeover"})
#: Seconds before the event's start and after its end within which a firing is a hit.
EXACT_RULES = {"driver_takeover": (0.5, 0.5)}
DEFAULT_WINDOW_S = (0.5, 1.5)


@dataclass(slots=True)
class RuleGrade:
    """Counts for one rule. `false` counts firings, the others count events."""

    hit: int = 0
    missed: int = 0
    false: int = 0


@dataclass(slots=True)
class Grades:
    """Counts by rule, and what was missed or fired falsely, for people."""

    by_rule: dict[str, RuleGrade] = field(default_factory=dict)
    missed_events: list[TruthEvent] = field(default_factory=list)
    false_firings: list[tuple[str, int]] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """`{"hit", "missed", "false"}` over all graded rules."""
        grades = self.by_rule.values()
        return {
            "hit": sum(grade.hit for grade in grades),
            "missed": sum(grade.missed for grade in grades),
            "false": sum(grade.false for grade in grades),
        }


def grade(events: Sequence[TruthEvent], firings: Iterable[tuple[str, int]], rules: Iterable[str]) -> Grades:
    """Grade `firings` (rule, time in drive nanoseconds) of the loaded `rules` against `events`."""
    graded = set(rules) & ({event.event for event in events} | ALWAYS_GRADED)
    grades = Grades({rule: RuleGrade() for rule in sorted(graded)})
    times = [(rule, time_ns) for rule, time_ns in firings if rule in graded]
    explained: set[tuple[str, int]] = set()
    for event in (event for event in events if event.event in graded):
        within = {(rule, time_ns) for rule, time_ns in times if rule == event.event and _inside(event, time_ns)}
        explained |= within
        if within:
            grades.by_rule[event.event].hit += 1
        else:
            grades.by_rule[event.event].missed += 1
            grades.missed_events.append(event)
    for rule, time_ns in times:
        if (rule, time_ns) not in explained:
            grades.by_rule[rule].false += 1
            grades.false_firings.append((rule, time_ns))
    return grades


def _inside(event: TruthEvent, time_ns: int) -> bool:
    before_s, after_s = EXACT_RULES.get(event.event, DEFAULT_WINDOW_S)
    end_ns = event.until_ns if event.until_ns is not None else event.time_ns
    return event.time_ns - before_s * NANOSECONDS_PER_SECOND <= time_ns <= end_ns + after_s * NANOSECONDS_PER_SECOND
