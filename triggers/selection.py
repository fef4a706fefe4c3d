"""Which events are kept: sampling with a known probability, then budgets. What is not kept is counted by reason.

Sampling comes first and follows from the seed, the rule's name and the time alone: whether an event is kept does not
depend on other rules or on what was kept before, so that kept events / probability estimates all events. Firings an
hour count over the last hour; bytes a day over the last 24 hours in steps of one hour, from the sizes of clips that
were reported by `account`.
"""

from __future__ import annotations

from collections import Counter, deque

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.evaluation.chance import uniform
from triggers.rules.rule import Rule

HOUR_NS = 3600 * NANOSECONDS_PER_SECOND
DAY_NS = 24 * HOUR_NS

COOLDOWN, SAMPLE, BUDGET = "cooldown", "sample", "budget"


class RuleSelection:
    """Chooses among one rule's events."""

    __slots__ = ("_hourly_bytes", "_kept_ns", "_rule", "_seed", "kept", "last_kept_ns", "suppressed")

    def __init__(self, rule: Rule, seed: int) -> None:
        self._rule = rule
        self._seed = seed
        self._kept_ns: deque[int] = deque(maxlen=rule.budget.firings_per_hour or 0)
        self._hourly_bytes: deque[tuple[int, int]] = deque(maxlen=25)  # (start of the hour, bytes)
        self.kept = 0
        self.last_kept_ns: int | None = None
        self.suppressed: Counter[str] = Counter()

    def keep(self, time_ns: int) -> bool:
        """Decide about an event at `time_ns`, and remember it."""
        reason = self._refusal(time_ns)
        if reason is not None:
            self.suppressed[reason] += 1
            return False
        self._kept_ns.append(time_ns)
        self.kept += 1
        self.last_kept_ns = time_ns
        return True

    def _refusal(self, time_ns: int) -> str | None:
        rule, budget = self._rule, self._rule.budget
        if rule.sample < 1.0 and uniform(self._seed, SAMPLE, rule.name, time_ns) >= rule.sample:
            return SAMPLE
        limit = budget.firings_per_hour
        if limit is not None and len(self._kept_ns) == limit and self._kept_ns[0] > time_ns - HOUR_NS:
            return BUDGET
        if budget.bytes_per_day is not None and self.bytes_of_day(time_ns) >= budget.bytes_per_day:
            return BUDGET
        return None

    def account(self, time_ns: int, size_bytes: int) -> None:
        """A clip of this rule was sealed at `time_ns` and has `size_bytes`."""
        hour_ns = time_ns - time_ns % HOUR_NS
        if self._hourly_bytes and self._hourly_bytes[-1][0] == hour_ns:
            size_bytes += self._hourly_bytes.pop()[1]
        self._hourly_bytes.append((hour_ns, size_bytes))

    def bytes_of_day(self, time_ns: int) -> int:
        """Bytes of this rule's clips over the last 24 hours."""
        return sum(size for hour_ns, size in self._hourly_bytes if hour_ns + HOUR_NS > time_ns - DAY_NS)
