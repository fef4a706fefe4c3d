"""The wall clock jumps by a day while clips are cut, sealed and delivered: whatever waits, waits on capture time."""

from __future__ import annotations

import pytest
from step_faults import StepFault

DAY_S = 86_400


@pytest.mark.sweep
@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_that_jumps_by_a_day_delays_no_clip_and_loses_none(bench, step_library, tmp_path, jump_s):
    roles = ("receiver", "uploader", "sealing")
    faults = {role: StepFault(step_library, tmp_path / f"counter-{role}") for role in roles}
    receiver = bench.start_receiver(faults["receiver"].environment)
    with bench.open_spool() as spool:
        bench.begin_uploader(None, faults["uploader"].environment, rate_bytes_per_s=1 << 20)
        bench.seal(spool, 3 << 20)
        bench.wait(lambda: bench.durable_bytes() > 0, "a clip under way")
        sealing = bench.start_sealing(faults["sealing"].environment, pause_s=0.02)
        bench.wait(lambda: len(sealing.lines) > 3, "clips before the jump")
        for each in faults.values():
            each.set_wall_clock_wrong_by(jump_s)
        told = len(sealing.lines)
        bench.wait(lambda: len(sealing.lines) > told + 3, "clips after the jump")
        assert sealing.stop() == 0
        bench.note_sealed(sealing)
        bench.wait_for_delivery(spool)
        times_ns = [spool.clip(n).sealed_wall_ns for n in sorted(bench.sealed)]
    assert max(times_ns) - min(times_ns) > DAY_S * 1_000_000_000 * 0.99, "the clock did jump"
    assert receiver.stop() == 0
    bench.check_both_ends()
