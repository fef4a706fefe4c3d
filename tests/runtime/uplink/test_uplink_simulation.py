"""Both sides of the protocol over a network that loses, repeats and reorders, with crashes of both ends.

Seeded lives of a whole vehicle and receiver (`simulated_uplink`): a sealed clip that does not arrive byte for byte, or
leaves the vehicle before it is stored, fails its seed. Then single situations, each by itself.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from simulated_life import run_seed
from simulated_uplink import CREDIT_BYTES, STEP_NS, VEHICLE, World

from runtime.formats.pull_files import PullAnswer
from runtime.messages import Priority
from runtime.uplink import clip_bytes
from runtime.uplink.delivery import Delivery
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.reception import Reception
from runtime.uplink.store import StoreLimits
from runtime.uplink.transfer import Phase, Transfer
from runtime.uplink.wire import Nack

MEMORY = Path("/dev/shm")
SEEDS_IN_CI = 80
SEEDS_IN_SWEEP = 10_080
BLOCKS = 24


@pytest.fixture
def quick_directory(tmp_path):
    """In memory where there is such a file system: nothing here is about the disk's own durability."""
    directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else tmp_path))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def world(quick_directory):
    created: list[World] = []

    def create(seed: int) -> World:
        created.append(World(quick_directory, random.Random(seed)))
        return created[-1]

    yield create
    for each in created:
        each.close()


def live(seeds: range, directory: Path, happened: Counter[str]) -> None:
    """Every seed in an empty folder; adds up what the faults were."""
    place = directory / "life"
    for seed in seeds:
        with pytest.MonkeyPatch.context() as patch:
            try:
                ended = run_seed(place, seed, patch)
            except BaseException as error:
                error.add_note(f"seed {seed}") if hasattr(error, "add_note") else None
                raise
        happened += Counter(ended.happened())
        shutil.rmtree(place)


@pytest.mark.parametrize("block", range(8))
def test_every_clip_arrives_once_whatever_happens(quick_directory, block):
    happened: Counter[str] = Counter()
    live(range(block * SEEDS_IN_CI // 8, (block + 1) * SEEDS_IN_CI // 8), quick_directory, happened)
    assert min(happened.values()) > 0, happened


@pytest.mark.sweep
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_clip_arrives_once_over_ten_thousand_seeds(quick_directory, block, sweep_size, tally):
    a_block = sweep_size(SEEDS_IN_SWEEP // BLOCKS)
    first = SEEDS_IN_CI + block * a_block
    live(range(first, first + a_block), quick_directory, Counter())
    tally("seeds simulated", "delivery", a_block)


def test_a_late_ack_does_not_answer_an_offer_whose_state_is_lost(quick_directory, monkeypatch):
    """The session would have waited for ever, with a clip in it."""
    run_seed(quick_directory / "life", 9877, monkeypatch)


def test_a_calm_network_carries_every_byte_exactly_once(world):
    simulated = world(1)
    for size in (1, 100, 101, 999):
        simulated.car.seal(size)
    for _ in range(30):
        simulated.step()
    assert simulated.car.delivery.statistics.bytes_sent == 1 + 100 + 101 + 999
    assert simulated.car.delivery.statistics.clips_delivered == 4
    assert not simulated.car.delivery.statistics.nacks


def test_a_safety_clip_overtakes_at_the_next_chunk(world):
    simulated = world(1)
    low = simulated.car.seal(5000, Priority.LOW)
    for _ in range(5):
        simulated.step()
    assert simulated.car.delivery.statistics.bytes_sent > 0
    safety = simulated.car.seal(500, Priority.SAFETY)
    for _ in range(8):
        simulated.step()
    stored = [clip.key.n for clip in simulated.store.catalogue.clips(simulated.store.directory)]
    assert stored == [safety]
    for _ in range(40):
        simulated.step()
    assert {clip.key.n for clip in simulated.store.catalogue.clips(simulated.store.directory)} == {low, safety}
    assert simulated.car.delivery.statistics.bytes_sent == 5500, "nothing was sent twice for that"


def test_the_credit_is_never_exceeded(world):
    simulated = world(1)
    simulated.car.seal(5000)
    for _ in range(3):
        simulated.step()
    before = simulated.car.delivery.statistics.bytes_sent
    simulated.clock.advance_to(simulated.clock.now_ns() + STEP_NS)
    while simulated.car.delivery.next_message(simulated.clock.now_ns()) is not None:
        pass  # the receiver says nothing meanwhile
    assert 0 < simulated.car.delivery.statistics.bytes_sent - before <= CREDIT_BYTES


def test_a_lost_done_costs_one_offer_and_no_bytes(world):
    simulated = world(1)
    simulated.car.seal(300)
    while not simulated.store.catalogue.clips(simulated.store.directory):
        simulated.car.down.clear()
        simulated.step()
        simulated.car.up.clear()
    simulated.car.spool.close()
    sent = simulated.car.delivery.statistics.bytes_sent
    simulated.car.boot()  # dies before it hears DONE
    for _ in range(5):
        simulated.step()
    assert sent == 300
    assert simulated.car.delivery.statistics.bytes_sent == 0
    assert simulated.car.spool.counts().delivered == 1


def test_after_a_receiver_crash_sending_goes_on_at_the_durable_byte(world):
    simulated = world(1)
    simulated.car.seal(3000)
    for _ in range(6):
        simulated.step()
    (partial,) = simulated.store.catalogue.partials()
    durable_bytes = sum(b - a for a, b in partial.ranges)
    assert 0 < durable_bytes < 3000
    simulated.store.close()
    simulated.boot_receiver()
    simulated.car.connect()
    before = simulated.car.delivery.statistics.bytes_sent
    for _ in range(40):
        simulated.step()
    assert simulated.car.spool.counts().delivered == 1
    assert simulated.car.delivery.statistics.bytes_sent - before == 3000 - durable_bytes


def test_a_clip_evicted_while_it_is_sent_is_entombed_at_both_ends(world):
    simulated = world(1)
    n = simulated.car.seal(3000)
    other = simulated.car.seal(100, Priority.BACKGROUND)
    for _ in range(5):
        simulated.step()
    simulated.car.spool.tombstone(n, "evicted to make room")
    for _ in range(20):
        simulated.step()
    assert simulated.store.catalogue.tombstones(VEHICLE) == {n: "evicted to make room"}
    assert simulated.store.catalogue.partials() == []
    assert simulated.car.spool.unreported_tombstones() == []
    assert simulated.car.spool.clip(other).state.value == "delivered"


@contextmanager
def no_descriptors_left():
    """Every further open fails, as in a process that has used its own up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def disk_that_cannot_read():
    """The disk answers EIO; the file itself is as it was."""

    def failing(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", failing)
        patch.setattr(clip_bytes, "sha256_of", failing)
        yield


@pytest.mark.parametrize(("trouble", "name"), [(no_descriptors_left, "EMFILE"), (disk_that_cannot_read, "EIO")])
def test_a_clip_that_cannot_be_read_now_is_kept_and_delivered_later(world, trouble, name):
    simulated = world(1)
    n = simulated.car.seal(300)
    simulated.step()  # HELLO, OFFER: the chunks are next
    now_ns = simulated.clock.now_ns()
    while (
        simulated.car.delivery._transfers.get(n) is None
        or simulated.car.delivery._transfers[n].phase is not Phase.SENDING
    ):
        simulated.car.sends()
        simulated.receiver_works()
        simulated.car.hears()
    simulated.car.delivery._refresh_ns = now_ns + STEP_NS  # nothing but the clip's file is opened
    with trouble():
        assert simulated.car.delivery.next_message(now_ns) is None
    statistics = simulated.car.delivery.statistics
    assert (statistics.clips_unreadable, statistics.clips_damaged) == (1, 0)
    assert name in statistics.last_unreadable
    assert simulated.car.spool.clip(n).path.read_bytes() == simulated.car.content[n]
    for _ in range(60):
        simulated.step()
    assert simulated.stored() == {n}


def test_a_clip_that_cannot_be_hashed_after_a_bad_file_hash_is_kept(world):
    simulated = world(1)
    n = simulated.car.seal(300)
    transfer = Transfer(simulated.car.spool.pending()[0])
    with disk_that_cannot_read():
        simulated.car.delivery._on_nack(transfer, Nack("bad_file_hash", "", n, transfer.digest, 0), 0)
    assert simulated.car.spool.clip(n).state.value == "pending"
    assert simulated.car.delivery.statistics.clips_unreadable == 1


def test_a_clip_damaged_on_the_vehicle_is_entombed_not_delivered_and_kept_to_be_looked_at(world):
    simulated = world(1)
    n = simulated.car.seal(300)
    (path := simulated.car.spool.clip(n).path).write_bytes(bytes(300))
    for _ in range(20):
        simulated.step()
    assert simulated.car.delivery.statistics.nacks["bad_file_hash"] == 1
    assert "damaged" in simulated.car.spool.clip(n).reason
    assert simulated.store.catalogue.clips(simulated.store.directory) == []
    assert "damaged" in simulated.store.catalogue.tombstones(VEHICLE)[n]
    assert [aside.path.name for aside in simulated.car.spool.partial()] == [f"damaged-{path.name}"]


def test_a_clip_that_ends_early_on_the_vehicle_is_entombed(world):
    simulated = world(1)
    n = simulated.car.seal(300)
    with simulated.car.spool.clip(n).path.open("r+b") as stream:
        stream.truncate(150)
    for _ in range(10):
        simulated.step()
    assert "ends at 150" in simulated.car.spool.clip(n).reason


def test_a_refused_clip_waits_and_does_not_hold_up_the_others(world):
    simulated = world(1)
    simulated.store.limits = StoreLimits(max_clip_bytes=1000)
    large = simulated.car.seal(2000, Priority.SAFETY)
    small = simulated.car.seal(200)
    for _ in range(20):
        simulated.step()
    assert simulated.car.spool.clip(small).state.value == "delivered"
    assert simulated.car.spool.clip(large).state.value == "pending"
    assert simulated.car.delivery.statistics.refused["too_large"] >= 1
    simulated.store.limits = StoreLimits()
    for _ in range(60):
        simulated.step()
    assert simulated.car.spool.clip(large).state.value == "delivered"


def test_a_refused_notice_waits_and_holds_up_neither_the_session_nor_the_others(world):
    simulated = world(1)
    simulated.store.limits = StoreLimits(vehicle_tombstones=1)
    told, refused = simulated.car.seal(100), simulated.car.seal(100)
    for n in (told, refused):
        simulated.car.spool.tombstone(n, "evicted to make room")
    with simulated.desk.out_of_order():
        simulated.ask("refused-pull")
        simulated.car.recorder.answer(PullAnswer("refused-pull", "refused", "history has nothing of it"))
        other = simulated.car.seal(200)
        for _ in range(100):
            simulated.step()
    statistics = simulated.car.delivery.statistics
    assert statistics.sessions == 1, "nothing is overdue"
    assert simulated.car.spool.clip(other).state.value == "delivered"
    assert set(simulated.store.catalogue.tombstones(VEHICLE)) == {told}
    assert statistics.nacks["storage"] > 1, "the answer to the pull was told again"
    assert 4 <= statistics.nacks["vehicle_quota"] <= 5, "every three seconds, see LIMITS"
    simulated.store.limits = StoreLimits()
    for _ in range(40):
        simulated.step()
    assert set(simulated.store.catalogue.tombstones(VEHICLE)) == {told, refused}
    assert set(simulated.desk.answers) == {"refused-pull"}
    assert statistics.sessions == 1


def test_what_was_refused_is_not_told_again_at_once_by_a_new_session(world):
    simulated = world(1)
    simulated.store.limits = StoreLimits(vehicle_tombstones=0)
    simulated.car.spool.tombstone(simulated.car.seal(100), "evicted to make room")
    for _ in range(5):
        simulated.step()
    for _ in range(4):
        simulated.car.connect()
        simulated.step()
    assert simulated.car.delivery.statistics.nacks["vehicle_quota"] == 1


def test_a_full_receiver_refuses_and_takes_the_clip_when_there_is_room(world):
    simulated = world(1)
    simulated.store.depot._disk_free = lambda directory: 0
    n = simulated.car.seal(200)
    for _ in range(10):
        simulated.step()
    assert simulated.car.delivery.statistics.refused["receiver_full"] == 1
    simulated.store.depot._disk_free = lambda directory: 1 << 40
    for _ in range(60):
        simulated.step()
    assert simulated.car.spool.clip(n).state.value == "delivered"


def test_a_bandwidth_cap_spreads_the_bytes_over_time(world):
    simulated = world(1)
    simulated.car.delivery = Delivery(
        simulated.car.spool, DeliveryLimits(max_bytes_per_s=100_000, refresh_s=0.2), "capped"
    )
    simulated.car.connect()
    simulated.reception = Reception(simulated.store, 8 << 20)
    simulated.car.seal(1_500_000)
    for _ in range(30):
        simulated.step()
    # A second's worth at once, a chunk of half a second that overdraws, then 100 kB each second.
    assert 300_000 <= simulated.car.delivery.statistics.bytes_sent <= 150_000 + 3 * 100_000
    for _ in range(120):
        simulated.step()
    assert simulated.car.spool.counts().delivered == 1
