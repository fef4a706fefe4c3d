"""One run of the bench: bare model, alone, under load, bare model under load.

The runtime is started once; its warm-up (threads, arenas, the choice of the phase) is over before the first spell.
Between the spells the loads are started and given a moment. `record` starts the recorder and presses the bookmark
button every few seconds, `upload` starts uploader and receiver too, so that sealed clips go home over an encrypted
socket while the next are recorded.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from replay.latency.figures import RUNTIME_PROCESSES, Spell
from replay.latency.film import ReferenceLoad, make_film
from replay.latency.loads import LOADS
from replay.latency.stage import Helper, InterruptedBenchError, Stage, StageError
from replay.latency.ticks import TickListener
from replay.latency.usage import UsageMeter

START_TIMEOUT_S = 60.0
#: After the phase has been chosen and before anything is measured, and no longer than half a spell.
SETTLE_S = 3.0
PRESS_EVERY_S = 4.0
SAMPLE_EVERY_S = 1.0
SAY_EVERY_S = 30.0
#: The bare model is measured for this share of a spell, within bounds.
BARE_SHARE, LEAST_BARE_S, MOST_BARE_S = 0.25, 1.0, 20.0


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to run."""

    seconds: float
    loads: tuple[str, ...] = LOADS
    load: ReferenceLoad = field(default_factory=ReferenceLoad)
    model: str = "hydra_mini"
    phase_ms: float | None = None  # None: the runtime chooses, as configured by default


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Both spells, and what belongs to the run as a whole."""

    alone: Spell
    loaded: Spell | None
    facts: dict[str, Any]


def run_bench(
    options: BenchOptions, folder: Path, stop: threading.Event, say: Callable[[str], None] = lambda text: None
) -> BenchResult:
    """Play both spells. StageError when a process fails or the run is interrupted."""
    with _staged(options, folder, stop, say) as run:
        return run.play()


def run_turns(
    options: BenchOptions,
    turns: Sequence[tuple[str, ...]],
    folder: Path,
    stop: threading.Event,
    say: Callable[[str], None] = lambda text: None,
) -> list[Spell]:
    """One spell for each of these sets of loads, in this order, on one runtime: what differs between two spells is the
    loads, not how that start of the runtime fell out. `options.loads` is not used. StageError as `run_bench`."""
    with _staged(options, folder, stop, say) as run:
        return run.play_turns(turns)


@contextmanager
def _staged(options: BenchOptions, folder: Path, stop: threading.Event, say: Callable[[str], None]) -> Iterator[_Run]:
    with _alone_in(folder):
        film = make_film(options.load, folder / "films")
        stage = Stage(folder / "run", film, options.load, options.model, options.phase_ms)
        try:
            yield _Run(options, stage, stop, say)
        finally:
            stage.close()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Held for as long as this process lives: two runs would empty each other's folder, and spoil their figures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = f"another bench runs in {folder}: wait for its end (a machine can be measured once at a time)"
            raise StageError(text) from error
        yield


class _Run:
    """The course of one run."""

    def __init__(self, options: BenchOptions, stage: Stage, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._options = options
        self._stage = stage
        self._stop = stop
        self._say = say
        self._listener = TickListener(stage.addresses.telemetry)
        self._listener.start()

    def play(self) -> BenchResult:
        options = self._options
        bare_s = min(MOST_BARE_S, max(LEAST_BARE_S, BARE_SHARE * options.seconds))
        try:
            bare_alone = self._bare_model(bare_s)
            feeder = self._start_runtime()
            alone = self._spell("alone", feeder, press=False)
            loaded = None
            if options.loads:
                hogs = self._start_loads(options.loads)
                loaded = self._loaded_spell(options.loads, feeder)
                self._stop_loads(hogs)
            facts = {"feeder": self._stop_runtime(feeder), **self._runtime_facts()}
            loaded = loaded and replace(loaded, bare_model_ms=self._bare_under_load(bare_s))
            return BenchResult(replace(alone, bare_model_ms=bare_alone), loaded, facts)
        finally:
            self._listener.stop()

    def play_turns(self, turns: Sequence[tuple[str, ...]]) -> list[Spell]:
        """A spell for each; what delivers is stopped before the next, what records goes on."""
        spells = []
        try:
            feeder = self._start_runtime()
            for loads in turns:
                hogs = self._start_loads(loads)
                spells.append(self._loaded_spell(loads, feeder))
                self._stop_loads(hogs)
                self._stage.stop("uploader", "receiver")  # the recorder follows the runtime
            self._stop_runtime(feeder)
            return spells
        finally:
            self._listener.stop()

    # The spells

    def _loaded_spell(self, loads: tuple[str, ...], feeder: Helper) -> Spell:
        return self._spell("under load: " + ", ".join(loads), feeder, press="record" in loads)

    def _spell(self, name: str, feeder: Helper, press: bool) -> Spell:
        stage, seconds = self._stage, self._options.seconds
        self._pause(min(SETTLE_S, seconds / 2))
        before = self._clips()
        self._listener.take()
        self._say(f"measuring for {seconds:g} s {name}")
        pids = stage.pids()
        meter = UsageMeter({**pids, "bench feeder": feeder.pid, "bench": os.getpid()}, time.monotonic_ns())
        began_s, pressed_s, said_s = time.monotonic(), 0.0, SAY_EVERY_S
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            if press and elapsed_s >= pressed_s:
                feeder.tell("press")
                pressed_s += PRESS_EVERY_S
            self._pause(min(SAMPLE_EVERY_S, seconds - elapsed_s))
            meter.sample(time.monotonic_ns())
            if elapsed_s >= said_s:
                self._say(f"  {elapsed_s:.0f} s of {seconds:g} s: {self._state()}")
                said_s += SAY_EVERY_S
        ticks, after = self._listener.take(), self._clips()
        if stage.pids() != pids:
            raise StageError(f"a process was started again {name}: its figures would be those of two (see its log)")
        return Spell(
            ticks=ticks, cameras=self._options.load.cameras, seconds=time.monotonic() - began_s, cores=meter.cores(),
            rss_mb=meter.rss_mb(), rss_slope_mb_per_h=meter.rss_slope_mb_per_h(*RUNTIME_PROCESSES),
            stolen_share=meter.stolen_share, clips={name: after[name] - before[name] for name in after},
        )  # fmt: skip

    def _state(self) -> str:
        status = self._stage.status("runtime")
        p50_ms = (status.get("latency_ms") or {}).get("p50") or 0.0
        dropped = status.get("framesets_dropped")
        return f"capture to result p50 {p50_ms:.1f} ms and {dropped} framesets dropped since the start of the runtime"

    def _clips(self) -> dict[str, int]:
        spool = self._stage.status("recorder").get("spool", {})
        return {"sealed": int(spool.get("sealed", 0)), "delivered": int(spool.get("delivered", 0))}

    def _bare_model(self, seconds: float) -> dict[str, float]:
        self._say(f"running the bare model for {seconds:g} s")
        arguments = ("--seconds", str(seconds), "--model", self._options.model, *self._stage.film_arguments())
        helper = self._stage.helper("bare-model", "replay.latency.bare_model", *arguments)
        found: dict[str, float] = json.loads(helper.wait(seconds + START_TIMEOUT_S, self._stop))
        return found

    def _bare_under_load(self, seconds: float) -> dict[str, float]:
        """The same hogs beside it; the vehicle's own processes have ended by now."""
        hogs = self._start_hogs(self._options.loads)
        found = self._bare_model(seconds)
        self._stop_loads(hogs)
        return found

    # The processes

    def _start_runtime(self) -> Helper:
        stage = self._stage
        feeder = stage.helper(
            "feeder", "replay.latency.feeder", "--address", stage.addresses.cameras, *stage.film_arguments()
        )
        self._say("starting the runtime")
        stage.start("runtime")
        self._wait(lambda: int(stage.status("runtime").get("framesets", 0)) > 0, "the runtime made no frameset")
        self._wait(self._phase_is_chosen, "the runtime chose no phase")
        return feeder

    def _phase_is_chosen(self) -> bool:
        phase = self._stage.status("runtime").get("phase")
        return not isinstance(phase, dict) or phase.get("state") != "measuring"

    def _start_loads(self, loads: tuple[str, ...]) -> list[Helper]:
        names: tuple[str, ...] = ("receiver", "uploader") if "upload" in loads else ()
        if names or "record" in loads:
            names = (*names, "recorder")
        names = tuple(name for name in names if not self._stage.children[name].is_running)
        self._stage.start(*names)
        for name in set(names) - {"receiver"}:  # whose status does not say which process has written it
            self._wait(partial(self._stage.is_up, name), f"{name} did not come up")
        return self._start_hogs(loads)

    def _start_hogs(self, loads: tuple[str, ...]) -> list[Helper]:
        stage, hogs = self._stage, []
        if "cpu" in loads:
            hogs += [stage.helper(f"hog-{n}", "replay.latency.loads", "cpu") for n in range(os.cpu_count() or 1)]
        if "disk" in loads:
            hogs.append(stage.helper("disk", "replay.latency.loads", "disk", str(stage.folder)))
        return hogs

    def _stop_loads(self, hogs: Sequence[Helper]) -> None:
        for hog in hogs:
            hog.stop()

    def _stop_runtime(self, feeder: Helper) -> dict[str, Any]:
        """Stop what runs, following the data; what the feeder says of itself."""
        self._stage.stop("runtime", "recorder", "uploader", "receiver")
        said: dict[str, Any] = json.loads(feeder.stop())
        return said

    def _runtime_facts(self) -> dict[str, Any]:
        status = self._stage.status("runtime")
        wanted = ("phase", "phase_ms", "realtime", "model", "framesets_dropped", "firing_count", "cameras")
        return {"runtime": {name: status.get(name) for name in wanted}, "ticks_malformed": self._listener.malformed}

    # Waiting

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise InterruptedBenchError("interrupted")
        self._stage.check()

    def _wait(self, done: Callable[[], bool], failure: str) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not done():
            self._pause(0.2)
            if time.monotonic() > deadline_s:
                logs = self._stage.folder / "logs"
                raise StageError(f"{failure} within {START_TIMEOUT_S:g} s: see the logs in {logs}")
