"""The state of all signals at one instant: nothing from the future, nothing stale, no pulse lost."""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.messages import SignalSample
from runtime.signals.table import MAX_SIGNALS, MAX_WAITING_SAMPLES, SignalTable

SECOND = 1_000_000_000


def test_a_signal_that_was_never_seen_is_unknown() -> None:
    reader = SignalTable({"controller.enabled": 1.0}).at(SECOND)
    assert reader.value("controller.enabled") is None
    assert reader.samples("controller.enabled") == ()
    assert reader.names() == ("controller.enabled",)


def test_only_samples_at_or_before_the_instant_count_and_later_ones_wait() -> None:
    table = SignalTable()
    table.offer(SignalSample("vehicle.speed_mps", 10, 1.0))
    table.offer(SignalSample("vehicle.speed_mps", 20, 2.0))
    assert table.at(9).value("vehicle.speed_mps") is None
    assert table.at(10).value("vehicle.speed_mps") == 1.0
    assert table.at(19).value("vehicle.speed_mps") == 1.0
    assert table.at(20).value("vehicle.speed_mps") == 2.0


@pytest.mark.parametrize(("age_ns", "expected"), [(SECOND // 2, 3.0), (SECOND // 2 + 1, None)])
def test_a_stale_signal_is_unknown_from_its_own_timeout_on(age_ns: int, expected: float | None) -> None:
    table = SignalTable({"vehicle.speed_mps": 0.5}, default_timeout_s=9.0)
    table.offer(SignalSample("vehicle.speed_mps", 100, 3.0))
    assert table.at(100 + age_ns).value("vehicle.speed_mps") == expected


def test_undeclared_signals_have_the_default_timeout() -> None:
    table = SignalTable(default_timeout_s=2.0)
    table.offer(SignalSample("x.y", 0, "on"))
    assert table.at(2 * SECOND).value("x.y") == "on"
    assert table.at(2 * SECOND + 1).value("x.y") is None


def test_a_pulse_between_two_ticks_is_latched_once() -> None:
    table = SignalTable()
    table.offer(SignalSample("controller.enabled", 0, False))
    table.at(0)
    table.offer(SignalSample("controller.enabled", 10, True))
    table.offer(SignalSample("controller.enabled", 20, False))
    reader = table.at(50)
    assert reader.value("controller.enabled") is False
    assert [sample.value for sample in reader.samples("controller.enabled")] == [True, False]
    assert table.at(100).samples("controller.enabled") == ()


def test_a_sample_that_comes_after_its_tick_is_latched_by_the_next() -> None:
    table = SignalTable()
    table.at(100)
    assert table.offer(SignalSample("vehicle.brake_pressed", 90, True))
    assert [sample.time_ns for sample in table.at(200).samples("vehicle.brake_pressed")] == [90]


def test_samples_older_than_the_state_are_refused_and_counted() -> None:
    table = SignalTable()
    table.offer(SignalSample("x.y", 100, 1.0))
    table.at(100)
    assert not table.offer(SignalSample("x.y", 99, 2.0))
    assert not table.offer(SignalSample("x.y", 100, 2.0))
    assert table.at(200).value("x.y") == 1.0
    assert table.counters().refused_old == 2


def test_values_that_are_no_numbers_never_enter() -> None:
    table = SignalTable()
    assert not table.offer(SignalSample("x.y", 1, float("nan")))
    assert not table.offer(SignalSample("x.y", 2, float("inf")))
    assert table.at(5).value("x.y") is None
    assert table.counters().refused_invalid == 2


def test_memory_is_bounded_by_samples_and_by_signals() -> None:
    table = SignalTable()
    accepted = sum(table.offer(SignalSample("x.y", time_ns, 0.0)) for time_ns in range(1, 3000))
    assert accepted == MAX_WAITING_SAMPLES
    taken = sum(table.offer(SignalSample(f"x.s{number}", 1, 0.0)) for number in range(MAX_SIGNALS + 10))
    assert taken == MAX_SIGNALS - 1
    counters = table.counters()
    assert counters.refused_full == 2999 - MAX_WAITING_SAMPLES + 11
    assert len(table.at(5000).samples("x.y")) == MAX_WAITING_SAMPLES


@given(seed=st.integers(0, 1000))
def test_the_order_of_arrival_does_not_change_the_state(seed: int) -> None:
    """What two sources deliver in any interleaving gives the same values and the same latched samples."""
    noise = random.Random(seed)
    samples = [
        SignalSample(f"x.{noise.choice('abc')}", time_ns, float(time_ns))
        for time_ns in sorted(noise.sample(range(1000), 60))
    ]
    shuffled = list(samples)
    noise.shuffle(shuffled)
    in_order, mixed = SignalTable(default_timeout_s=1e-7), SignalTable(default_timeout_s=1e-7)
    for sample in samples:
        in_order.offer(sample)
    for sample in shuffled:
        mixed.offer(sample)
    for time_ns in range(0, 1100, 100):
        left, right = in_order.at(time_ns), mixed.at(time_ns)
        for name in ("x.a", "x.b", "x.c"):
            assert left.value(name) == right.value(name)
            assert left.samples(name) == right.samples(name)


def test_threads_lose_no_sample() -> None:
    table = SignalTable()

    def offer(name: str) -> None:
        for time_ns in range(1, 501):
            table.offer(SignalSample(name, time_ns, float(time_ns)))

    threads = [threading.Thread(target=offer, args=(f"x.s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    latched: dict[str, int] = {}
    while any(thread.is_alive() for thread in threads):
        _count(table, latched)
    _count(table, latched)
    assert latched == {f"x.s{number}": 500 for number in range(4)}


def _count(table: SignalTable, latched: dict[str, int]) -> None:
    reader = table.at(SECOND)
    for name in reader.names():
        latched[name] = latched.get(name, 0) + len(reader.samples(name))


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_timeouts_are_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        SignalTable({"x.y": timeout_s})


def test_first_press_of_a_button_is_an_edge_and_no_state_is_made_up() -> None:
    table = SignalTable({"vehicle.bookmark": 100.0}, 1.0, buttons=["vehicle.bookmark"])
    assert table.at(0).value("vehicle.bookmark") is None
    for time_ns, pressed in ((10, True), (20, False)):
        table.offer(SignalSample("vehicle.bookmark", time_ns, pressed))
    latched = table.at(30).samples("vehicle.bookmark")
    assert [sample.value for sample in latched] == [False, True, False]
    table.offer(SignalSample("vehicle.bookmark", 40, True))
    assert [sample.value for sample in table.at(50).samples("vehicle.bookmark")] == [True]
