"""Links of a few kilobytes a second: what is sent queues for long behind what was sent before, and the link is alive.

The real delivery and the real reception, and between them a line that carries one byte after the other, in order.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest
from simulated_uplink import World

from runtime.messages import Priority
from runtime.uplink.delivery import Delivery
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.reception import Reception
from runtime.uplink.wire import State

STEP_NS = 100_000_000
SECOND_NS = 1_000_000_000
#: What CURVE, ZeroMQ and TCP add to a message of two frames.
OVERHEAD_BYTES = 150


class SlowLink:
    """A `World` whose line upward is slow; downward goes everything at once."""

    def __init__(self, directory: Path, bytes_per_s: float) -> None:
        self.world = World(directory, random.Random(1))
        self.car = self.world.car
        self.car.delivery = Delivery(self.car.spool, DeliveryLimits(), "slow")
        self.world.reception = Reception(self.world.store, 8 << 20)
        self.car.connect()
        self._bytes_per_s = bytes_per_s
        self._line: deque[tuple[int, list[bytes]]] = deque()  # and when it has come out
        self._free_ns = 0

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(int(seconds * SECOND_NS) // STEP_NS):
            self._step()

    def seconds_until_settled(self, most_s: int) -> int:
        """Whole seconds until everything is delivered and told."""
        for second in range(most_s):
            if self.car.is_settled():
                return second
            self.run(1)
        raise AssertionError(f"not delivered in {most_s} s: {self.car.delivery.statistics}")

    def _step(self) -> None:
        world, car = self.world, self.car
        now_ns = world.clock.now_ns() + STEP_NS
        world.clock.advance_to(now_ns)
        car.sends()
        for frames in car.arrived_at_receiver():
            took_s = (sum(map(len, frames)) + OVERHEAD_BYTES) / self._bytes_per_s
            self._free_ns = max(self._free_ns, now_ns) + int(took_s * SECOND_NS)
            self._line.append((self._free_ns, frames))
        while self._line and self._line[0][0] <= now_ns:
            world.reply(world.reception.handle(car.name, self._line.popleft()[1], world.wall_ns()))
        world.reply(world.reception.flush(world.wall_ns()))
        links = car.reset_links
        car.hears()
        if car.reset_links != links:  # what was under way is lost with its connection
            self._line.clear()
            self._free_ns = now_ns


@pytest.fixture
def slow(tmp_path):
    created: list[SlowLink] = []

    def create(bytes_per_s: float) -> SlowLink:
        created.append(SlowLink(tmp_path, bytes_per_s))
        return created[-1]

    yield create
    for each in created:
        each.world.close()


@pytest.mark.parametrize("bytes_per_s", [1_100, 2_000])
def test_a_slow_link_that_lives_carries_every_byte_once_in_one_session(slow, bytes_per_s):
    link = slow(bytes_per_s)
    sizes = 60_000, 20_000, 10
    link.car.seal(sizes[0], Priority.LOW)
    link.run(20)
    link.car.seal(sizes[1], Priority.SAFETY)
    link.car.entomb(link.car.seal(1))
    link.car.seal(sizes[2])
    link.seconds_until_settled(2 * sum(sizes) // bytes_per_s)
    statistics = link.car.delivery.statistics
    assert link.car.reset_links == 2, "the one of its boot and the one of this test"
    assert statistics.bytes_sent == sum(sizes)
    link.world.check_nothing_is_lost()


def test_an_answer_lost_on_a_slow_link_is_missed_in_minutes_while_others_come(slow):
    link = slow(2_000)
    link.car.seal(400_000, Priority.LOW)
    link.run(30)
    safety = link.car.seal(1_000, Priority.SAFETY)
    while not lost_states(link, safety):
        pass
    link.run(3 * 60)
    assert link.car.spool.clip(safety).state.value == "delivered"
    assert link.car.reset_links == 3


def lost_states(link: SlowLink, n: int) -> int:
    """One step, in which the receiver's STATEs of this clip are lost; how many those were."""
    reply = link.world.reply
    lost = []

    def losing(replies):
        lost.extend(one for one in replies if isinstance(one[1], State) and one[1].n == n)
        reply([one for one in replies if one not in lost])

    link.world.reply = losing
    link._step()
    link.world.reply = reply
    return len(lost)


def test_a_silent_link_is_dead_after_fifteen_seconds_however_slow_it_was(slow):
    link = slow(2_000)
    link.car.seal(400_000)
    link.run(20)
    link._bytes_per_s = 1e-3  # nothing passes any more
    link._line.clear()
    silent_since_ns = link.world.clock.now_ns()
    while link.car.reset_links == 2:
        link._step()
    assert link.world.clock.now_ns() - silent_since_ns <= 15 * SECOND_NS + STEP_NS
