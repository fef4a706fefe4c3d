"""SIGKILL at every step: before each write, fsync, rename, unlink and send of either end, and in the middle of a write.

The victim is killed by itself, at exactly its k-th call (`step_faults`), and started again; the other end goes on, and
every round has new clips to deliver. After the last round both ends must agree on everything that was ever promised.
The sweeps count the steps of a round that nobody disturbs, from the start of the process to the delivery of its clips,
and kill a victim at each of them once, then beyond until one survives (`step_sweeps`); a sweep within writes counts and
tears writes alone. What runs with all other tests is a sample spread over all steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from signal import SIGKILL

import pytest
from fault_bench import Bench, FaultProcess
from step_faults import StepFault
from step_sweeps import Sweep

from runtime.spool import Spool

SIZES = (1, 300_000, 700_000)
QUICK = {"reply_timeout_s": 1.0}
SAMPLE = 3
MIN_STEPS = 8
BEFORE_A_STEP_AND_WITHIN_A_WRITE = pytest.mark.parametrize(("kind", "calls"), [("kill", ()), ("torn", ("write",))])
Starts = Callable[[dict[str, str]], FaultProcess]


def rounds(bench: Bench, spool: Spool, fault: StepFault, start: Starts) -> Callable[[int], bool]:
    """Start a victim that is to die at a step, with as many clips to deliver as it counted, or more; did it die?"""

    def dies_at(at: int) -> bool:
        fault.at = at
        if spool.counts().pending <= len(SIZES):  # one of these may have been sent in part
            bench.seal(spool, *SIZES)
        victim = start(fault.environment)
        bench.wait(lambda: not victim.is_alive or spool.counts().pending == 0, "a death or the delivery")
        died = not victim.is_alive
        victim.kill()
        assert victim.process.returncode == -SIGKILL, f"not of its fault at {at}, {fault.last}: {victim.errors}"
        assert spool.counts().is_gapless, f"after step {at}, {fault.last}"
        return died

    return dies_at


def number_of_steps(fault: StepFault, dies_at: Callable[[int], bool]) -> int:
    """How many steps a round has when nobody dies: the shorter of two, for the machine makes some a little longer."""
    counts = []
    for _ in range(2):
        assert not dies_at(0), "nothing was to happen to this one"
        counts.append(fault.count)
    assert min(counts) > MIN_STEPS, "the shim counts nothing"
    return min(counts)


def sample(steps: int, dies_at: Callable[[int], bool]) -> int:
    """A few steps from the first to the last."""
    return sum(dies_at(1 + index * (steps - 1) // SAMPLE) for index in range(SAMPLE))


def kill_receiver(bench: Bench, fault: StepFault, sweep: Sweep) -> int:
    """Kill the receiver at chosen steps while the vehicle goes on; then check both ends."""
    bench.start_receiver().stop()
    with bench.open_spool() as spool:
        bench.start_uploader(**QUICK)
        dies_at = rounds(bench, spool, fault, bench.begin_receiver)
        deaths = sweep(number_of_steps(fault, dies_at), dies_at)
        receiver = bench.start_receiver()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()
    return deaths


def kill_uploader(bench: Bench, fault: StepFault, sweep: Sweep) -> int:
    """Kill the vehicle's uploader at chosen steps while the receiver goes on; then check both ends."""

    def begin(environment: dict[str, str]) -> FaultProcess:
        return bench.begin_uploader(None, environment, **QUICK)

    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        dies_at = rounds(bench, spool, fault, begin)
        deaths = sweep(number_of_steps(fault, dies_at), dies_at)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()
    return deaths


def kill_sealing(bench: Bench, fault: StepFault, sweep: Sweep) -> int:
    """Kill the process that seals at chosen steps; deliver everything and check both ends."""

    def dies_at(at: int) -> bool:
        fault.at = at
        process = bench.start_sealing(fault.environment, count=3, seed=at)
        code = process.process.wait()
        process.stop()
        bench.note_sealed(process)
        assert code in (0, -SIGKILL), f"not of its fault at {at}, {fault.last}: {process.errors}"
        with bench.open_spool() as spool:
            assert spool.counts().is_gapless, f"after step {at}, {fault.last}"
            assert spool.counts().tombstoned == 0, f"a sealed clip was given up after step {at}, {fault.last}"
            for partial in spool.partial():
                spool.discard(spool.resume(partial))
        return code == -SIGKILL

    assert not dies_at(0), "nothing was to happen to this one"
    assert len(bench.sealed) == 3, bench.processes[-1].errors
    deaths = sweep(number_of_steps(fault, dies_at), dies_at)  # of one that finds a spool, as all victims do
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends(unclaimed=True)
    return deaths


def test_a_receiver_killed_at_sampled_steps_loses_nothing_and_stores_nothing_twice(bench, fault):
    assert kill_receiver(bench, fault, sample) >= SAMPLE - 1


def test_a_vehicle_killed_at_sampled_steps_of_its_delivery_loses_and_repeats_nothing(bench, fault):
    assert kill_uploader(bench, fault, sample) >= SAMPLE - 1


def test_a_vehicle_killed_at_sampled_steps_of_sealing_leaves_a_gapless_ledger(bench, fault):
    assert kill_sealing(bench, fault, sample) >= SAMPLE - 1


@pytest.mark.sweep
@BEFORE_A_STEP_AND_WITHIN_A_WRITE
def test_a_receiver_killed_at_every_step_loses_nothing_and_stores_nothing_twice(bench, fault, kind, calls, every_step):
    fault.kind, fault.calls = kind, calls
    kill_receiver(bench, fault, every_step("receiver"))


@pytest.mark.sweep
@BEFORE_A_STEP_AND_WITHIN_A_WRITE
def test_a_vehicle_killed_at_every_step_of_its_delivery_loses_and_repeats_nothing(
    bench, fault, kind, calls, every_step
):
    fault.kind, fault.calls = kind, calls
    kill_uploader(bench, fault, every_step("uploader"))


@pytest.mark.sweep
@BEFORE_A_STEP_AND_WITHIN_A_WRITE
def test_a_vehicle_killed_at_every_step_of_sealing_leaves_a_gapless_ledger(bench, fault, kind, calls, every_step):
    fault.kind, fault.calls = kind, calls
    kill_sealing(bench, fault, every_step("sealing"))


@pytest.mark.sweep
def test_a_receiver_killed_at_every_step_of_its_first_start_starts_again_and_takes_clips(bench, fault, tally):
    bench.start_receiver().stop()
    for fault.at in count(1):
        shutil.rmtree(bench.receiver_directory)
        victim = bench.begin_receiver(fault.environment)
        address = victim.next_line()
        victim.kill()
        assert victim.process.returncode == -SIGKILL, f"not of its fault at {fault.at}, {fault.last}: {victim.errors}"
        if address is not None:
            break  # it listens: the start is over
        bench.start_receiver().stop()
    assert fault.at > 10
    tally("real kill -9", "receiver in its first start", fault.at - 1)
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, *SIZES)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()


@pytest.mark.sweep
def test_a_vehicle_killed_at_every_step_of_its_first_sealing_starts_again_and_loses_nothing(bench, fault, tally):
    for fault.at in count(1):
        bench.spool_directory = bench.directory / f"spool-{fault.at}"
        victim = bench.start_sealing(fault.environment, count=1, seed=1)
        code = victim.process.wait()
        victim.stop()
        assert code in (0, -SIGKILL), f"not of its fault at {fault.at}, {fault.last}: {victim.errors}"
        bench.note_sealed(victim)
        with bench.open_spool() as spool:
            counts = spool.counts()
            assert counts.is_gapless, f"after step {fault.at}, {fault.last}"
            assert counts.sealed >= len(bench.sealed), f"a promised clip is unknown after step {fault.at}, {fault.last}"
            assert counts.tombstoned == 0, f"a sealed clip was given up after step {fault.at}, {fault.last}"
        if code == 0:
            break
        bench.sealed.clear()
    assert fault.at > 10
    tally("real kill -9", "sealing in a new spool", fault.at - 1)
    assert len(bench.sealed) == 1, "the last one lived"
