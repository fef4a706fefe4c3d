"""A clock that is wrong lets no clip expire: not a receiver's own, and not the clock of one among many."""

from __future__ import annotations

import threading
import time

import pytest
from store_steps import NOW_NS, row, stored, take_in

from runtime.clock import SystemClock
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.keys import EnrolledVehicles, ensure_keys
from runtime.uplink.receiver import Receiver, ReceiverSettings
from runtime.uplink.storage.housekeeping import TIDY_PERIOD_NS, HousekeepingThread
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.opening import StoragePlaces
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy
from runtime.uplink.storage.retention_clock import DOUBTFUL_TURNS, ClockError, check_clock
from runtime.uplink.store import ClipStore

POLICY = RetentionPolicy(clips_days=30.0)
FAR_NS = NOW_NS + 40 * DAY_NS


def numbers(store) -> list[int]:
    return [n for _, n, _ in stored(store)]


@pytest.fixture
def alone(tmp_path, settled):
    store = ClipStore(tmp_path, StoreLimits())
    take_in(store, settled, row(1))
    yield store
    store.close()


@pytest.mark.parametrize("has_run_before", [False, True])
def test_a_clock_that_jumped_expires_nothing_and_says_so(alone, settled, has_run_before):
    housekeeping = HousekeepingThread(alone, POLICY, None)
    if has_run_before:
        housekeeping.turn(NOW_NS + 1)
    for turn in range(3):
        housekeeping.turn(FAR_NS + turn * TIDY_PERIOD_NS)
        take_in(alone, settled, row(2 + turn), wall_ns=FAR_NS)  # stamped by the same wrong clock: no evidence
    assert numbers(alone) == [1, 2, 3, 4]
    assert "it is 2023-12-24" in housekeeping.figures["last_trouble"]
    housekeeping.turn(NOW_NS + DAY_NS)
    housekeeping.turn(NOW_NS + DAY_NS + TIDY_PERIOD_NS)
    assert housekeeping.troubles.count == 3, "set right, it is believed again"


def test_after_a_long_rest_clips_expire_when_the_receiver_has_run_a_day_also_in_pieces(alone):
    HousekeepingThread(alone, POLICY, None).turn(NOW_NS)
    for piece in range(2):
        housekeeping = HousekeepingThread(alone, POLICY, None)
        for turn in range(DOUBTFUL_TURNS // 2 + 1):
            assert numbers(alone) == [1]
            housekeeping.turn(FAR_NS + (piece * DOUBTFUL_TURNS + turn) * TIDY_PERIOD_NS)
    assert numbers(alone) == []


def test_a_clock_that_goes_on_jumping_is_never_believed(alone):
    HousekeepingThread(alone, POLICY, None).turn(NOW_NS)
    housekeeping = HousekeepingThread(alone, POLICY, None)
    for turn in range(DOUBTFUL_TURNS + 10):
        housekeeping.turn(FAR_NS + turn * 2 * DAY_NS)
    assert numbers(alone) == [1]


def test_one_receivers_clock_expires_nothing_of_a_fleet_that_shares_a_database(postgres, tmp_path, settled):
    catalogue = Catalogue(postgres.new_database())
    store = ClipStore(tmp_path, StoreLimits(), catalogue=catalogue)
    now_ns = time.time_ns()
    take_in(store, settled, row(1), wall_ns=now_ns)
    housekeeping = HousekeepingThread(store, POLICY, None)
    housekeeping.turn(now_ns + 40 * DAY_NS)
    assert numbers(store) == [1]
    assert "clock is 960.0 h ahead of" in housekeeping.figures["last_trouble"]
    for wrong_ns in (now_ns + DAY_NS, now_ns - DAY_NS):
        with pytest.raises(ClockError, match=r"24\.0 h"):
            check_clock(catalogue.database, wrong_ns)
    check_clock(catalogue.database, now_ns)
    store.close()


class WrongClock(SystemClock):
    """A day behind: what it stamps would expire a day early."""

    def wall_ns(self) -> int:
        return super().wall_ns() - DAY_NS


def test_a_receiver_with_a_wrong_clock_does_not_serve_a_shared_catalogue(postgres, tmp_path):
    places = StoragePlaces(tmp_path, catalogue_url=postgres.new_database())
    settings = ReceiverSettings("tcp://127.0.0.1:*", tmp_path, tmp_path / "keys", places=places)
    own = ensure_keys(settings.keys_directory, "receiver")
    enrolled = EnrolledVehicles(settings.keys_directory)
    receiver = Receiver(settings, own, enrolled, WrongClock(), lambda figures: None)
    with pytest.raises(ClockError, match="behind"):
        receiver.run(threading.Event())
