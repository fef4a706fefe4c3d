from __future__ import annotations

import numpy as np
import pytest

from calibration.int8.agreement import OPENINGS, SpeedComparison, compare_speed, median_interval

FEEDS = [{"x": np.zeros(1)}]


class Machine:
    """A clock that only networks move; `burden` makes the whole machine slower for a while."""

    def __init__(self, burden: list[float]) -> None:
        self.now_s = 0.0
        self.runs = 0
        self._burden = burden

    def network(self, seconds: float, jitter: float = 0.0) -> FakeNetwork:
        return FakeNetwork(self, seconds, jitter)

    def spend(self, seconds: float) -> None:
        self.now_s += seconds * self._burden[self.runs // 2 % len(self._burden)]
        self.runs += 1


class FakeNetwork:
    def __init__(self, machine: Machine, seconds: float, jitter: float) -> None:
        self._machine, self._seconds = machine, seconds
        self._generator, self._jitter = np.random.default_rng(int(seconds * 1e6)), jitter

    def jitter_with(self, generator: np.random.Generator, jitter: float) -> None:
        self._generator, self._jitter = generator, jitter

    def run(self, feed: object) -> dict[str, object]:
        self._machine.spend(self._seconds * (1.0 + self._jitter * self._generator.standard_normal()))
        return {}


def timed(fp32_s: float, int8_s: float, jitter: float = 0.0, burden: list[float] | None = None) -> SpeedComparison:
    machine = Machine(burden or [1.0])
    return compare(machine, {b"fp32": machine.network(fp32_s, jitter), b"int8": machine.network(int8_s, jitter)})


def compare(machine: Machine, networks: dict[bytes, FakeNetwork]) -> SpeedComparison:
    """As `compare_speed` does it, on a machine of the test's own."""
    return compare_speed(b"fp32", b"int8", FEEDS, clock=lambda: machine.now_s, opened=lambda file: networks[file])  # type: ignore[index]


def test_the_ratio_is_that_of_the_medians() -> None:
    speed = timed(0.030, 0.012)
    assert speed.speed_up == pytest.approx(2.5)
    assert (speed.fp32_ms, speed.int8_ms) == (pytest.approx(30.0), pytest.approx(12.0))
    assert speed.is_faster
    assert "2.50 times as fast" in speed.statement
    assert speed.statement.endswith("faster")


def test_a_machine_that_is_slow_for_a_while_changes_nothing() -> None:
    assert timed(0.030, 0.020, burden=[1.0, 1.0, 7.0, 3.0]).speed_up == pytest.approx(1.5)


def test_slower_is_said() -> None:
    speed = timed(0.020, 0.030)
    assert speed.is_slower
    assert not speed.is_faster
    assert "slower" in speed.statement


def test_what_cannot_be_told_is_not_told() -> None:
    speed = timed(0.0200, 0.02001, jitter=0.2)
    assert speed.low <= 1.0 <= speed.high
    assert not speed.is_faster
    assert not speed.is_slower
    assert "neither" in speed.statement


@pytest.mark.parametrize("int8_s", [0.012, 0.01995, 0.020, 0.030])
def test_the_number_of_openings_does_not_depend_on_what_they_show(int8_s: float) -> None:
    assert timed(0.020, int8_s, jitter=0.05).openings == OPENINGS


def test_equal_files_are_called_faster_no_more_often_than_is_said() -> None:
    """With 95 % confidence at most one comparison in forty calls a file faster that is not."""
    called = sum(one_of_many(seed).is_faster for seed in range(400))
    assert called <= 400 * 0.025 + 3 * (400 * 0.025 * 0.975) ** 0.5


def one_of_many(seed: int) -> SpeedComparison:
    """Two files of the same speed on a noisy machine; where memory comes to lie moves each opening by 3 %."""
    machine, generator = Machine([1.0]), np.random.default_rng(seed)

    def opened(file: object) -> FakeNetwork:
        network = machine.network(0.02 * (1.0 + 0.03 * generator.standard_normal()))
        network.jitter_with(generator, 0.05)
        return network

    return compare_speed(b"", b"", FEEDS, clock=lambda: machine.now_s, opened=opened)


def test_the_interval_is_that_of_the_tables() -> None:
    # Of 12 values the 3rd and the 10th hold the median with 96.1 %, of 6 the ends with 96.9 %.
    assert median_interval([float(value) for value in range(1, 13)]) == (3.0, 10.0)
    assert median_interval([float(value) for value in range(6, 0, -1)]) == (1.0, 6.0)
    assert median_interval([4.0]) == (4.0, 4.0)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="no feeds"):
        compare_speed(b"", b"", [])
    with pytest.raises(ValueError, match="openings is 3"):
        compare_speed(b"", b"", FEEDS, openings=3)
