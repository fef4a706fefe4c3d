"""The live tick's phase: as configured, or measured, and measured again on a signal."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

from live_processes import Daemon, wait_for

from runtime.capture.phase import InstantGrid
from runtime.clock import ManualClock
from runtime.config.rig_config import TickConfig
from runtime.processes.runtime_phase import TickPhase

MS = 1_000_000
PERIOD = 50 * MS


def phase_of(clock: ManualClock, phase_ms: float | str = "auto") -> tuple[TickPhase, InstantGrid]:
    grid = InstantGrid(PERIOD, start_ns=0)
    parts = SimpleNamespace(grid=grid, assembler=SimpleNamespace(cameras=("front",)))
    return TickPhase(TickConfig(phase_ms=phase_ms), parts, clock), grid  # type: ignore[arg-type]


def run(phase: TickPhase, grid: InstantGrid, clock: ManualClock, ticks: int, ready_ms: float) -> None:
    listener = phase.listener("front")
    assert listener is not None
    for _ in range(ticks):
        instant = grid.instant_of(clock.now_ns()) + 1
        clock.advance_to(grid.time_of(instant) + round(ready_ms * MS))
        listener(grid.time_of(instant))
        clock.advance_to(grid.time_of(instant) + 40 * MS)
        phase.after_tick(clock.now_ns(), clock.now_ns() + 5 * MS)


def test_readiness_is_measured_against_the_instant_and_moves_the_beat() -> None:
    clock = ManualClock(0)
    phase, grid = phase_of(clock)
    assert phase.metronome.phase_ns == PERIOD
    run(phase, grid, clock, 260, ready_ms=8)
    assert phase.metronome.phase_ns == 10 * MS
    assert phase.status()["state"] == "chosen"


def test_on_command_it_is_measured_anew_and_otherwise_never() -> None:
    clock = ManualClock(0)
    phase, grid = phase_of(clock)
    run(phase, grid, clock, 260, ready_ms=8)
    run(phase, grid, clock, 260, ready_ms=20)
    assert phase.metronome.phase_ns == 10 * MS
    phase.ask_again()
    run(phase, grid, clock, 261, ready_ms=20)
    assert phase.metronome.phase_ns == 25 * MS


def test_a_configured_phase_is_taken_as_it_is_and_nothing_is_measured() -> None:
    phase, _ = phase_of(ManualClock(0), 12.5)
    assert phase.listener("front") is None
    phase.ask_again()
    phase.after_tick(0, 1)
    assert phase.status() == {"state": "configured", "period_ms": 50.0, "phase_ms": 12.5}


def test_the_runtime_obeys_the_signal_and_ticks_on(tmp_path: Path, tiny_drive: Path, tiny_rules: Path) -> None:
    config = {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}}
    daemon = Daemon(tmp_path / "car", config)
    command = daemon.start("runtime")
    try:
        before = daemon.wait_for("runtime", lambda status: status["ticks"] > 3, "the first ticks")
        assert before["phase"]["state"] == "no cameras"  # none is looked at without a network
        os.kill(command.process.pid, signal.SIGUSR1)
        wait_for(lambda: "measured again, on command" in command.output, "the answer to the signal")
        daemon.wait_for("runtime", lambda status: status["ticks"] > before["ticks"] + 3, "ticks after the signal")
        assert command.stop() == 0
    finally:
        command.end()
