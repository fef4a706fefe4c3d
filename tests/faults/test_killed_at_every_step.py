"""SIGKILL at every step: before each write, fsync, rename, unlink and send of either end, and in the middle of a write.

The victim is killed by itself, at exactly its k-th call (`step_faults`), and started again; the other end goes on, and
new clips are sealed in every round. After the last round both ends must agree on everything that was ever promised.
The sweeps go through every k from the start of the process to the delivery of a round's clips, again and again with
other clips until the number of kills is reached; what runs with all other tests is a sample spread over all steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from fault_bench import Bench, FaultProcess
from step_faults import StepFault

from runtime.spool import Spool

SIZES = (1, 300_000, 700_000)
QUICK = {"reply_timeout_s": 1.0}
SAMPLE = 3
MIN_STEPS = 8
ENOUGH = 0.7  # many rounds have fewer steps than the one that was counted: their victims live
KILLS_OF_A_SWEEP = 120
BEFORE_A_STEP_AND_WITHIN_A_WRITE = pytest.mark.parametrize(("kind", "calls"), [("kill", ()), ("torn", ("write",))])
Starts = Callable[[dict[str, str]], FaultProcess]


def rounds(bench: Bench, spool: Spool, fault: StepFault, start: Starts, steps: Iterable[int]) -> int:
    """Start the victim with each fault in turn, with new clips to deliver; how many died of it."""
    deaths = 0
    for fault.at in steps:
        bench.seal(spool, *SIZES)
        victim = start(fault.environment)
        bench.wait(lambda victim=victim: not victim.is_alive or spool.counts().pending == 0, "a death or the delivery")
        deaths += not victim.is_alive
        victim.kill()
        assert spool.counts().is_gapless, f"after step {fault.at}, {fault.last}"
    return deaths


def number_of_steps(bench: Bench, spool: Spool, fault: StepFault, start: Starts) -> int:
    """How many steps a round has when nobody dies."""
    assert rounds(bench, spool, fault, start, [0]) == 0, bench.processes[-1].errors
    assert fault.count > MIN_STEPS, "the shim counts nothing"
    return fault.count


def sample(steps: int) -> list[int]:
    """A few steps from the first to the last."""
    return [1 + index * (steps - 1) // SAMPLE for index in range(SAMPLE)]


def every(steps: int, kills: int) -> Iterator[int]:
    """Every step in turn, round after round, `kills` in all."""
    return islice((1 + index % steps for index in count()), kills)


@pytest.fixture
def fault(step_library: Path, tmp_path: Path) -> StepFault:
    return StepFault(step_library, tmp_path / "counter", kind="kill")


def kill_receiver(bench: Bench, fault: StepFault, choose: Callable[[int], Iterable[int]]) -> int:
    """Kill the receiver at chosen steps while the vehicle goes on; then check both ends."""
    bench.start_receiver().stop()
    with bench.open_spool() as spool:
        bench.start_uploader(**QUICK)
        steps = number_of_steps(bench, spool, fault, bench.begin_receiver)
        deaths = rounds(bench, spool, fault, bench.begin_receiver, choose(steps))
        receiver = bench.start_receiver()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()
    return deaths


def kill_uploader(bench: Bench, fault: StepFault, choose: Callable[[int], Iterable[int]]) -> int:
    """Kill the vehicle's uploader at chosen steps while the receiver goes on; then check both ends."""

    def begin(environment: dict[str, str]) -> FaultProcess:
        return bench.begin_uploader(None, environment, **QUICK)

    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        steps = number_of_steps(bench, spool, fault, begin)
        deaths = rounds(bench, spool, fault, begin, choose(steps))
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()
    return deaths


def kill_sealing(bench: Bench, fault: StepFault, choose: Callable[[int], Iterable[int]]) -> int:
    """Kill the process that seals at chosen steps; deliver everything and check both ends."""

    def run_to_its_end(at: int) -> FaultProcess:
        fault.at = at
        process = bench.start_sealing(fault.environment, count=3, seed=at)
        process.process.wait()
        process.stop()
        bench.note_sealed(process)
        return process

    process = run_to_its_end(0)
    assert len(bench.sealed) == 3, process.errors
    deaths = 0
    for at in choose(fault.count):
        deaths += run_to_its_end(at).process.returncode == -9
        with bench.open_spool() as spool:
            assert spool.counts().is_gapless, f"after step {at}, {fault.last}"
            assert spool.counts().tombstoned == 0, f"a sealed clip was given up after step {at}, {fault.last}"
            for partial in spool.partial():
                spool.discard(spool.resume(partial))
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
def test_a_receiver_killed_at_every_step_loses_nothing_and_stores_nothing_twice(bench, fault, kind, calls, sweep_size):
    fault.kind, fault.calls = kind, calls
    kills = sweep_size(KILLS_OF_A_SWEEP)
    assert kill_receiver(bench, fault, lambda steps: every(steps, kills)) >= ENOUGH * kills


@pytest.mark.sweep
@BEFORE_A_STEP_AND_WITHIN_A_WRITE
def test_a_vehicle_killed_at_every_step_of_its_delivery_loses_and_repeats_nothing(
    bench, fault, kind, calls, sweep_size
):
    fault.kind, fault.calls = kind, calls
    kills = sweep_size(KILLS_OF_A_SWEEP)
    assert kill_uploader(bench, fault, lambda steps: every(steps, kills)) >= ENOUGH * kills


@pytest.mark.sweep
@BEFORE_A_STEP_AND_WITHIN_A_WRITE
def test_a_vehicle_killed_at_every_step_of_sealing_leaves_a_gapless_ledger(bench, fault, kind, calls, sweep_size):
    fault.kind, fault.calls = kind, calls
    kills = sweep_size(KILLS_OF_A_SWEEP)
    assert kill_sealing(bench, fault, lambda steps: every(steps, kills)) >= ENOUGH * kills


@pytest.mark.sweep
def test_a_receiver_killed_at_every_step_of_its_first_start_starts_again_and_takes_clips(bench, fault):
    bench.start_receiver().stop()
    for fault.at in count(1):
        shutil.rmtree(bench.receiver_directory)
        victim = bench.begin_receiver(fault.environment)
        address = victim.next_line()
        victim.kill()
        if address is not None:
            break  # it listens: the start is over
        bench.start_receiver().stop()
    assert fault.at > 10
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, *SIZES)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()
