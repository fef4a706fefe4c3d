"""A day of ticks through windows of every kind: what is kept is bounded by the windows, and nothing else grows."""

from __future__ import annotations

import gc
import sys

import pytest
from rule_ticks import SECOND, Signals, make_track

from runtime.messages import CameraView, ControllerObject, SignalSample
from triggers.evaluation.program import Program
from triggers.evaluation.windows import MAX_ENTRIES
from triggers.language.checking import check
from triggers.language.scope import Scope
from triggers.language.types import Type

SCALAR = ["min_within", "max_within", "mean_within", "std_within", "delta", "lag", "rate"]
TEXTS = [
    *(f"{name}(heads.x, 600) > 1" for name in SCALAR),
    "flips(heads.x, 600) + count_within(heads.b, 600) > 3",
    "rising(heads.b and heads.x > 2) or since_s(heads.b) > 3",
    "any_within(heads.b, 600) or all_within(heads.b, 600)",
    'added(heads.list) != ""',
    *(f"any_track({name}(distance_m, 60) > 1)" for name in SCALAR),
    "any_track(flips(class_name, 60) + count_within(visible, 60) > 3 or rising(visible))",
    "any_track(displacement_px(60) > 3 or box_jitter(60) > 1 or class_flips(60) + presence_flips(60) > 1)",
    "any_object(class_flips(60) > 1 or std_within(distance_m, 60) > 3)",
    "any_camera(state_flips(60) > 1 or luma < lag(luma, 60))",
]
HOURS = 24
STEP_S = 5
NUMPY_KEEPS = 2000  # small blocks that NumPy keeps to use again; one block a tick would be eight times as many
TICKS_PER_HOUR = 3600 // STEP_S


@pytest.mark.slow
def test_a_day_of_ticks_keeps_no_more_than_its_first_hours() -> None:
    program = Program([check(text, Scope(), Type.BOOLEAN) for text in TEXTS], 0, {})
    entries, blocks = [], []
    for hour in range(HOURS):
        for tick in range(hour * TICKS_PER_HOUR, (hour + 1) * TICKS_PER_HOUR):
            run(program, tick)
        gc.collect()
        entries.append(program.retained_entries)
        blocks.append(sys.getallocatedblocks())
    assert max(entries) <= (len(SCALAR) + 2) * (MAX_ENTRIES + 3)
    assert max(entries[2:]) <= max(entries[:2]) + 10
    assert blocks[-1] <= blocks[2] + NUMPY_KEEPS, blocks
    assert not any(program.refused.values())


def run(program: Program, tick: int) -> None:
    time_ns = tick * STEP_S * SECOND
    values = {"heads.x": float(tick * 37 % 101), "heads.b": tick % 5 < 3, "heads.list": f"a,{'bcd'[tick % 3]}"}
    samples = [SignalSample("heads.b", time_ns - SECOND, tick % 5 >= 3), SignalSample("heads.b", time_ns, tick % 5 < 3)]
    tracks = [
        make_track(
            tick // 40 + number, time_ns, visible=(tick + number) % 7 > 0, distance_m=float(tick * 13 % 50),
            class_name="car" if tick % 11 else "truck", box_px=(tick % 90, 0.0, tick % 90 + 20.0, 30.0),
        )
        for number in range(4)
    ]  # fmt: skip
    objects = [ControllerObject(tick // 100 + number, "car", distance_m=float(tick % 50)) for number in range(3)]
    cameras = [CameraView(name, "ok" if tick % 9 else "frozen", False, luma=float(tick % 200)) for name in ("a", "b")]
    program.run(tracks, Signals(values, samples), time_ns, objects, cameras)
