"""Clips that are refused for good: however many, they hold up neither the session nor the clips behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.spool.clips import SpooledClip, Tombstone
from runtime.uplink import set_aside
from runtime.uplink.delivery import Delivery
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.set_aside import OFFERS_A_WAIT, SetAside
from runtime.uplink.wire import PROTOCOL_VERSION, Offer, State, Welcome, encode

SECOND_NS = 1_000_000_000
WAIT_S = 60
ROUND_TRIP_NS = SECOND_NS // 4


class Clips:
    """An outbox in memory: a spool would sync a thousand clips to its disk first."""

    def __init__(self, count: int) -> None:
        digests = {n: hashlib.sha256(str(n).encode()).hexdigest() for n in range(1, count + 1)}
        made = {n: SpooledClip(n, Path("none"), sha256, 10, Priority.LOW, {}, 0) for n, sha256 in digests.items()}
        self.waiting = made

    def pending(self, limit: int = 1000, without: Collection[int] = ()) -> list[SpooledClip]:
        return [clip for n, clip in self.waiting.items() if n not in without][:limit]

    def mark_delivered(self, n: int) -> bool:
        return self.waiting.pop(n, None) is not None

    def set_damaged_aside(self, n: int, reason: str) -> bool:
        raise AssertionError(f"clip {n}: {reason}")

    def unreported_tombstones(self, limit: int = 1000) -> list[Tombstone]:
        return []

    def mark_tombstone_reported(self, n: int) -> None:
        raise AssertionError(f"{n} is no tombstone")


@pytest.mark.parametrize("refused", [1005, 3000])
def test_a_thousand_clips_refused_for_good_do_not_keep_the_one_behind_them_from_coming(refused):
    clips = Clips(refused + 1)
    delivery = Delivery(clips, DeliveryLimits(), "test")
    delivery.begin_session(0)
    delivery.next_message(0)
    delivery.on_message([encode(Welcome(PROTOCOL_VERSION, 1 << 20, 1 << 18, 1 << 30)), b""], 0)
    for trip in range(3 * refused):
        now_ns = trip * ROUND_TRIP_NS
        while (outgoing := delivery.next_message(now_ns)) is not None:
            if isinstance(offer := outgoing[0], Offer):
                state = ("refused", (), "too_large") if offer.n <= refused else ("done",)
                delivery.on_message([encode(State(offer.n, offer.sha256, *state)), b""], now_ns)
        if refused + 1 not in clips.waiting:
            break
    assert list(clips.waiting) == list(range(1, refused + 1)), "and the others wait"


def released_after_s(aside: SetAside, n: int, since_s: int) -> int:
    """Whole seconds from `since_s` until clip `n` may be offered again."""
    for waited_s in range(10**6):
        aside.release((since_s + waited_s) * SECOND_NS)
        if n not in aside:
            return waited_s
    raise AssertionError(f"clip {n} is never offered again")


def test_a_few_are_offered_again_after_the_wait_itself():
    aside = SetAside(WAIT_S)
    for n in range(1, OFFERS_A_WAIT + 1):
        aside.add(n, n * SECOND_NS)
    assert released_after_s(aside, 1, 1) == WAIT_S
    assert released_after_s(aside, OFFERS_A_WAIT, OFFERS_A_WAIT) == WAIT_S


@pytest.mark.parametrize(("clips", "offered_a_wait"), [(50, 50), (100, 100), (300, 100)])
def test_all_of_many_together_are_offered_again_no_oftener_than_a_few(clips, offered_a_wait):
    aside, offered = SetAside(WAIT_S), 0
    for second in range(40 * WAIT_S):
        aside.release(second * SECOND_NS)
        for n in [n for n in range(clips) if n not in aside][:20]:
            aside.add(n, second * SECOND_NS)
            offered += second >= 10 * WAIT_S
    assert offered == pytest.approx(30 * offered_a_wait, rel=0.1)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(set_aside, "MAX_SET_ASIDE", 3)
    aside = SetAside(WAIT_S)
    for at, n in enumerate([7, 1, 2, 7, 3]):
        aside.add(n, at * SECOND_NS)
    assert set(aside.numbers) == {2, 7, 3}, "the one whose wait would have ended first is offered again instead"
