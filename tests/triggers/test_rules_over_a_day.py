"""Rules may run for days: what they hold is bounded by their windows, and a day of ticks leaves nothing behind.

Memory is counted in blocks of the interpreter's allocator: exact, and not slowed by tracing.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rule_ticks import SECOND, Signals, make_track

from runtime.messages import SignalSample, Track
from triggers import RuleEngine, load_rules
from triggers.evaluation.windows import MAX_ENTRIES

HOUR_TICKS = 3600  # one tick a second
#: Blocks that may come and go at any moment: interned texts, the allocator's own lists.
SLACK_BLOCKS = 400

CONDITIONS = (
    "any_within(falling(controller.enabled), {s})",
    "count_within(vehicle.brake_pressed, {s}) > 3",
    "flips(controller.state, {s}) > 5",
    "min_within(vehicle.accel_mps2, {s}) < -1.9 and max_within(vehicle.accel_mps2, {s}) > 1.9",
    "mean_within(vehicle.speed_mps, {s}) > 15",
    "abs(delta(vehicle.speed_mps, {s})) > 9 or rate(vehicle.speed_mps, {s}) > 0.5",
    "lag(vehicle.speed_mps, {s}) > 19",
    "all_within(vehicle.speed_mps > 3, {s}) and since_s(vehicle.brake_pressed) > 2",
    "at_random({s})",
)
TRACK_CONDITIONS = (
    "any_track(displacement_px({t}) < 2 and presence_flips({t}) > 3)",
    "count_tracks(box_jitter({t}) > 0.5 or class_flips({t}) > 2) > 0",
)
RULES = st.lists(
    st.tuples(st.sampled_from(CONDITIONS + TRACK_CONDITIONS), st.sampled_from([0.5, 7.0, 60.0, 599.0])),
    min_size=1,
    max_size=5,
    unique=True,
)


def signals_at(second: int) -> Signals:
    wave = (second * 37 % 101) / 101
    values = {
        "controller.enabled": second % 97 > 11,
        "controller.state": "engaged" if second % 53 else "fault",
        "vehicle.brake_pressed": second % 29 == 0,
        "vehicle.speed_mps": 20 * wave,
        "vehicle.accel_mps2": 4 * wave - 2,
    }
    if second % 1013 == 0:
        values.pop("vehicle.speed_mps")  # a moment without a known speed
    return Signals(values, [SignalSample(name, second * SECOND, value) for name, value in values.items()])


def tracks_at(second: int) -> list[Track]:
    """Four tracks, each of which lives for some minutes and is followed by another."""
    return [
        make_track(
            second // (100 + 40 * number) * 10 + number,
            second * SECOND,
            class_name="car" if second % 11 else "truck",
            visible=second % (5 + number) > 0,
            box_px=(100.0 + second % 7, 100.0, 140.0 + second % 7, 130.0),
        )
        for number in range(4)
    ]


def blocks_in_use() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def engine_with(folder: Path, chosen: Sequence[tuple[str, float]]) -> RuleEngine:
    lines = ["rules:"]
    for number, (condition, seconds) in enumerate(chosen):
        text = condition.format(s=seconds, t=min(seconds, 60.0))
        lines += [f"  - name: rule_{number}", "    description: A rule.", f"    when: {json.dumps(text)}"]
        lines += ["    budget: {firings_per_hour: 3}", "    cooldown_s: 5"]
    path = folder / "rules.yaml"
    path.write_text("\n".join(lines))
    return RuleEngine(load_rules([path]), seed=1)


@pytest.mark.sweep
@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(chosen=RULES)
def test_a_day_of_ticks_leaves_nothing_behind(chosen: list[tuple[str, float]], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    engine = engine_with(tmp_path_factory.mktemp("day"), chosen)
    windows = 4 * len(chosen)  # no condition above has more
    blocks: list[int] = []
    for second in range(24 * HOUR_TICKS):
        for firing in engine.evaluate(tracks_at(second), signals_at(second), second * SECOND, second * SECOND):
            engine.settle(firing.sequence, 1_000_000)  # its clip is sealed at once
        if second % HOUR_TICKS == 0:
            assert engine.retained_entries <= windows * (MAX_ENTRIES + 4)
            blocks.append(blocks_in_use())
    settled = blocks[2:]  # the longest windows are full
    assert max(settled) - settled[0] < SLACK_BLOCKS
