"""Keeps the best events of a day by score, online, in a budget of bytes: accept or refuse once, and never go back.

The problem. Events come one by one, each with a score and about the same size (a rule's clips have one window); k clips
fit into what is left of the day. Choosing the k best of n independent scores online is the multiple-choice secretary
problem (Kleinberg 2005: 1 - O(1/sqrt(k)) of the optimum in random order, knowing nothing but n).

The policy. Certainty equivalence with re-solving: pretend that what is left of the day will be as expected, and solve
that again for every event. With k clips left and n events expected, this one included, accept iff the share of known
scores above it is at most k / n (among equal scores, a lot decides). Where the distribution is known, policies of this
kind lose an expected value that does not grow with n when scores take finitely many values (Arlotto & Gurvich 2019,
Stochastic Systems 9(3), their Budget-Ratio policy; Vera & Banerjee 2021, Management Science 67(3), "The Bayesian
Prophet"), and one of order log n when they have a bounded density; a threshold that is never solved again loses of
order sqrt(n). Here distribution and n are learnt, so that these bounds hold only as far as tomorrow is like today: what
is lost in practice is measured below.

What is learnt. The distribution: the newest MAX_SCORES scores. The arrivals: for each of PARTS parts of the day, a mean
over past days (the newest weighs NEWEST_DAY); what is to come today is that mean, in proportion to what came so far.

Cold start. On the first day the rate so far is taken to go on, as if over at least MIN_ELAPSED_PARTS; while few scores
are known an event counts half against itself, (above + 0.5) / (known + 1), so that few are taken on trust. A car that
is parked after one drive therefore keeps too little on its first day; from the second day on its hours are known.

Unknown scores rank below every known one: they are kept only when room is expected to be left over.

A day is 24 hours, one after the other from the first event on. The budget holds for each such day, and not for every
24 hours as that of other rules: a ranking needs an end that it saves for. Sizes are estimates until clips are sealed;
what differs is corrected in what is left.

Measured: kept scores over those of the offline optimum, which sees each day beforehand
(tests/benchmarks/ranked_budget_regret.py; 20 runs of 6 days; about 800 log-normal scores a day, room for 40):

    arrivals                     first day   later days   first come   random
    Poisson                         0.96        0.98         0.19       0.19
    two drives of half an hour      0.44        0.90         0.19       0.19
    bursts of 20 alike              0.79        0.82         0.19       0.21
    diurnal, 10:1                   0.89        0.98         0.20       0.20
    scores drift by 9:1 in 2 days   0.79        0.81         0.18       0.18
    ever better (adversarial)       0.02        0.15         0.02       0.19
    ever worse (adversarial)        0.01        0.58         1.00       0.19

Poisson days reach 0.99 with 3,200 events and room for 160, and 0.94 with 200 and 10. No online policy can do well when
every event is better than all before it: what is kept early is regretted.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping
from typing import Any

from triggers.selection.budgets import DAY_NS, DailyBytes, fits

#: The newest scores, which stand for those to come.
MAX_SCORES = 512
#: Parts of a day, each with arrivals of its own.
PARTS = 96
PART_NS = DAY_NS // PARTS
#: Share of the newest day in the expected arrivals of each part of a day.
NEWEST_DAY = 0.3
#: What earlier days weigh against today's arrivals so far: this share of a usual day, and at least that many arrivals.
PROFILE_TRUST = 0.5
MIN_TRUSTED_ARRIVALS = 8.0
#: The rate of a first day is not believed before this many parts of it are over.
MIN_ELAPSED_PARTS = 1.0
#: Sorts below every known score.
UNKNOWN = -math.inf


class DaySpending:
    """Bytes of the running day, sealed and reserved; days of 24 hours follow one another from the first event on."""

    __slots__ = ("anchor_ns", "day", "spent_bytes")

    def __init__(self) -> None:
        self.anchor_ns: int | None = None  # where the first day began
        self.day = 0
        self.spent_bytes = 0

    @classmethod
    def after(cls, daily: DailyBytes) -> DaySpending:
        """That of a rule which had no ranking: its day began with the first of the bytes that it spent."""
        spending, hours = cls(), daily.to_list()
        if hours:
            spending.anchor_ns, spending.spent_bytes = hours[0][0], sum(size for _, size in hours)
        return spending

    def advance(self, time_ns: int) -> bool:
        """Go on to the day of `time_ns`; True when it is a new one."""
        if self.anchor_ns is None:
            self.anchor_ns = time_ns
        day = (time_ns - self.anchor_ns) // DAY_NS
        if day <= self.day:
            return False
        self.day, self.spent_bytes = day, 0
        return True

    def correct(self, time_ns: int, change_bytes: int) -> None:
        """What was charged at `time_ns` weighs that much more; an earlier day needs no correction."""
        if self.anchor_ns is not None and (time_ns - self.anchor_ns) // DAY_NS == self.day:
            self.spent_bytes += change_bytes

    def parts_elapsed(self, time_ns: int) -> tuple[int, float]:
        """Whole parts of this day, and the share of the part that runs."""
        part, rest_ns = divmod((time_ns - (self.anchor_ns or 0)) % DAY_NS, PART_NS)
        return part, rest_ns / PART_NS


class ScoreRanking:
    """One rule's ranking. Ask `accepts` about every event, in order; `spending.spent_bytes` grows by what is kept."""

    __slots__ = ("_limit_bytes", "_newest", "_profile", "_sorted", "_today", "spending")

    def __init__(self, limit_bytes: int, spending: DaySpending | None = None) -> None:
        self._limit_bytes = limit_bytes
        self.spending = spending or DaySpending()
        self._newest: deque[float] = deque(maxlen=MAX_SCORES)
        self._sorted: list[float] = []
        self._profile: list[float] = []  # expected arrivals of each part of a day; empty on the first
        self._today = [0] * PARTS

    # Decisions

    def accepts(self, time_ns: int, score: float | None, size_bytes: int, lot: float) -> bool:
        """Whether an event with this score is worth `size_bytes` of what is left. The event counts as seen.

        `lot`, a random number in [0, 1) that is the event's own, decides among equal scores.
        A size of 0 is unknown: then everything is worth it, as long as anything is left.
        """
        self._advance(time_ns)
        value = UNKNOWN if score is None else score
        share_above = self._share_above(value, lot)
        self._see(time_ns, value)
        left_clips = (self._limit_bytes - self.spending.spent_bytes) // max(size_bytes, 1)
        expected = self._expected_after(time_ns)
        return share_above <= left_clips / (expected + 1.0)

    def has_room(self, time_ns: int, size_bytes: int) -> bool:
        """Whether a clip of this size fits into what is left of the day."""
        self._advance(time_ns)
        return fits(self.spending.spent_bytes, size_bytes, self._limit_bytes)

    def _share_above(self, value: float, lot: float) -> float:
        """The share of the known scores above this one, which takes its place among the equal ones by lot."""
        below, through = bisect_left(self._sorted, value), bisect_right(self._sorted, value)
        equal, count = through - below, len(self._sorted)
        return (count - through + (lot * (equal + 1) if equal else 0.5)) / (count + 1)

    # What is known of arrivals

    def _advance(self, time_ns: int) -> None:
        """Learn from a day that is over; one without any arrival teaches nothing."""
        if not self.spending.advance(time_ns):
            return
        if any(self._today):
            pairs = zip(self._profile or self._today, self._today, strict=True)
            self._profile = [(1 - NEWEST_DAY) * known + NEWEST_DAY * count for known, count in pairs]
        self._today = [0] * PARTS

    def _see(self, time_ns: int, value: float) -> None:
        self._today[self.spending.parts_elapsed(time_ns)[0]] += 1
        if len(self._newest) == MAX_SCORES:
            del self._sorted[bisect_left(self._sorted, self._newest[0])]
        self._newest.append(value)
        insort(self._sorted, value)

    def _expected_after(self, time_ns: int) -> float:
        """Arrivals to come until the day is over: the usual ones of its parts, in proportion to today's so far."""
        part, share = self.spending.parts_elapsed(time_ns)
        seen = sum(self._today)
        if not self._profile:
            elapsed = part + share
            return seen / max(elapsed, MIN_ELAPSED_PARTS) * (PARTS - elapsed)
        before = sum(self._profile[:part]) + share * self._profile[part]
        after = sum(self._profile[part:]) - share * self._profile[part]
        trust = max(PROFILE_TRUST * sum(self._profile), MIN_TRUSTED_ARRIVALS)
        return after * (seen + trust) / (before + trust)

    # Across restarts

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready; an unknown score is null."""
        return {
            "anchor_ns": self.spending.anchor_ns,
            "day": self.spending.day,
            "spent_bytes": self.spending.spent_bytes,
            "scores": [None if score == UNKNOWN else score for score in self._newest],
            "profile": list(self._profile),
            "today": list(self._today),
        }

    def load(self, saved: Mapping[str, Any], is_same_rule: bool) -> None:
        """Take over what `to_dict` gave; of another definition of the rule, only what was spent.

        KeyError, TypeError or ValueError when it is something else.
        """
        profile, today = [float(count) for count in saved["profile"]], [int(count) for count in saved["today"]]
        if len(profile) not in (0, PARTS) or len(today) != PARTS:
            raise ValueError(f"a day has {PARTS} parts")
        scores = [UNKNOWN if score is None else float(score) for score in saved["scores"]]
        if not all(map(math.isfinite, (*profile, *(score for score in scores if score != UNKNOWN)))):
            raise ValueError("a score or a part of a day is not finite")
        spending = self.spending
        spending.anchor_ns = None if saved["anchor_ns"] is None else int(saved["anchor_ns"])
        spending.day, spending.spent_bytes = int(saved["day"]), int(saved["spent_bytes"])
        if is_same_rule:
            self._newest = deque(scores, maxlen=MAX_SCORES)
            self._sorted = sorted(self._newest)
            self._profile, self._today = profile, today
