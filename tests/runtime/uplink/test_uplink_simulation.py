"""Both sides of the protocol over a network that loses, repeats and reorders, with crashes of both ends.

No sockets and no wall clock: the real `Delivery` on a real spool, the real `Reception` on a real store, and a seeded
schedule of faults between them. A sealed clip that does not arrive byte for byte, or leaves the vehicle before it is
stored, fails the seed.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink.delivery import Delivery, DeliveryLimits, SessionError
from runtime.uplink.reception import Reception
from runtime.uplink.store import ClipStore, StoreLimits
from runtime.uplink.wire import encode

CHUNK_BYTES = 100
CREDIT_BYTES = 350
STEP_NS = 100_000_000
LIMITS = DeliveryLimits(reply_timeout_s=2.0, refused_retry_s=3.0, refresh_s=0.2)
VEHICLE = "car-1"


class World:
    """One vehicle, one receiver, two queues of messages between them."""

    def __init__(self, directory: Path, rng: random.Random, faults: bool) -> None:
        self.directory = directory
        self.rng = rng
        self.faults = faults
        self.clock = ManualClock()
        self.up: list[list[bytes]] = []
        self.down: list[list[bytes]] = []
        self.content: dict[int, bytes] = {}
        self.boot_vehicle()
        self.boot_receiver()

    def boot_vehicle(self) -> None:
        self.spool = Spool.open(self.directory / "spool", 64 << 20, clock=self.clock)
        self.delivery = Delivery(self.spool, LIMITS, "simulation")
        self.connect()

    def boot_receiver(self) -> None:
        self.store = ClipStore(self.directory / "receiver", StoreLimits())
        self.store.recover(self.clock.wall_ns())
        self.reception = Reception(self.store, CREDIT_BYTES, CHUNK_BYTES)

    def connect(self) -> None:
        self.up.clear()
        self.down.clear()
        self.delivery.begin_session(self.clock.now_ns())

    def seal(self, size: int, priority: Priority = Priority.NORMAL) -> int:
        draft = self.spool.begin(size, priority)
        content = self.rng.randbytes(size)
        draft.path.write_bytes(content)
        clip = self.spool.seal(draft, {"size": size})
        self.content[clip.n] = content
        return clip.n

    def chance(self, probability: float) -> bool:
        return self.faults and self.rng.random() < probability

    def step(self) -> None:
        self.clock.advance_to(self.clock.now_ns() + STEP_NS)
        now_ns = self.clock.now_ns()
        while (outgoing := self.delivery.next_message(now_ns)) is not None:
            self.up.append([encode(outgoing[0]), outgoing[1]])
        for frames in self.through_the_network(self.up):
            self.reply(self.reception.handle(VEHICLE, frames, self.clock.wall_ns()))
        self.reply(self.reception.flush(self.clock.wall_ns()))
        try:
            for frames in self.through_the_network(self.down):
                self.delivery.on_message(frames, now_ns)
        except SessionError:
            self.connect()
        if self.delivery.is_overdue(now_ns):
            self.connect()

    def reply(self, replies) -> None:
        self.down += [[encode(message), b""] for _, message, _ in replies]

    def through_the_network(self, queue: list[list[bytes]]) -> list[list[bytes]]:
        arrived = []
        for frames in queue:
            if self.chance(0.05):
                continue
            arrived += [frames] * (2 if self.chance(0.1) else 1)
        if self.chance(0.2):
            self.rng.shuffle(arrived)
        queue.clear()
        return arrived

    def crash_something(self) -> None:
        if self.chance(0.03):
            self.spool.close()
            self.boot_vehicle()
        if self.chance(0.03):
            self.store.close()
            self.boot_receiver()
            self.connect()

    def check_nothing_is_lost(self) -> None:
        stored = {clip.key.n: clip.path.read_bytes() for clip in self.store.catalogue.clips(self.store.directory)}
        pending = {clip.n: clip.path.read_bytes() for clip in self.spool.pending()}
        for n, content in self.content.items():
            assert stored.get(n) == content or pending.get(n) == content, f"clip {n} is nowhere"
        assert self.spool.counts().is_gapless


@pytest.fixture
def world(tmp_path):
    created: list[World] = []

    def create(seed: int, faults: bool) -> World:
        created.append(World(tmp_path, random.Random(seed), faults))
        return created[-1]

    yield create
    for each in created:
        each.spool.close()
        each.store.close()


@pytest.mark.parametrize("seed", range(25))
def test_every_clip_arrives_once_whatever_the_network_does(world, seed):
    simulated = world(seed, faults=True)
    for _ in range(4):
        simulated.seal(simulated.rng.randint(1, 1500), simulated.rng.choice(list(Priority)))
    for _ in range(2000):
        simulated.step()
        simulated.crash_something()
        simulated.check_nothing_is_lost()
        if simulated.spool.counts().delivered == len(simulated.content):
            break
    assert simulated.spool.counts().delivered == len(simulated.content)
    assert len(simulated.store.catalogue.clips(simulated.store.directory)) == len(simulated.content)
    assert simulated.store.catalogue.partials() == []


def test_a_calm_network_carries_every_byte_exactly_once(world):
    simulated = world(1, faults=False)
    for size in (1, 100, 101, 999):
        simulated.seal(size)
    for _ in range(30):
        simulated.step()
    assert simulated.delivery.statistics.bytes_sent == 1 + 100 + 101 + 999
    assert simulated.delivery.statistics.clips_delivered == 4
    assert not simulated.delivery.statistics.nacks


def test_a_safety_clip_overtakes_at_the_next_chunk(world):
    simulated = world(1, faults=False)
    low = simulated.seal(5000, Priority.LOW)
    for _ in range(5):
        simulated.step()
    assert simulated.delivery.statistics.bytes_sent > 0
    safety = simulated.seal(500, Priority.SAFETY)
    for _ in range(8):
        simulated.step()
    stored = [clip.key.n for clip in simulated.store.catalogue.clips(simulated.store.directory)]
    assert stored == [safety]
    for _ in range(40):
        simulated.step()
    assert {clip.key.n for clip in simulated.store.catalogue.clips(simulated.store.directory)} == {low, safety}
    assert simulated.delivery.statistics.bytes_sent == 5500, "nothing was sent twice for that"


def test_the_credit_is_never_exceeded(world):
    simulated = world(1, faults=False)
    simulated.seal(5000)
    for _ in range(3):
        simulated.step()
    before = simulated.delivery.statistics.bytes_sent
    simulated.clock.advance_to(simulated.clock.now_ns() + STEP_NS)
    while simulated.delivery.next_message(simulated.clock.now_ns()) is not None:
        pass  # the receiver says nothing meanwhile
    assert 0 < simulated.delivery.statistics.bytes_sent - before <= CREDIT_BYTES


def test_a_lost_done_costs_one_offer_and_no_bytes(world):
    simulated = world(1, faults=False)
    simulated.seal(300)
    while not simulated.store.catalogue.clips(simulated.store.directory):
        simulated.down.clear()
        simulated.step()
        simulated.up.clear()
    simulated.spool.close()
    sent = simulated.delivery.statistics.bytes_sent
    simulated.boot_vehicle()  # dies before it hears DONE
    for _ in range(5):
        simulated.step()
    assert sent == 300
    assert simulated.delivery.statistics.bytes_sent == 0
    assert simulated.spool.counts().delivered == 1


def test_after_a_receiver_crash_sending_goes_on_at_the_durable_byte(world):
    simulated = world(1, faults=False)
    simulated.seal(3000)
    for _ in range(6):
        simulated.step()
    (partial,) = simulated.store.catalogue.partials()
    durable_bytes = sum(b - a for a, b in partial.ranges)
    assert 0 < durable_bytes < 3000
    simulated.store.close()
    simulated.boot_receiver()
    simulated.connect()
    before = simulated.delivery.statistics.bytes_sent
    for _ in range(40):
        simulated.step()
    assert simulated.spool.counts().delivered == 1
    assert simulated.delivery.statistics.bytes_sent - before == 3000 - durable_bytes


def test_a_clip_evicted_while_it_is_sent_is_entombed_at_both_ends(world):
    simulated = world(1, faults=False)
    n = simulated.seal(3000)
    other = simulated.seal(100, Priority.BACKGROUND)
    for _ in range(5):
        simulated.step()
    simulated.spool.tombstone(n, "evicted to make room")
    for _ in range(20):
        simulated.step()
    assert simulated.store.catalogue.tombstones(VEHICLE) == {n: "evicted to make room"}
    assert simulated.store.catalogue.partials() == []
    assert simulated.spool.unreported_tombstones() == []
    assert simulated.spool.clip(other).state.value == "delivered"


def test_a_clip_damaged_on_the_vehicle_is_entombed_not_delivered(world):
    simulated = world(1, faults=False)
    n = simulated.seal(300)
    path = simulated.spool.clip(n).path
    path.write_bytes(bytes(300))
    for _ in range(20):
        simulated.step()
    assert simulated.delivery.statistics.nacks["bad_file_hash"] == 1
    assert "damaged" in simulated.spool.clip(n).reason
    assert simulated.store.catalogue.clips(simulated.store.directory) == []
    assert "damaged" in simulated.store.catalogue.tombstones(VEHICLE)[n]


def test_a_clip_that_ends_early_on_the_vehicle_is_entombed(world):
    simulated = world(1, faults=False)
    n = simulated.seal(300)
    with simulated.spool.clip(n).path.open("r+b") as stream:
        stream.truncate(150)
    for _ in range(10):
        simulated.step()
    assert "ends at 150" in simulated.spool.clip(n).reason


def test_a_refused_clip_waits_and_does_not_hold_up_the_others(world):
    simulated = world(1, faults=False)
    simulated.store.limits = StoreLimits(max_clip_bytes=1000)
    large = simulated.seal(2000, Priority.SAFETY)
    small = simulated.seal(200)
    for _ in range(20):
        simulated.step()
    assert simulated.spool.clip(small).state.value == "delivered"
    assert simulated.spool.clip(large).state.value == "pending"
    assert simulated.delivery.statistics.refused["too_large"] >= 1
    simulated.store.limits = StoreLimits()
    for _ in range(60):
        simulated.step()
    assert simulated.spool.clip(large).state.value == "delivered"


def test_a_full_receiver_refuses_and_takes_the_clip_when_there_is_room(world):
    simulated = world(1, faults=False)
    simulated.store.depot._disk_free = lambda directory: 0
    n = simulated.seal(200)
    for _ in range(10):
        simulated.step()
    assert simulated.delivery.statistics.refused["receiver_full"] == 1
    simulated.store.depot._disk_free = lambda directory: 1 << 40
    for _ in range(60):
        simulated.step()
    assert simulated.spool.clip(n).state.value == "delivered"


def test_a_bandwidth_cap_spreads_the_bytes_over_time(world):
    simulated = world(1, faults=False)
    simulated.delivery = Delivery(simulated.spool, DeliveryLimits(max_bytes_per_s=100_000, refresh_s=0.2), "capped")
    simulated.connect()
    simulated.reception = Reception(simulated.store, 8 << 20)
    simulated.seal(1_500_000)
    for _ in range(30):
        simulated.step()
    # Two chunks at once, one more that overdraws, then 100 kB each second.
    assert simulated.delivery.statistics.bytes_sent <= 3 * 262_144 + 3 * 100_000
    for _ in range(90):
        simulated.step()
    assert simulated.spool.counts().delivered == 1
