"""One program taking over from another in mid-drive: what both have goes on as if nothing had happened."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_ticks import MILLISECOND, Signals, make_track

from runtime.messages import SignalSample, Track
from triggers.evaluation.program import Program
from triggers.language.checking import check
from triggers.language.expressions import Expression
from triggers.language.scope import Scope
from triggers.language.types import Type, Value

TEXTS = (
    "rising(heads.b)",
    "any_within(heads.b, 0.3)",
    "all_within(heads.b, 0.2) and heads.x > 0",
    "mean_within(heads.x, 0.3) > lag(heads.x, 0.3)",
    "std_within(heads.x, 0.25) > 3",
    "count_within(heads.b, 0.4) >= 2",
    "any_track(displacement_px(0.2) > 20)",
    "any_track(presence_flips(0.4) > 1)",
    "count_tracks(mean_within(distance_m, 0.2) > 0) > 1",
    "any_track(rate(distance_m, 0.2) < heads.x)",
    "any_within(any_track(class_name == 'car' and distance_m < 0), 0.3)",
    "max_tracks(std_within(distance_m, 0.2), visible) > 10",
)
TICK = st.fixed_dictionaries(
    {
        "b": st.sampled_from([True, False, None]),
        "x": st.one_of(st.integers(-9, 9).map(float), st.none()),
        "tracks": st.one_of(
            st.none(),
            st.lists(st.tuples(st.integers(0, 4), st.integers(-50, 50), st.booleans()), unique_by=lambda each: each[0]),
        ),
    }
)
CHOICES = st.lists(st.sampled_from(TEXTS), min_size=1, unique=True)


def expressions_of(texts: Sequence[str]) -> list[Expression]:
    return [check(text, Scope(), Type.BOOLEAN) for text in texts]


def run(program: Program, tick: int, given_: dict[str, object]) -> None:
    time_ns = tick * 50 * MILLISECOND
    values: dict[str, Value] = {"heads.b": given_["b"], "heads.x": given_["x"]}  # type: ignore[dict-item]
    listed: list[Track] | None = None
    if given_["tracks"] is not None:
        listed = [
            make_track(n, time_ns, distance_m=float(at), box_px=(at, 0.0, at + 9.0, 9.0), visible=visible)
            for n, at, visible in given_["tracks"]  # type: ignore[attr-defined]
        ]
    samples = [SignalSample("heads.b", time_ns - MILLISECOND, True)] if given_["b"] is False else []
    program.run(listed, Signals(values, samples), time_ns)


@settings(deadline=None, max_examples=150)
@given(CHOICES, CHOICES, st.lists(TICK, min_size=2, max_size=24), st.integers(1, 23))
def test_common_expressions_keep_their_state_and_new_ones_begin_at_the_change(
    before: list[str], after: list[str], ticks: list[dict[str, object]], change: int
) -> None:
    change = min(change, len(ticks) - 1)
    kept = [text for text in after if text in before]
    new = [text for text in after if text not in before]
    program = Program(expressions_of(before), 0, {})
    steady = Program(expressions_of(before), 0, {})
    fresh = Program(expressions_of(after), 0, {})
    for tick, given_ in enumerate(ticks):
        if tick == change:
            program = program.evolve(expressions_of(after))
        run(program, tick, given_)
        run(steady, tick, given_)
        if tick >= change:
            run(fresh, tick, given_)
            for expression in expressions_of(kept):
                assert program.value(program.slot(expression)) == steady.value(steady.slot(expression))
            for expression in expressions_of(new):
                expected = fresh.value(fresh.slot(expression))  # what shares a part with an old one may know more
                assert expected is None or program.value(program.slot(expression)) == expected


def test_building_another_program_changes_nothing_that_the_running_one_says() -> None:
    ticks = [{"b": tick % 3 == 0, "x": float(tick % 7), "tracks": [(tick % 4, tick, True)]} for tick in range(300)]
    program, alone = Program(expressions_of(TEXTS), 0, {}), Program(expressions_of(TEXTS), 0, {})
    done = threading.Event()

    def build() -> None:
        number = 0
        while not done.is_set():
            number += 1
            program.evolve(
                expressions_of([*TEXTS[::2], f"any_track(class_name == 'c{number}' or speed_mps > {number})"])
            )

    thread = threading.Thread(target=build)
    thread.start()
    try:
        for tick, given_ in enumerate(ticks):
            run(program, tick, given_)  # type: ignore[arg-type]
            run(alone, tick, given_)  # type: ignore[arg-type]
            for expression in expressions_of(TEXTS[:: 1 + tick % 5]):
                assert program.value(program.slot(expression)) == alone.value(alone.slot(expression))
    finally:
        done.set()
        thread.join()


def test_a_program_that_was_replaced_or_overtaken_cannot_run_any_more() -> None:
    tick: dict[str, object] = {"b": True, "x": 1.0, "tracks": []}
    first = Program(expressions_of(TEXTS[:1]), 0, {})
    run(first, 0, tick)
    overtaken, second = first.evolve(expressions_of(TEXTS[:2])), first.evolve(expressions_of(TEXTS[1:3]))
    run(first, 1, tick)  # the old one is usable until the new one runs
    run(second, 2, tick)
    for program in (first, overtaken):
        with pytest.raises(RuntimeError, match="cannot run any more"):
            run(program, 3, tick)
    run(second, 3, tick)


def test_a_program_that_is_built_while_another_takes_over_leaves_it_alone_and_cannot_run() -> None:
    tick: dict[str, object] = {"b": True, "x": 4.0, "tracks": [(1, -3, True)]}
    first = Program(expressions_of(TEXTS[:1]), 0, {})
    run(first, 0, tick)
    wanted = expressions_of(["heads.x > 3.5", "any_track(distance_m < -2.5)"])
    second = first.evolve(wanted)
    late = first.evolve(expressions_of(["heads.x > 70", "any_track(distance_m < -70)", "heads.x > 80"]))
    with pytest.raises(RuntimeError, match="cannot run any more"):
        run(second, 1, tick)  # a newer one was built
    second = first.evolve(wanted)
    run(second, 1, tick)
    first.evolve(expressions_of(["heads.x > 90", "any_track(distance_m < -90)", "heads.x > 91 and heads.b"]))
    run(second, 2, tick)
    assert [second.value(second.slot(expression)) for expression in wanted] == [True, True]
    with pytest.raises(RuntimeError, match="cannot run any more"):
        run(late, 3, tick)


def test_programs_may_follow_one_another_between_two_ticks() -> None:
    tick: dict[str, object] = {"b": True, "x": 4.0, "tracks": [(1, -3, True)]}
    kept = "lag(heads.x, 0.05) == 4"
    first = Program(expressions_of([kept, "heads.x > 1"]), 0, {})
    run(first, 0, tick)
    second = first.evolve(expressions_of([kept, "heads.x > 2"]))
    third = second.evolve(expressions_of([kept, "heads.x > 3", "any_track(distance_m < -2.5)"]))
    run(first, 1, tick)  # nothing has changed for it
    fourth = third.evolve(expressions_of([kept, "heads.x > 5"]))
    with pytest.raises(RuntimeError, match="cannot run any more"):
        run(second, 2, tick)  # the slots of its own were given to the fourth
    run(third, 2, tick)  # the fourth was built beside this one
    assert [third.value(third.slot(each)) for each in expressions_of([kept, "heads.x > 3"])] == [True, True]
    run(fourth, 3, tick)
    assert [fourth.value(fourth.slot(each)) for each in expressions_of([kept, "heads.x > 5"])] == [True, False]


def own_texts(number: int) -> list[str]:
    """Signals, thresholds and windows of every program are its own; only TEXTS[0] stays."""
    own = f"delta(heads.y{number}, {1 + number % 50}.5) > {number} or mean_within(heads.x, 0.{1 + number % 9}) < 1"
    return [TEXTS[0], own, f"any_track(distance_m < {number} and class_name == 'class {number % 100}')"]


QUIET: dict[str, object] = {"b": True, "x": 1.0, "tracks": [(1, 1, True)]}


def test_ten_thousand_changes_use_the_same_slots_again() -> None:
    programs = [expressions_of(own_texts(number)) for number in range(50)]
    program = Program(programs[0], 0, {})
    run(program, 0, QUIET)
    sizes = []
    for number in range(1, 10_001):
        other = program.evolve(programs[number % len(programs)])
        if number % 10 == 0:  # the others are overtaken before they run
            program = other
            run(program, number, QUIET)
        if number in (1000, 10_000):
            sizes.append((len(program.slots), program.retained_entries))
    assert sizes[0] == sizes[1]


def test_changes_do_not_make_memory_grow() -> None:
    program = Program(expressions_of(own_texts(0)), 0, {})
    run(program, 0, QUIET)
    sizes = []
    tracemalloc.start()
    try:
        for number in range(1, 401):
            program = program.evolve(expressions_of(own_texts(number)))
            run(program, number, QUIET)
            if number in (100, 400):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] < sizes[0] + 40_000


def test_tracks_are_new_to_a_rule_that_comes_while_they_are_followed() -> None:
    history, moments = "any_track(displacement_px(0.3) >= 0)", "any_track(mean_within(distance_m, 0.3) > 0)"
    program = Program(expressions_of(["heads.b", history]), 0, {})
    found = []
    for tick in range(12):
        if tick == 3:
            program = program.evolve(expressions_of(["heads.b"]))
        if tick == 5:
            program = program.evolve(expressions_of(["heads.b", history, moments]))
        run(program, tick, {"b": True, "x": 1.0, "tracks": [(1, 10, True)]})
        if tick >= 5:
            found.append([program.value(program.slot(each)) for each in expressions_of([history, moments])])
    assert found == [[None, None]] * 6 + [[True, True]]  # 0.3 s after tick 5, not before
