"""Disks that are full, fail, or are fought for: what was sealed stays, what gives way is told, nobody dies quietly."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from fault_bench import Bench, FaultProcess
from step_faults import StepFault
from step_sweeps import ENOUGH, steps_in_turn

from runtime.messages import Priority
from runtime.spool import ClipState, QuotaExceededError, Spool
from runtime.uplink.wire import MAX_PAYLOAD_BYTES

CHUNK = MAX_PAYLOAD_BYTES
MEBIBYTE = 1 << 20
LEDGER_RESERVE_BYTES = 8 * MEBIBYTE
SMALL_QUOTA_BYTES = LEDGER_RESERVE_BYTES + 300_000
QUICK = {"reply_timeout_s": 1.0, "refused_retry_s": 0.3}
PENDING_AT_MOST = 4


# -- failing ------------------------------------------------------------------------------------------------------


def test_a_receivers_failed_fsync_is_never_acknowledged_and_the_bytes_are_sent_again(bench, fault):
    fault.kind, fault.calls, fault.below, fault.at = "eio", ("fsync",), ".part", 1
    receiver = bench.start_receiver(fault.environment)
    with bench.open_spool() as spool:
        bench.seal(spool, 3 * CHUNK)
        uploader = bench.start_uploader(**QUICK)
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    status = bench.uploader_status()
    assert status["nacks"] == {"storage": 1}
    assert status["bytes_sent"] > 3 * CHUNK, "nothing of a file whose fsync failed is trusted"
    bench.check_both_ends()


def test_a_vehicles_failed_fsync_seals_nothing_and_gives_no_number_away(bench, fault):
    fault.kind, fault.calls, fault.below, fault.at = "eio", ("fsync",), "draft-", 1
    sealing = bench.start_sealing(fault.environment, count=4, seed=1)
    sealing.process.wait()
    assert sealing.stop() == 0
    bench.note_sealed(sealing)
    assert [line.split()[0] for line in sealing.lines] == ["ready", "failed", "sealed", "sealed", "sealed"]
    assert sorted(bench.sealed) == [1, 2, 3]
    deliver_and_check(bench)


def deliver_and_check(bench: Bench, tombstoned: Iterable[int] = (), unclaimed: bool = False) -> None:
    """With nothing failing any more."""
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        uploader = bench.start_uploader()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends(tombstoned, unclaimed)


def begun_with(bench: Bench, role: str, environment: dict[str, str] | None) -> FaultProcess:
    """One end, which may die of its fault; sealing ends by itself."""
    if role == "receiver":
        return bench.begin_receiver(environment)
    if role == "uploader":
        return bench.begin_uploader(None, environment, **QUICK)
    return bench.start_sealing(environment, count=3, seed=1)


def has_had_its_chance(bench: Bench, spool: Spool, fault: StepFault, victim: FaultProcess) -> bool:
    """It has ended, or everything is delivered, or it has met its fault and lives with it."""
    return not victim.is_alive or fault.count >= fault.at > 0 or not spool.counts().pending


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["eio", "full"])
@pytest.mark.parametrize("role", ["receiver", "uploader", "sealing"])
def test_an_error_at_every_step_of_either_end_loses_nothing(bench, fault, kind, role, sweep_share, tally):
    """An I/O error once, or a disk that is full from some step on, then the process is started again without it.

    At every step of a round that nobody disturbs, from the start of the process to its proper end: errors at the odd
    ones, full disks at the even ones.
    """
    bench.start_receiver().stop()
    if role == "uploader":
        bench.start_receiver()
    if role == "receiver":
        bench.start_uploader(**QUICK)

    def has_met_it(at: int) -> bool:
        fault.at = at
        with bench.open_spool() as spool:
            if role != "sealing" and spool.counts().pending < PENDING_AT_MOST:
                bench.seal(spool, 1, 300_000)
            victim = begun_with(bench, role, fault.environment)
            bench.wait(lambda: has_had_its_chance(bench, spool, fault, victim), "the fault")
            if role == "sealing":
                victim.process.wait()
            victim.stop()
            bench.note_sealed(victim)
            return fault.count >= at

    fault.kind = kind
    has_met_it(0)
    has_met_it(0)  # finds a spool, as all others do
    steps = fault.count
    chosen = [at for at in steps_in_turn(steps, sweep_share) if (at % 2 == 1) == (kind == "eio")]
    met = sum(has_met_it(at) for at in chosen)
    tally("steps of an undisturbed round", f"{role} and its end", steps)
    tally("I/O errors" if kind == "eio" else "disks full from some step on", role, met)
    assert met >= ENOUGH * len(chosen)
    healthy = bench.start_receiver() if role != "uploader" else None
    if role != "receiver":
        bench.start_uploader(**QUICK)
    with bench.open_spool() as spool:
        for partial in spool.partial():
            spool.discard(spool.resume(partial))
        bench.wait_for_delivery(spool)
    if healthy is not None:
        assert healthy.stop() == 0
    bench.check_both_ends(unclaimed=role == "sealing")


# -- full ---------------------------------------------------------------------------------------------------------


def test_a_full_vehicle_disk_refuses_new_clips_keeps_the_sealed_and_goes_on_when_there_is_room(bench, tiny_disk):
    bench.spool_directory = tiny_disk.directory / "spool"
    sealing = bench.start_sealing(largest_bytes=100_000, pause_s=0.01)
    bench.wait(lambda: count_of(sealing, "sealed") >= 5, "some clips")
    tiny_disk.fill()
    bench.wait(lambda: not sealing.is_alive or count_of(sealing, "refused", "failed") >= 5, "refusals")
    assert sealing.is_alive, sealing.errors
    sealed = count_of(sealing, "sealed")
    tiny_disk.free()
    bench.wait(lambda: count_of(sealing, "sealed") >= sealed + 5, "clips again")
    assert sealing.stop() == 0
    bench.note_sealed(sealing)
    with bench.open_spool() as spool:
        evicted = explained_tombstones(spool, "evicted to make room")
    deliver_and_check(bench, evicted)


def count_of(process: FaultProcess, *words: str) -> int:
    """Lines that begin with one of these."""
    return sum(line.startswith(words) for line in process.lines)


def explained_tombstones(spool: Spool, reason: str) -> list[int]:
    """Numbers that the spool gave up for this reason."""
    clips = [spool.clip(n) for n in range(1, spool.counts().sealed + 1)]
    return [clip.n for clip in clips if clip.state is ClipState.TOMBSTONED and reason in clip.reason]


@pytest.mark.sweep
def test_a_full_receiver_says_so_and_the_clips_wait_on_the_vehicle_until_it_has_room(bench, tiny_disk):
    bench.receiver_directory = tiny_disk.directory / "received"
    receiver = bench.start_receiver()  # leaves 64 MiB free, which this disk never had
    with bench.open_spool() as spool:
        bench.seal(spool, 2 * CHUNK, 10)
        uploader = bench.start_uploader(**QUICK)
        bench.wait(lambda: bench.uploader_status().get("refused", {}).get("receiver_full", 0) >= 4, "refusals")
        assert spool.counts().pending == 2
        tiny_disk.grow("200m")
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends()


@pytest.mark.sweep
def test_a_receivers_disk_that_fills_up_under_a_clip_loses_nothing(bench, tiny_disk):
    bench.receiver_directory = tiny_disk.directory / "received"
    receiver = bench.start_receiver(limits={"disk_reserve_bytes": 0})
    with bench.open_spool() as spool:
        bench.seal(spool, 8 * MEBIBYTE, 10)
        bench.start_uploader(rate_bytes_per_s=4 * MEBIBYTE, **QUICK)
        bench.wait(lambda: bench.durable_bytes() > MEBIBYTE, "some of it")
        tiny_disk.fill()
        bench.wait(lambda: trouble(bench, receiver), "the receiver to notice")
        assert spool.counts().pending >= 1
        tiny_disk.free()
        if not receiver.is_alive:
            receiver = bench.start_receiver(limits={"disk_reserve_bytes": 0})
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()


def trouble(bench: Bench, receiver: FaultProcess) -> bool:
    """The receiver has refused bytes, or has given up."""
    status = bench.uploader_status()
    return not receiver.is_alive or bool(status.get("nacks")) or bool(status.get("refused"))


# -- fought for ---------------------------------------------------------------------------------------------------


@pytest.mark.sweep
def test_a_quota_storm_stays_below_the_quota_and_every_number_is_delivered_or_explained(bench):
    receiver = bench.start_receiver()
    sealing = bench.start_sealing(quota_bytes=SMALL_QUOTA_BYTES)
    assert sealing.next_line() == "ready"
    bench.start_uploader(rate_bytes_per_s=MEBIBYTE)
    largest = 0
    with bench.open_spool() as spool:

        def enough() -> bool:
            nonlocal largest
            largest = max(largest, size_of(bench.spool_directory))
            counts = spool.counts()
            return counts.delivered > 20 and counts.evicted > 5

        bench.wait(enough, "deliveries and evictions")
        assert sealing.stop() == 0
        bench.note_sealed(sealing)
        bench.wait_for_delivery(spool)
        evicted = explained_tombstones(spool, "evicted to make room")
    assert receiver.stop() == 0
    assert largest <= SMALL_QUOTA_BYTES
    bench.check_both_ends(tombstoned=evicted)


def size_of(directory: Path) -> int:
    """Bytes of all files; one that goes away meanwhile counts nothing."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def test_a_clip_evicted_while_it_is_sent_ends_as_a_tombstone_on_both_ends_and_leaves_no_partial(bench):
    receiver = bench.start_receiver()
    quota_bytes = LEDGER_RESERVE_BYTES + 4 * MEBIBYTE
    with bench.open_spool(quota_bytes) as spool:
        victim, kept = bench.seal(spool, 3 * MEBIBYTE, 1000, priority=Priority.LOW)
        uploader = bench.start_uploader(rate_bytes_per_s=MEBIBYTE, quota_bytes=quota_bytes)
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        (urgent,) = bench.seal(spool, 2 * MEBIBYTE, priority=Priority.SAFETY)
        assert spool.clip(victim).state is ClipState.TOMBSTONED
        with pytest.raises(QuotaExceededError):
            spool.begin(4 * MEBIBYTE, Priority.LOW)
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
        assert [spool.clip(n).state for n in (kept, urgent)] == [ClipState.DELIVERED] * 2
    assert receiver.stop() == 0
    bench.check_both_ends(tombstoned=[victim])
