"""Links that go silent, break off, lose half of everything: sending goes on at the durable byte, within one window."""

from __future__ import annotations

import time

import pytest
from fault_bench import Bench
from impaired_link import Conditions, ImpairedLink
from waste_meter import MOST_WASTE_BYTES, WasteMeter

from runtime.messages import Priority
from runtime.spool import Spool

MEBIBYTE = 1 << 20


def wait_for_complaint(bench: Bench) -> None:
    """The vehicle has noticed that the link is dead."""
    bench.wait(lambda: "does not answer" in bench.uploader_status().get("last_error", ""), "the dead link to be seen")


def test_a_link_black_holed_mid_chunk_is_noticed_and_goes_on_at_its_durable_byte(bench):
    size = 6 * MEBIBYTE
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port) as link:
        bench.seal(spool, size)
        uploader = bench.start_uploader(link.address, rate_bytes_per_s=2 * MEBIBYTE, reply_timeout_s=1.0)
        bench.wait(lambda: bench.durable_bytes() > MEBIBYTE, "some of it")
        link.black_hole()
        wait_for_complaint(bench)
        held = bench.durable_bytes()
        assert spool.counts().pending == 1
        link.heal()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    assert bench.uploader_status()["bytes_sent"] <= size + MOST_WASTE_BYTES
    assert bench.uploader_status()["bytes_sent"] < 2 * size - held, "it did not start over"
    bench.check_both_ends()


@pytest.mark.sweep
def test_a_link_that_swallows_answers_only_is_noticed_too(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port) as link:
        bench.seal(spool, 3 * MEBIBYTE, 1)
        uploader = bench.start_uploader(link.address, rate_bytes_per_s=2 * MEBIBYTE, reply_timeout_s=1.0)
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        link.black_hole(up=False)
        wait_for_complaint(bench)
        link.heal()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends()


@pytest.mark.sweep
def test_a_half_open_connection_is_noticed_and_replaced(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port) as link:
        bench.seal(spool, 3 * MEBIBYTE)
        uploader = bench.start_uploader(link.address, rate_bytes_per_s=2 * MEBIBYTE, reply_timeout_s=1.0)
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        link.leave_half_open()
        bench.wait_for_delivery(spool)
        assert link.connections == 2
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends()


def reset_again_and_again(bench: Bench, period_s: float, size: int, rate: int) -> None:
    """Deliver over a link that is reset every so often; no single reset wastes more than a window and a chunk.

    The link is what is slow, so that each reset takes a window's worth of bytes that are under way.
    """
    receiver = bench.start_receiver()
    conditions = Conditions(delay_s=0.01, bytes_per_s=rate)
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port, conditions) as link:
        meter = WasteMeter(bench, link)
        bench.seal(spool, size, 1)
        uploader = bench.start_uploader(link.address, reply_timeout_s=10.0)
        deadline_s = time.monotonic() + bench.patience_s
        while not delivered_within(spool, period_s):
            assert time.monotonic() < deadline_s, f"not delivered after {len(meter.wasted_bytes)} resets"
            meter.reset()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    resets = len(meter.wasted_bytes)
    assert resets >= 3, "the clips arrived before the link could break"
    assert min(meter.wasted_bytes) >= 0 < meter.most_bytes
    assert meter.most_bytes <= MOST_WASTE_BYTES, meter.wasted_bytes
    assert bench.uploader_status()["bytes_sent"] == size + 1 + sum(meter.wasted_bytes), "each byte is accounted for"
    assert bench.uploader_status()["sessions"] <= 2 + 2 * resets
    bench.check_both_ends()


def delivered_within(spool: Spool, period_s: float) -> bool:
    """Waits for the delivery of everything, no longer than that."""
    deadline_s = time.monotonic() + period_s
    while spool.counts().pending:
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.sweep
def test_a_link_reset_every_half_second_delivers_every_clip_once(bench):
    reset_again_and_again(bench, 0.5, size=3 * MEBIBYTE, rate=2 * MEBIBYTE)


@pytest.mark.sweep
def test_a_link_reset_every_ten_seconds_delivers_every_clip_once(bench):
    bench.patience_s = 120.0
    reset_again_and_again(bench, 10.0, size=80 * MEBIBYTE, rate=2 * MEBIBYTE)


@pytest.mark.sweep
def test_half_of_everything_lost_at_fifty_milliseconds_is_slow_and_loses_nothing(bench):
    bench.patience_s = 240.0
    receiver = bench.start_receiver()
    conditions = Conditions(delay_s=0.05, loss=0.5)
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port, conditions, seed=3) as link:
        bench.seal(spool, 60_000, 1, 5_000)
        uploader = bench.start_uploader(link.address, reply_timeout_s=15.0)
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends()


@pytest.mark.sweep
def test_over_a_link_of_eleven_hundred_bytes_a_second_every_clip_arrives_in_one_session(bench):
    bench.patience_s = 100.0
    receiver = bench.start_receiver()
    sizes = 30_000, 10_000
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port, Conditions(0.1, 1_100)) as link:
        bench.seal(spool, sizes[0], priority=Priority.LOW)
        uploader = bench.start_uploader(link.address, reply_timeout_s=15.0)
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        bench.seal(spool, sizes[1], priority=Priority.SAFETY)
        (gone,) = bench.seal(spool, 10)
        spool.tombstone(gone, "evicted to make room")
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    assert bench.uploader_status()["sessions"] == 1, "slow is not dead"
    assert bench.uploader_status()["bytes_sent"] == sum(sizes)
    bench.check_both_ends(tombstoned=(gone,))


@pytest.mark.sweep
def test_a_bit_flipped_on_the_wire_breaks_the_connection_and_never_reaches_a_clip(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port) as link:
        bench.seal(spool, 3 * MEBIBYTE)
        uploader = bench.start_uploader(link.address, rate_bytes_per_s=2 * MEBIBYTE, reply_timeout_s=1.0)
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        link.flip_bit(after_bytes=10_000)
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    assert bench.uploader_status()["sessions"] >= 2, "CURVE notices, and the connection is over"
    assert bench.uploader_status()["nacks"] == {}, "no damaged chunk ever got as far as its hash"
    bench.check_both_ends()
