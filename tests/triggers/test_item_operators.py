"""Operators that follow each item, against the same operators over signals; aggregates against plain Python.

An item's life (from its first tick until it is not listed) must look to every operator as a signal looks to a program
that began with that life.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rule_ticks import MILLISECOND, SECOND, Signals, make_track, program_of

from runtime.messages import CameraView, ControllerObject, Track
from triggers.evaluation.item_columns import make_tables
from triggers.evaluation.item_moments import MomentBank, Moments
from triggers.evaluation.item_windows import PlaceLags
from triggers.evaluation.program import Program
from triggers.evaluation.sizes import MAX_ROWS
from triggers.evaluation.truths import FALSE, TRUE, UNKNOWN, rows_of
from triggers.language.checking import check
from triggers.language.populations import Population
from triggers.language.scope import Scope
from triggers.language.types import Type, Value

WINDOWS_MS = st.sampled_from([10, 50, 100, 250, 1000])
LISTED = st.fixed_dictionaries(
    {
        "distance_m": st.one_of(st.integers(-50, 50).map(float), st.integers(-50, 50).map(float), st.none()),
        "lane": st.sampled_from(["ego", "left", "left", None]),
    }
)
#: Ticks: the step in ms, and what is listed by track number; None when nothing looked.
TICKS = st.lists(
    st.tuples(st.integers(10, 150), st.one_of(st.dictionaries(st.integers(0, 3), LISTED), st.just({0: {}}))),
    min_size=1,
    max_size=30,
)
NUMBER_OPERATORS = ["lag", "delta", "rate", "min_within", "max_within", "mean_within", "std_within", "flips"]
TRUTH_OPERATORS = ["lag", "any_within", "all_within", "count_within", "flips"]
EDGE_OPERATORS = ["rising", "falling", "changed", "since_s"]


def column_values(program: Program, text: str, rows: int) -> list[Value]:
    """The value of an expression over tracks for every row."""
    column = program.slots[program.slot(check(text, Scope(), Type.ANY, Population.TRACKS))]
    if isinstance(column, int):
        return [{FALSE: False, UNKNOWN: None, TRUE: True}[truth] for truth in rows_of(column, rows).tolist()]
    values, unknown = column
    unknown = np.zeros(rows, np.bool_) if unknown is None else np.broadcast_to(unknown, rows)
    return [None if row_unknown else float(value) for value, row_unknown in zip(values, unknown, strict=True)]


def assert_lives_look_like_signals(
    over_tracks: str, over_signals: str, ticks: Sequence[tuple[int, dict[int, dict[str, Value]]]]
) -> None:
    program, _ = program_of(f"any_track(known({over_tracks}))")
    lives: dict[int, tuple[Program, int]] = {}
    time_ns = 0
    for step_ms, listed in ticks:
        time_ns += step_ms * MILLISECOND
        tracks = [make_track(number, time_ns, **fields) for number, fields in listed.items()]
        program.run(tracks, Signals({}), time_ns)
        lives = {number: lives.get(number) or program_of(over_signals) for number in listed}
        expected: list[Value] = []
        for number, (life, slot) in lives.items():
            life.run([], Signals({f"heads.{name}": value for name, value in listed[number].items()}), time_ns)
            expected.append(life.value(slot))
        found = column_values(program, over_tracks, len(listed)) if listed else []
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None), (over_tracks, found, expected)
            assert other is None or math.isclose(float(one or 0), float(other), rel_tol=1e-9, abs_tol=1e-6)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("operator", NUMBER_OPERATORS)
@given(ticks=TICKS, length_ms=WINDOWS_MS)
def test_number_of_each_track_is_followed_as_a_signal_is(
    operator: str, ticks: list[tuple[int, dict[int, dict[str, Value]]]], length_ms: int
) -> None:
    call = f"{operator}({{0}}distance_m, {length_ms / 1000})"
    assert_lives_look_like_signals(call.format(""), call.format("heads."), ticks)


@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("operator", TRUTH_OPERATORS)
@given(ticks=TICKS, length_ms=WINDOWS_MS)
def test_truth_of_each_track_is_followed_as_a_signal_is(
    operator: str, ticks: list[tuple[int, dict[int, dict[str, Value]]]], length_ms: int
) -> None:
    call = f"{operator}({{0}}distance_m > 0, {length_ms / 1000})"
    assert_lives_look_like_signals(call.format(""), call.format("heads."), ticks)


@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("operator", EDGE_OPERATORS)
@given(ticks=TICKS)
def test_edges_of_each_track_are_those_of_a_signal(
    operator: str, ticks: list[tuple[int, dict[int, dict[str, Value]]]]
) -> None:
    call = f'{operator}({{0}}lane == "ego")'
    assert_lives_look_like_signals(call.format(""), call.format("heads."), ticks)


@settings(deadline=None, max_examples=60)
@given(ticks=TICKS, length_ms=WINDOWS_MS)
def test_text_of_each_track_is_followed_as_a_signal_is(
    ticks: list[tuple[int, dict[int, dict[str, Value]]]], length_ms: int
) -> None:
    for call in (f"lag({{0}}lane, {length_ms / 1000}) == 'left'", f"flips({{0}}lane, {length_ms / 1000})"):
        assert_lives_look_like_signals(call.format(""), call.format("heads."), ticks)
    assert_lives_look_like_signals("changed(lane)", "changed(heads.lane)", ticks)


def test_ticks_on_which_nothing_looked_leave_no_trace() -> None:
    program, slot = program_of("any_track(delta(distance_m, 0.1) < -1)")
    found = []
    for tick in range(8):
        time_ns = tick * 50 * MILLISECOND
        tracks = None if tick in (3, 5) else [make_track(1, time_ns, distance_m=50.0 - tick)]
        program.run(tracks, Signals({}), time_ns)
        found.append(program.value(slot))
    assert found == [None, None, True, None, True, None, True, True]


NUMBERS = st.one_of(st.floats(-100, 100), st.none())


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBERS, st.sampled_from([True, True, False, None])), max_size=6))
def test_aggregates_are_known_when_every_selected_number_is(items: list[tuple[float | None, bool | None]]) -> None:
    tracks = [
        make_track(number, distance_m=distance_m, lane=None if is_chosen is None else "ego" if is_chosen else "left")
        for number, (distance_m, is_chosen) in enumerate(items)
    ]
    chosen = [distance_m for distance_m, is_chosen in items if is_chosen]
    is_known = bool(chosen) and None not in chosen and all(is_chosen is not None for _, is_chosen in items)
    numbers = [distance_m for distance_m in chosen if distance_m is not None]
    for kind, reference in (("min", min), ("max", max), ("mean", lambda all_: sum(all_) / len(all_))):
        program, slot = program_of(f'{kind}_tracks(distance_m, lane == "ego")')
        program.run(tracks, Signals({}), SECOND)
        found = program.value(slot)
        if is_known:
            assert isinstance(found, float)
            assert math.isclose(found, reference(numbers), abs_tol=1e-9)
        else:
            assert found is None


def test_witness_of_a_minimum_is_the_item_that_has_it() -> None:
    expression = check("min_tracks(distance_m, visible) < 5", Scope(), Type.BOOLEAN)
    program = Program([expression], 0, {})
    program.run([make_track(n, distance_m=d) for n, d in ((1, 9.0), (2, 3.0), (3, 4.0))], Signals({}), SECOND)
    assert program.witness_values(expression.operands[0])["track.track_id"] == 2.0  # type: ignore[arg-type]


def camera(name: str, **fields: object) -> CameraView:
    values: dict[str, object] = {"state": "ok", "is_missing": False, **fields}
    return CameraView(name, **values)  # type: ignore[arg-type]


def test_cameras_and_controller_objects_are_followed_by_their_own_names() -> None:
    dark, near = (
        "any_camera(luma < lag(luma, 0.1) - 60)",
        'any_object(class_name == "car" and rate(distance_m, 0.1) < -8)',
    )
    expressions = [check(text, Scope(), Type.BOOLEAN) for text in (dark, near)]
    program = Program(expressions, 0, {})
    found = []
    for tick in range(6):
        time_ns = tick * 50 * MILLISECOND
        lumas = {"front": 120.0, "rear": 30.0 if tick >= 4 else 110.0}
        cameras = [camera(name, luma=luma) for name, luma in lumas.items()]
        objects = [ControllerObject(7, "car", distance_m=40.0 - tick), ControllerObject(8, "car", distance_m=20.0)]
        program.run(None, Signals({}), time_ns, objects, cameras)
        found.append(tuple(program.value(program.slot(expression)) for expression in expressions))
    assert [dark for dark, _ in found] == [None, None, False, False, True, True]
    assert [near for _, near in found] == [None, None, True, True, True, True]
    assert program.witness_values(expressions[0]) == {"camera.camera": "rear", "camera.state": "ok"}  # type: ignore[arg-type]
    assert program.witness_values(expressions[1])["object.object_id"] == 7.0  # type: ignore[arg-type]


def test_a_scalar_that_two_populations_read_is_fresh_for_both() -> None:
    program, slot = program_of("any_object(score > heads.x) and is_true(any_track(score > heads.x)) == False")
    for value, expected in ((0.9, False), (0.1, True), (0.9, False)):
        program.run(None, Signals({"heads.x": value}), SECOND, [ControllerObject(1, "car", score=0.5)])
        assert program.value(slot) is expected


def box(number: int, name: str, box_px: tuple[float, float, float, float], camera_name: str = "front") -> Track:
    return make_track(number, class_name=name, box_px=box_px, camera=camera_name)


@pytest.mark.parametrize(
    ("bicycle_px", "expected"),
    [
        ((110, 60, 190, 110), True),  # its wheels on the roof
        ((110, 60, 190, 160), False),  # reaches below the upper third
        ((110, 40, 190, 90), False),  # above the roof, in the air
        ((170, 60, 250, 110), False),  # mostly beside it
        ((140, 60, 220, 110), True),  # three quarters over it
    ],
)
def test_what_stands_on_the_upper_part_of_another_box(
    bicycle_px: tuple[float, float, float, float], expected: bool
) -> None:
    text = 'any_track(class_name == "bicycle" and stands_on == "car")'
    program, slot = program_of(text)
    program.run([box(1, "car", (100, 100, 200, 200)), box(2, "bicycle", bicycle_px)], Signals({}), SECOND)
    assert program.value(slot) is expected
    program.run([box(1, "car", (100, 100, 200, 200)), box(2, "bicycle", bicycle_px, "rear")], Signals({}), SECOND)
    assert program.value(slot) is False  # another camera sees it there: not on this car


def test_box_edges_and_sizes_agree() -> None:
    text = "all_tracks(right_px - left_px == width_px and bottom_px - top_px == height_px and left_px == 3)"
    program, slot = program_of(text)
    program.run([box(1, "car", (3, 4, 20, 40))], Signals({}), SECOND)
    assert program.value(slot) is True


class OneItemMoments:
    """A bank of both operators over one item."""

    def __init__(self, length_ns: int) -> None:
        self._table = make_tables({})[Population.TRACKS]
        self._table.keeps_places = True
        self._memory = [Moments(length_ns, self._table.capacity, told) for told in ("mean", "deviation")]
        self._bank = MomentBank(self._memory)
        self._update(0, np.array([math.nan]), np.array([True]))  # the item comes

    def push(self, time_ns: int, value: float) -> tuple[float, float]:
        """Mean and deviation of the window's values, also before it was seen in full."""
        for memory in self._memory:
            memory.unknown_ns[:] = -(2**62)
        mean, deviation = self._update(time_ns, np.array([value]), None)[:, 0].tolist()
        return mean, deviation

    def _update(self, time_ns: int, values: NDArray[np.float64], unknown: NDArray[np.bool_] | None) -> NDArray[Any]:
        self._table.update([make_track(1, time_ns)], time_ns)
        told: NDArray[Any] = self._bank.update(self._table, [(values, unknown)] * 2)[0]
        return told


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(-1e3, 1e3)), min_size=1, max_size=300), st.integers(100, 2000))
def test_moments_of_a_place_match_a_list(steps: list[tuple[int, float]], length_ms: int) -> None:
    """Ticks closer together than a row's step may leave late by that step, never early."""
    length_ns, slack_ns = length_ms * MILLISECOND, length_ms * MILLISECOND // (MAX_ROWS - 4) + 1
    moments = OneItemMoments(length_ns)
    past: list[tuple[int, float]] = []
    time_ns = 0
    for step_ms, value in steps:
        time_ns += step_ms * MILLISECOND
        past.append((time_ns, value))
        mean, deviation = moments.push(time_ns, value)
        first = sum(at < time_ns - length_ns - slack_ns for at, _ in past)
        last = sum(at < time_ns - length_ns for at, _ in past)
        windows = [np.array([each for _, each in past[start:]]) for start in range(first, last + 1)]
        assert any(
            math.isclose(mean, window.mean(), abs_tol=1e-8) and math.isclose(deviation, window.std(), abs_tol=1e-6)
            for window in windows
        )


def test_deviation_keeps_its_digits_far_from_zero_and_after_a_huge_value() -> None:
    generator, moments = random.Random(1), OneItemMoments(SECOND)
    values = [1e15, *(1e9 + generator.uniform(-0.5, 0.5) for _ in range(200))]
    for tick, value in enumerate(values):
        _, deviation = moments.push(tick * 20 * MILLISECOND, value)
    assert math.isclose(deviation, float(np.std(np.array(values[-51:]) - 1e9)), rel_tol=1e-4)


def test_lag_of_a_place_is_the_newest_row_that_is_old_enough() -> None:
    lags, places = PlaceLags(100 * MILLISECOND, 4, np.nan, np.float64), np.array([2])
    for tick in range(500):
        lags.push(tick * 30 * MILLISECOND, places, np.array([float(tick)]))
        if tick >= 4:
            assert lags.then_ns(tick * 30 * MILLISECOND) == (tick - 4) * 30 * MILLISECOND
            assert lags.then(places)[0] == tick - 4


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">="]), st.integers(-3, 3)), min_size=1, max_size=12),
    st.lists(st.one_of(st.integers(-4, 4).map(float), st.none()), min_size=1, max_size=5),
)
def test_comparisons_that_are_computed_together_are_as_if_each_stood_alone(
    comparisons: list[tuple[str, int]], distances_m: list[float | None]
) -> None:
    tracks = [make_track(number, distance_m=distance_m) for number, distance_m in enumerate(distances_m)]
    texts = [f"any_track(distance_m {name} {threshold})" for name, threshold in comparisons]
    expressions = [check(text, Scope(), Type.BOOLEAN) for text in texts]
    together = Program(expressions, 0, {}).evolve(expressions[::2]).evolve(expressions)
    together.run(tracks, Signals({}), SECOND)
    for text, expression in zip(texts, expressions, strict=True):
        alone, slot = program_of(text)
        alone.run(tracks, Signals({}), SECOND)
        assert together.value(together.slot(expression)) is alone.value(slot)


@pytest.mark.parametrize("largest", [4095, 0])
def test_membership_of_texts_is_the_same_by_table_and_one_by_one(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triggers.evaluation.item_batches.MAX_TABLE_CODE", largest)
    program, slot = program_of('count_tracks(is_true(lane in ("ego", "left")) or not known(lane in ("left", "ego")))')
    lanes = ["ego", "never named", None, "left", "right"]
    program.run([make_track(number, lane=lane) for number, lane in enumerate(lanes)], Signals({}), SECOND)
    assert program.value(slot) == 3


@pytest.mark.parametrize("call", ["min_within(distance_m, 1)", "mean_within(distance_m, 1)", "lag(distance_m, 1)"])
def test_times_that_go_to_and_fro_neither_break_nor_grow_a_window(call: str) -> None:
    program, slot = program_of(f"max_tracks({call}, visible)")
    for tick in range(1000):
        program.run([make_track(distance_m=7.0)], Signals({}), (10 + tick % 2) * SECOND + tick)
    assert program.value(slot) == 7.0
