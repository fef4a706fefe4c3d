"""What is remembered of each track, against a plain reference; and columns against the scalar operators."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_ticks import MILLISECOND, SECOND, Signals, make_track, program_of, value_of

from runtime.messages import Track
from triggers.evaluation.item_columns import make_tables
from triggers.evaluation.item_history import Displacement, Flips, ItemHistory, Jitter
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.item_windows import PlaceMinima, PlaceTotals
from triggers.evaluation.sizes import CAPACITY as CAPACITIES
from triggers.evaluation.sizes import MAX_ROWS
from triggers.language.populations import Population
from triggers.language.types import Value

WINDOW_MS = 400
CAPACITY = CAPACITIES[Population.TRACKS]


def track_table(**image_sizes: tuple[int, int]) -> ItemTable:
    table = make_tables(image_sizes)[Population.TRACKS]
    table.keeps_places = True
    return table


LISTED = st.fixed_dictionaries(
    {
        "x": st.integers(0, 100),
        "y": st.integers(0, 100),
        "visible": st.booleans(),
        "class_name": st.sampled_from(["car", "truck"]),
        "state": st.sampled_from(["red", "green", None]),
    }
)
#: Ticks: the step in ms, and what is listed by track number.
TICKS = st.lists(st.tuples(st.integers(20, 150), st.dictionaries(st.integers(0, 3), LISTED)), min_size=1, max_size=30)


def track_of(number: int, listed: dict[str, object], time_ns: int) -> Track:
    x, y = float(str(listed["x"])), float(str(listed["y"]))
    return make_track(
        number, time_ns, box_px=(x, y, x + 40.0, y + 20.0), visible=listed["visible"],
        class_name=listed["class_name"], state=listed["state"],
    )  # fmt: skip


class Past:
    """The life of every listed track since it was last not listed, in full."""

    def __init__(self) -> None:
        self.lives: dict[int, list[tuple[int, dict[str, object]]]] = {}

    def update(self, time_ms: int, listed: dict[int, dict[str, object]]) -> None:
        self.lives = {number: [*self.lives.get(number, []), (time_ms, now)] for number, now in listed.items()}

    def window(self, number: int) -> list[tuple[int, dict[str, object]]]:
        life = self.lives[number]
        return [(time_ms, now) for time_ms, now in life if time_ms >= life[-1][0] - WINDOW_MS]

    def is_followed(self, number: int) -> bool:
        life = self.lives[number]
        return life[-1][0] - life[0][0] >= WINDOW_MS


def displacement(past: Past, number: int) -> float:
    seen = [now for _, now in past.window(number)]
    xs, ys = ([float(str(now[name])) for now in seen] for name in ("x", "y"))
    return math.hypot(max(xs) - min(xs), max(ys) - min(ys)) if past.is_followed(number) else math.nan


def flips(past: Past, number: int, field: str) -> float:
    life = [(time_ms, now[field]) for time_ms, now in past.lives[number] if now[field] is not None]
    start_ms = past.lives[number][-1][0] - WINDOW_MS
    pairs = itertools.pairwise(life)
    return float(sum(before != after for (_, before), (time_ms, after) in pairs if time_ms >= start_ms))


def jitter(past: Past, number: int) -> float:
    life = past.lives[number]
    start_ms = life[-1][0] - WINDOW_MS
    jumps = []
    for index in range(2, len(life)):
        (_, first), (_, second), (time_ms, third) = life[index - 2 : index + 1]
        if time_ms >= start_ms and first["visible"] and second["visible"] and third["visible"]:
            steps = [float(str(third[c])) - 2 * float(str(second[c])) + float(str(first[c])) for c in ("x", "y")]
            jumps.append(math.hypot(*steps) / 20.0)
    return sum(jumps) / len(jumps) if jumps and past.is_followed(number) else math.nan


@settings(deadline=None)
@given(TICKS)
def test_histories_match_a_full_record_of_every_track(ticks: list[tuple[int, dict[int, dict[str, object]]]]) -> None:
    length_ns = WINDOW_MS * MILLISECOND
    histories: dict[str, ItemHistory] = {
        "displacement": Displacement(length_ns, CAPACITY),
        "visible": Flips(length_ns, CAPACITY, "visible"),
        "class_name": Flips(length_ns, CAPACITY, "class_name"),
        "state": Flips(length_ns, CAPACITY, "state"),
        "jitter": Jitter(length_ns, CAPACITY),
    }
    table, past, time_ms = track_table(), Past(), 0
    for step_ms, listed in ticks:
        time_ms += step_ms
        past.update(time_ms, listed)
        table.update([track_of(n, now, time_ms * MILLISECOND) for n, now in listed.items()], time_ms * MILLISECOND)
        if not listed:
            continue
        for name, history in histories.items():
            reference = {"displacement": displacement, "jitter": jitter}.get(name)
            expected = [reference(past, n) if reference else flips(past, n, name) for n in listed]
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(history.update(table), expected, atol=1e-4, err_msg=name)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(-50, 50)), min_size=1, max_size=300), st.integers(100, 2000))
def test_place_windows_match_a_list(steps: list[tuple[int, int]], length_ms: int) -> None:
    """Ticks closer together than a row's step may leave late by that step, never early."""
    length_ns = length_ms * MILLISECOND
    minima, totals = PlaceMinima(length_ns, 1, CAPACITY), PlaceTotals(length_ns, CAPACITY)
    places = np.array([7])
    slack_ns = length_ns // (MAX_ROWS - 4) + 1
    past: list[tuple[int, int]] = []
    time_ns = 0
    for step_ms, value in steps:
        time_ns += step_ms * MILLISECOND
        past.append((time_ns, value))
        minima.push(time_ns, places, np.array([[value]]))
        totals.add(time_ns, places, np.array([abs(value)]))
        exact = [v for at, v in past if at >= time_ns - length_ns]
        late = [v for at, v in past if at >= time_ns - length_ns - slack_ns]
        assert min(late) <= minima.minima(places)[0, 0] <= min(exact)
        assert sum(map(abs, exact)) <= totals.totals[7] <= sum(map(abs, late))


def test_a_place_given_to_a_new_track_remembers_nothing_of_the_old_one() -> None:
    program, slot = program_of("any_track(presence_flips(5.0) > 0 or displacement_px(0.1) > 5)")
    for tick in range(20):
        time_ns = tick * 50 * MILLISECOND
        wandering = make_track(tick // 10, time_ns, visible=tick % 2 == 0, box_px=(tick * 9.0, 0.0, tick * 9.0 + 9, 9))
        steady = make_track(99, time_ns)
        tracks = [wandering] if tick < 10 else [steady] if tick > 10 else []
        program.run(tracks, Signals({}), time_ns)
        assert program.value(slot) is not True or tick < 10


def test_tracks_beyond_the_capacity_are_left_out_and_counted() -> None:
    program, slot = program_of("count_tracks(presence_flips(1.0) == 0)")
    program.run([make_track(number) for number in range(CAPACITY + 5)], Signals({}), SECOND)
    assert program.value(slot) == CAPACITY
    assert program.table.refused == 5
    program.run([make_track(number + 10_000) for number in range(CAPACITY)], Signals({}), 2 * SECOND)
    assert program.value(slot) == CAPACITY  # places of tracks that are gone are free again


def test_border_is_known_where_the_image_size_is() -> None:
    table = track_table(front=(640, 480))
    table.update([make_track(box_px=(30, 20, 600, 470)), make_track(camera="rear")], SECOND)
    border_px = table.column("border_px")
    assert border_px[0] == 10
    assert math.isnan(border_px[1])


NUMBER_TEXTS = st.recursive(
    st.sampled_from(["distance_m", "lateral_m", "speed_mps", "2", "0", "-1.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(st.sampled_from(["abs", "sign", "-"]), inner).map("{0[0]}({0[1]})".format),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map("{0[0]}({0[1]}, {0[2]})".format),
    ),
    max_leaves=4,
)
LANES = ['lane in ("left", "right")', 'lane == "ego"', 'lane != "ego"']
CONDITION_TEXTS = st.recursive(
    st.one_of(
        st.tuples(NUMBER_TEXTS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBER_TEXTS).map(" ".join),
        st.sampled_from([*LANES, "known(distance_m)", "visible"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or", "=="]), inner).map("(({0[0]}) {0[1]} ({0[2]}))".format),
        inner.map("not ({})".format),
        inner.map("is_true({})".format),
        st.tuples(inner, inner, inner).map("(({0[0]}) if ({0[1]}) else ({0[2]}))".format),
    ),
    max_leaves=5,
)
NUMBERS = st.sampled_from([None, 0.0, 1.0, -1.5, 2.0, 1e200])


@settings(deadline=None, max_examples=300)
@given(CONDITION_TEXTS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from([None, "left", "ego"]), st.booleans())
def test_a_condition_over_one_track_equals_the_same_condition_over_signals(
    text: str, distance_m: float | None, lateral_m: float | None, speed_mps: float | None, lane: str | None, seen: bool
) -> None:
    track = make_track(
        distance_m=distance_m, lateral_m=lateral_m, speed_mps=speed_mps, lane=lane, visible=seen, score=0.5
    )
    values: dict[str, Value] = {
        "heads.distance_m": distance_m,
        "heads.lateral_m": lateral_m,
        "heads.speed_mps": speed_mps,
        "heads.lane": lane,
        "heads.visible": seen,
    }
    over_signals = text
    for name in ("distance_m", "lateral_m", "speed_mps", "lane", "visible"):
        over_signals = over_signals.replace(name, f"heads.{name}")
    expected = value_of(f"({over_signals}) and True", values)
    assert value_of(f"any_track({text})", tracks=[track]) is expected
    assert value_of(f"all_tracks({text})", tracks=[track]) is expected
