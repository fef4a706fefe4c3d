"""The live tick's phase: as the configuration sets it, or measured at start-up (`runtime.phase_choice`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from runtime.capture.phase import readiness_of
from runtime.clock import Clock
from runtime.composition import TickParts
from runtime.config.rig_config import TickConfig
from runtime.messages import NANOSECONDS_PER_MILLISECOND
from runtime.metronome import Metronome
from runtime.phase_choice import PhaseChoice, PhaseSearch, fixed_phase
from runtime.processes.shell import log


class TickPhase:
    """Owns the metronome. `ask_again` and the listeners may be called from anywhere, the rest by the tick's thread."""

    def __init__(self, config: TickConfig, parts: TickParts, clock: Clock) -> None:
        self._grid = parts.grid
        self._clock = clock
        cameras = () if parts.assembler is None else parts.assembler.cameras
        self._search: PhaseSearch | None = None
        if config.phase_ms == "auto":
            self._search = PhaseSearch(cameras, parts.grid.period_ns)
            phase_ns = self._search.phase_ns
        else:
            phase_ns = round(config.phase_ms * NANOSECONDS_PER_MILLISECOND)
        self.metronome = Metronome(parts.grid, phase_ns, clock)
        self._asked_again = False

    @property
    def is_measuring(self) -> bool:
        """True until the phase stands; ticks before that are not what latency is judged by."""
        return self._search is not None and self._search.is_measuring

    @property
    def ready(self) -> Callable[[str, int], None] | None:
        """Told of a camera and how long after its instant (ns) a frame stood ready; None where nothing is measured."""
        return None if self._search is None else self._search.ready

    def listener(self, camera: str) -> Callable[[int], None] | None:
        """What a camera's path tells of each frame's capture time; None where nothing is measured."""
        search, grid, clock = self._search, self._grid, self._clock
        if search is None:
            return None

        return readiness_of(grid, clock.now_ns, partial(search.ready, camera))

    def ask_again(self) -> None:
        """Measure anew from the next tick on. Safe to call in a signal handler."""
        self._asked_again = True

    def after_tick(self, began_ns: int, result_ns: int) -> None:
        """Count a tick; move the metronome when a phase has been found."""
        if self._search is None:
            return
        if self._asked_again:
            self._asked_again = False
            self.metronome.rephase(self._search.again())
            log.info("runtime: the phase is being measured again, on command")
            return
        found_ns = self._search.ticked(began_ns, result_ns)
        if found_ns is not None:
            self.metronome.rephase(found_ns)
            if not self._search.is_measuring:
                _tell(self._search.choices[-1])

    def status(self) -> dict[str, Any]:
        """For the status file."""
        if self._search is None:
            return fixed_phase(self.metronome.phase_ns, self._grid.period_ns)
        return self._search.status()


def _tell(choice: PhaseChoice) -> None:
    log.info("runtime: phase chosen: %s", choice.to_dict())
    if choice.too_slow:
        slow = ", ".join(choice.too_slow)
        log.warning("runtime: no phase can wait for the frames of %s: they miss their ticks (fix the source)", slow)
    if choice.unseen:
        unseen = ", ".join(choice.unseen)
        log.warning("runtime: %s sent nothing while the phase was measured: SIGUSR1 once they do", unseen)
