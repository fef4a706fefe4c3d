"""A second candidate network, shadowed beside the first on the same framesets (A/B).

It sees the frameset that the first sees: the same prepared images where both networks take images alike, else a batch
ring of its own that the camera threads prepare beside the first one. It has tracks of its own, is compared with the
controller and with the first candidate (`runtime.shadow.candidates`), and everything else of a tick happens once.

The first candidate's latency is what the vehicle promised, so the second is the one that gives way. At the start, both
are measured: where they do not fit into `BUDGET_SHARE` of a period the second is refused, with figures, and the
vehicle goes on with the first alone. Live, a tick that is so late that the second would not end within that share of
its period goes without it, and is counted (`skipped`); rules then find `shadow_b.*`, `diff_b.*` and `ab.*` unknown. A
replay skips nothing: it has no deadline, and must not depend on the machine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from runtime.camera_views import Sight
from runtime.capture.assembler import Assembler
from runtime.inference.ground import EgoMotion
from runtime.inference.network import Network
from runtime.inference.padding import padding_frameset
from runtime.inference.tracking import Tracker
from runtime.messages import (
    NANOSECONDS_PER_MILLISECOND,
    Comparison,
    Frameset,
    Prediction,
    SecondLook,
    SignalReader,
    Track,
)
from runtime.shadow.candidates import CandidateComparator, second_names
from runtime.shadow.comparison import Comparator, driven_curvature_1pm, number

#: Of a period, for the whole tick: what is left is for history, collecting garbage, and a late beat.
BUDGET_SHARE = 0.85
#: Tracking, comparison and rules beside the networks, when judging at the start whether both fit.
BESIDE_NETWORKS = 1.15
MEASURED_RUNS = 9
#: Of so many ticks the longest is taken for how long the next will be.
REMEMBERED_TICKS = 16


@dataclass(slots=True)
class SecondCandidate:
    """The second candidate at work. Belongs to the tick's thread; `images` is its own batch ring, if it needs one."""

    network: Network
    tracker: Tracker
    period_ns: int
    images: Assembler | None = None
    runs: int = 0
    skipped: int = 0
    stopwatch: Callable[[], int] = time.perf_counter_ns
    _comparator: Comparator = field(default_factory=Comparator)
    _candidates: CandidateComparator | None = None
    _of_classes: tuple[str, ...] = ()
    _recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED_TICKS))

    def look(
        self,
        sight: Sight | None,
        first: Prediction | None,
        comparison: Comparison,
        signals: SignalReader,
        spent_ns: int | None,
    ) -> SecondLook | None:
        """What it says on this tick, after the first said `first`; `spent_ns` is the tick's age, None in a replay."""
        own = self._sight(sight)
        if own is None or own.frameset.is_empty or first is None:
            return None
        began_ns = self.stopwatch()
        if spent_ns is not None and spent_ns + max(self._recent_ns, default=0) > BUDGET_SHARE * self.period_ns:
            self._skip(own, signals)
            return None
        look = self._look(own, first, comparison, signals)
        self._recent_ns.append(self.stopwatch() - began_ns)
        self.runs += 1
        return look

    def _sight(self, sight: Sight | None) -> Sight | None:
        """The first's sight with the images that this network takes; its ring is emptied on every tick."""
        if sight is None or self.images is None:
            return sight
        frameset = self.images.take(sight.frameset.sequence)
        fresh = sight.fresh & frameset.present
        return replace(sight, frameset=frameset, fresh=fresh, geometries=self.images.geometries)

    def _skip(self, sight: Sight, signals: SignalReader) -> None:
        """Nothing was looked at: its tracks move on without being seen."""
        self.skipped += 1
        if self._recent_ns:
            self._recent_ns.popleft()  # one long tick must not keep it out for ever
        self._follow(None, sight, signals)

    def _follow(self, prediction: Prediction | None, sight: Sight, signals: SignalReader) -> list[Track]:
        ego = EgoMotion(number(signals, "vehicle.speed_mps"), driven_curvature_1pm(signals))
        return self.tracker.update(prediction, sight.fresh, sight.frameset.time_ns, ego, sight.geometries)

    def _look(self, sight: Sight, first: Prediction, comparison: Comparison, signals: SignalReader) -> SecondLook:
        prediction = self.network.predict(sight.frameset, sight.geometries, signals)
        tracks = self._follow(prediction, sight, signals)
        mine = self._comparator.compare(tracks, prediction, signals, comparison.time_ns)
        if self._candidates is None or self._of_classes != first.class_names:  # a campaign may exchange the first
            self._candidates = CandidateComparator(first.class_names, prediction.class_names)
            self._of_classes = first.class_names
        between = self._candidates.compare(first, prediction, comparison, mine, number(signals, "vehicle.speed_mps"))
        return SecondLook(prediction, tracks, replace(mine, values={**second_names(mine.values), **between}))


def why_it_does_not_fit(first: Network, second: Network, period_ns: int) -> str:
    """Measure both networks on padding; why the second cannot run beside the first, or nothing when it can."""
    one_ms, other_ms = run_ms(first), run_ms(second)
    allowed_ms = BUDGET_SHARE * period_ns / NANOSECONDS_PER_MILLISECOND
    if BESIDE_NETWORKS * (one_ms + other_ms) <= allowed_ms:
        return ""
    return (
        f"{first.description.name} takes {one_ms:.1f} ms and {second.description.name} {other_ms:.1f} ms on this "
        f"machine, too much for {allowed_ms:.1f} ms of a period (fix: lower tick.rate_hz, or a faster second_model)"
    )


def run_ms(network: Network) -> float:
    """The shortest of some bare runs, in milliseconds: a machine that starts is busy, and late ticks skip anyway."""
    frameset = padding(network)
    spent = []
    for _ in range(MEASURED_RUNS):
        began_ns = time.perf_counter_ns()
        network.run_bare(frameset, None)
        spent.append((time.perf_counter_ns() - began_ns) / NANOSECONDS_PER_MILLISECOND)
    network.reset()  # padding is nothing to remember
    return min(spent)


def padding(network: Network) -> Frameset:
    """A frameset for `network` in which every camera shows nothing but padding."""
    return padding_frameset(network.cameras, network.image_spec, present=True)
