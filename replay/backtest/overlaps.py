"""How much rules say the same: for each pair, the share of A's firings whose clip window touches one of B's."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate

from replay.backtest.clip_costs import window_ns
from runtime.messages import Firing

Windows = list[tuple[int, int]]


def overlap_shares(drives: Sequence[Sequence[Firing]]) -> dict[str, dict[str, float]]:
    """`{A: {B: share}}` over rules that fired; pairs that never meet are left out. Windows meet within a drive only."""
    totals: Counter[str] = Counter()
    meetings: dict[str, Counter[str]] = defaultdict(Counter)
    for firings in drives:
        windows = _windows(firings)
        for name, own in windows.items():
            totals[name] += len(own)
            for other, others in windows.items():
                if other != name and (count := _touching(own, others)):
                    meetings[name][other] += count
    return {
        name: {other: meetings[name][other] / totals[name] for other in sorted(meetings[name])}
        for name in sorted(totals)
    }


def _windows(firings: Sequence[Firing]) -> Mapping[str, Windows]:
    windows: dict[str, Windows] = defaultdict(list)
    for firing in firings:
        windows[firing.rule].append(window_ns(firing.capture, firing.time_ns))
    return {name: sorted(own) for name, own in windows.items()}


def _touching(own: Windows, others: Windows) -> int:
    """How many of `own` touch any of `others`; both in order of their start."""
    starts = [start for start, _ in others]
    latest_ends = list(accumulate((end for _, end in others), max))
    count = 0
    for start, end in own:
        before = bisect_right(starts, end)  # these start early enough
        count += before > 0 and latest_ends[before - 1] >= start
    return count
