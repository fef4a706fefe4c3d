"""Temporal operators against a plain reference that looks at the whole past again at every tick."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_ticks import MILLISECOND, SECOND, Signals, program_of, values_of

from runtime.messages import SignalSample
from triggers.evaluation.windows import MAX_ENTRIES
from triggers.language.types import Value

Trace = list[tuple[int, Value]]  # (time in ms, value)

STEPS_MS = st.integers(10, 120)
WINDOWS_MS = st.sampled_from([10, 50, 100, 250, 1000])


def traces(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Trace]:
    def add_up(steps: Sequence[tuple[int, Value]]) -> Trace:
        times = [sum(step for step, _ in steps[: index + 1]) for index in range(len(steps))]
        return [(time_ms, value) for time_ms, (_, value) in zip(times, steps, strict=True)]

    return st.lists(st.tuples(STEPS_MS, values), min_size=1, max_size=40).map(add_up)


BOOLEANS = traces(st.sampled_from([True, True, False, False, None]))
NUMBERS = traces(st.one_of(st.integers(-50, 50).map(float), st.integers(-50, 50).map(float), st.none()))


def run(text: str, trace: Trace) -> list[Value]:
    return values_of(text, [(time_ms, {"heads.x": value}) for time_ms, value in trace])


def window(trace: Trace, tick: int, length_ms: int) -> list[Value]:
    return [value for time_ms, value in trace[: tick + 1] if time_ms >= trace[tick][0] - length_ms]


def is_covered(trace: Trace, tick: int, length_ms: int) -> bool:
    return trace[0][0] <= trace[tick][0] - length_ms and None not in window(trace, tick, length_ms)


@given(BOOLEANS, WINDOWS_MS)
def test_any_within_and_all_within(trace: Trace, length_ms: int) -> None:
    found_any = run(f"any_within(heads.x, {length_ms / 1000})", trace)
    found_all = run(f"all_within(heads.x, {length_ms / 1000})", trace)
    for tick in range(len(trace)):
        seen = window(trace, tick, length_ms)
        full = is_covered(trace, tick, length_ms)
        assert found_any[tick] is (True if True in seen else False if full else None)
        assert found_all[tick] is (False if False in seen else True if full else None)


@given(NUMBERS, WINDOWS_MS)
def test_std_within(trace: Trace, length_ms: int) -> None:
    found = run(f"std_within(heads.x, {length_ms / 1000})", trace)
    for tick in range(len(trace)):
        if not is_covered(trace, tick, length_ms):
            assert found[tick] is None
            continue
        deviation = found[tick]
        assert isinstance(deviation, float)
        assert math.isclose(deviation, statistics.pstdev(map(float, window(trace, tick, length_ms))), abs_tol=1e-9)  # type: ignore[arg-type]


def test_std_within_keeps_its_digits_far_from_zero_and_after_a_huge_value() -> None:
    generator = random.Random(1)
    series = [1e15, *(1e9 + generator.uniform(-0.5, 0.5) for _ in range(3000))]
    found = values_of("std_within(heads.x, 1.0)", [(20 * i, {"heads.x": v}) for i, v in enumerate(series)])
    assert isinstance(found[-1], float)
    assert math.isclose(found[-1], statistics.pstdev(series[-51:]), rel_tol=1e-4)


@given(BOOLEANS, WINDOWS_MS)
def test_count_within_and_flips(trace: Trace, length_ms: int) -> None:
    counts = run(f"count_within(heads.x, {length_ms / 1000})", trace)
    flips = run(f"flips(is_true(heads.x) if known(heads.x) else heads.x, {length_ms / 1000})", trace)
    for tick in range(len(trace)):
        if not is_covered(trace, tick, length_ms):
            assert counts[tick] is None
            assert flips[tick] is None
            continue
        first = tick + 1 - len(window(trace, tick, length_ms))
        pairs = [(trace[i - 1][1], trace[i][1]) for i in range(max(first, 1), tick + 1)]
        assert counts[tick] == pairs.count((False, True))
        assert flips[tick] == pairs.count((False, True)) + pairs.count((True, False))


@given(BOOLEANS)
def test_since_s(trace: Trace) -> None:
    for tick, found in enumerate(run("since_s(heads.x)", trace)):
        past = [value for _, value in trace[: tick + 1]]
        last_true = max((i for i, value in enumerate(past) if value is True), default=None)
        if last_true is None or None in past[last_true:]:
            assert found is None
        else:
            assert found == (trace[tick][0] * MILLISECOND - trace[last_true][0] * MILLISECOND) / SECOND


@given(NUMBERS, WINDOWS_MS)
def test_min_max_and_mean_within(trace: Trace, length_ms: int) -> None:
    seconds = length_ms / 1000
    smallest = run(f"min_within(heads.x, {seconds})", trace)
    largest = run(f"max_within(heads.x, {seconds})", trace)
    mean = run(f"mean_within(heads.x, {seconds})", trace)
    for tick in range(len(trace)):
        seen = [value for value in window(trace, tick, length_ms) if isinstance(value, float)]
        if is_covered(trace, tick, length_ms):
            assert smallest[tick] == min(seen)
            assert largest[tick] == max(seen)
            assert mean[tick] == pytest.approx(sum(seen) / len(seen), abs=1e-12)
        else:
            assert (smallest[tick], largest[tick], mean[tick]) == (None, None, None)


@given(NUMBERS, WINDOWS_MS)
def test_lag_delta_and_rate(trace: Trace, length_ms: int) -> None:
    seconds = length_ms / 1000
    lag = run(f"lag(heads.x + 0, {seconds})", trace)
    delta = run(f"delta(heads.x, {seconds})", trace)
    rate = run(f"rate(heads.x, {seconds})", trace)
    for tick, (now_ms, now) in enumerate(trace):
        old = [(time_ms, value) for time_ms, value in trace[: tick + 1] if time_ms <= now_ms - length_ms]
        then_ms, then = old[-1] if old else (0, None)
        assert lag[tick] == then
        if isinstance(now, float) and isinstance(then, float):
            assert delta[tick] == now - then
            assert rate[tick] == pytest.approx((now - then) / ((now_ms - then_ms) / 1000))
        else:
            assert (delta[tick], rate[tick]) == (None, None)


@given(BOOLEANS)
def test_edges_between_ticks(trace: Trace) -> None:
    rising, falling, changed = (run(f"{name}(heads.x and True)", trace) for name in ("rising", "falling", "changed"))
    for tick in range(len(trace)):
        before, now = (trace[tick - 1][1] if tick else None), trace[tick][1]
        assert rising[tick] is kleene_and(negate(before), now)
        assert falling[tick] is kleene_and(before, negate(now))
        assert changed[tick] is (None if before is None or now is None else before is not now)


def negate(value: Value) -> bool | None:
    return None if value is None else not value


def kleene_and(left: Value, right: Value) -> Value:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


SAMPLES = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 49), st.booleans()), max_size=8)


@given(st.lists(SAMPLES, min_size=1, max_size=6), st.sampled_from(["a and b", "a and not b", "a or b", "a"]))
def test_latched_samples_are_followed_in_the_order_of_time(ticks: list[list[tuple[str, int, bool]]], text: str) -> None:
    written = text.replace("a", "heads.a", 1) if text == "a" else " ".join(
        f"heads.{word}" if word in ("a", "b") else word for word in text.split()
    )  # fmt: skip
    program, slot = program_of(f"rising({written})")
    state: dict[str, bool] = {"a": False, "b": False}
    program.run([], Signals({"heads.a": False, "heads.b": False}), 0)
    for number, arrivals in enumerate(ticks, start=1):
        expected = False
        before = evaluate(text, state)
        for at_ms in sorted({at_ms for _, at_ms, _ in arrivals}):
            state.update({name: value for name, time_ms, value in arrivals if time_ms == at_ms})
            now = evaluate(text, state)
            expected |= now and not before
            before = now
        start_ns = (number - 1) * 50 * MILLISECOND
        samples = [SignalSample(f"heads.{n}", start_ns + at * MILLISECOND, v) for n, at, v in arrivals]
        samples.sort(key=lambda sample: sample.time_ns)
        signals = Signals({f"heads.{name}": value for name, value in state.items()}, samples)
        program.run([], signals, number * 50 * MILLISECOND)
        assert program.value(slot) is expected


def evaluate(text: str, state: dict[str, bool]) -> bool:
    a, b = state["a"], state["b"]
    return {"a and b": a and b, "a and not b": a and not b, "a or b": a or b, "a": a}[text]


def test_pulse_between_ticks_counts_for_every_edge_operator() -> None:
    names = ("rising", "falling", "changed")
    programs = [program_of(f"{name}(vehicle.brake_pressed)") for name in names]
    flips, flips_slot = program_of("count_within(vehicle.brake_pressed, 0.05)")
    name = "vehicle.brake_pressed"
    pulse = [SignalSample(name, 10 * MILLISECOND, True), SignalSample(name, 20 * MILLISECOND, False)]
    for program, slot in programs:
        program.run([], Signals({name: False}), 0)
        program.run([], Signals({name: False}, pulse), 50 * MILLISECOND)
        assert program.value(slot) is True
        program.run([], Signals({name: False}), 100 * MILLISECOND)
        assert program.value(slot) is False
    flips.run([], Signals({name: False}), 0)
    flips.run([], Signals({name: False}, pulse * 1), 50 * MILLISECOND)
    assert flips.value(flips_slot) == 1.0


def test_entries_that_were_added_to_a_list() -> None:
    lists: list[Value] = ["", "rear", "front,rear", "front", None, "front", "front,rear", ""]
    trace = [(50 * tick, {"health.faulty_cameras": value}) for tick, value in enumerate(lists)]
    found = values_of("added(health.faulty_cameras)", trace)
    assert found == ["", "rear", "front", "", None, "", "rear", ""]
    assert values_of("added(health.faulty_cameras)", [(0, {"health.faulty_cameras": "a,b"})]) == ["a,b"]


def test_random_ticks_are_as_frequent_as_asked_whatever_the_tick_rate() -> None:
    for step_ms in (10, 50, 200):
        ticks = 400_000 // step_ms
        found = values_of("at_random(2.0)", [(tick * step_ms, {}) for tick in range(ticks)])
        assert 140 < found.count(True) < 260  # 200 expected


LONG = ["min_within", "max_within", "mean_within", "std_within", "lag", "delta", "rate"]


@pytest.mark.parametrize("shape", ["rising", "falling", "saw"])
def test_memory_is_bounded_by_the_number_of_windows_not_by_their_length(shape: str) -> None:
    ticks = 65_000  # 650 s at 100 Hz, in windows of 600 s
    text = " + ".join(f"{name}(heads.x, 600)" for name in LONG) + " + flips(heads.x, 600) + count_within(heads.b, 600)"
    program, slot = program_of(text)
    most = 0
    for tick in range(ticks):
        value = {"rising": tick, "falling": -tick, "saw": tick % 7}[shape]
        program.run([], Signals({"heads.x": float(value), "heads.b": tick % 2 == 0}), tick * 10 * MILLISECOND)
        if tick % 1000 == 0:
            most = max(most, program.retained_entries)
    assert program.value(slot) is not None
    assert most <= (len(LONG) + 2) * (MAX_ENTRIES + 3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=300, max_size=300))
def test_long_windows_are_late_by_no_more_than_their_resolution(values: list[float]) -> None:
    """A 600 s window of 0.1 s ticks keeps steps of 0.29 s: what it holds is between 600 s and 600.3 s of ticks."""
    step_ms, length_ms = 100, 600_000
    lead_in = [50.0] * 5900
    series = lead_in + values + [values[-1]] * 100
    smallest = values_of("min_within(heads.x, 600)", [(i * step_ms, {"heads.x": v}) for i, v in enumerate(series)])
    mean = values_of("mean_within(heads.x, 600)", [(i * step_ms, {"heads.x": v}) for i, v in enumerate(series)])
    for tick in range(6000, len(series), 37):
        exact = series[tick - length_ms // step_ms : tick + 1]
        slack = series[max(tick - length_ms // step_ms - 3, 0) : tick + 1]
        found, average = smallest[tick], mean[tick]
        assert isinstance(found, float)
        assert isinstance(average, float)
        assert min(slack) <= found <= min(exact)
        assert math.isclose(average, sum(exact) / len(exact), abs_tol=0.2)


def test_mean_forgets_a_huge_value_completely() -> None:
    series = [1e18] + [0.25] * 200
    found = values_of("mean_within(heads.x, 1.0)", [(50 * i, {"heads.x": v}) for i, v in enumerate(series)])
    assert found[-1] == 0.25
