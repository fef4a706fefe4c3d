"""The runtime: cameras and signals in, ticks on the beat, everything into history. It writes to tmpfs only.
Its only connections are its configured sources and, for a bench, telemetry.

Cameras are read in a process of their own (`camera_process`), whose pictures lie in memory shared with the tick; where
the network prepares images itself they are threads of this process. Threads: one for each signal source, one that hears
the cameras' process, one that writes history, and the tick itself.
The tick hands its report to bounded queues and counts what they refuse. Status is written by a thread of its own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runtime.capabilities import SourceFacts
from runtime.capture.assembler import Assembler
from runtime.capture.camera_watch import CameraWatch, MirroredWatch
from runtime.capture.picture_encoders import OpenEncoder
from runtime.clock import Clock, SystemClock
from runtime.composition import (
    compose_tick,
    model_facts,
    open_rig,
    open_rules,
    open_signals,
)
from runtime.config.rig_config import RigConfig
from runtime.declared_signals import declared_types
from runtime.health.garbage import SlackCollector
from runtime.health.interpreter_lock import InterpreterLock
from runtime.health.machine_limits import machine_report
from runtime.health.memory import keep_memory, small_stacks
from runtime.health.realtime import (
    RealtimeReport,
    apply_to_library_threads,
    apply_to_process,
    apply_to_thread,
    inherited,
)
from runtime.live_sources import LEAD_IN_NS, SourceBuilder
from runtime.messages import NANOSECONDS_PER_MILLISECOND, Packet, SignalSample
from runtime.processes.camera_link import CameraLink, ReportListeners
from runtime.processes.camera_threads import CameraListeners, CameraThreads
from runtime.processes.runtime_campaigns import RuntimeCampaigns
from runtime.processes.runtime_openings import (
    launch_cameras,
    open_encoder,
    open_history,
    open_live_network,
    open_second_network,
    open_telemetry,
)
from runtime.processes.runtime_phase import TickPhase
from runtime.processes.runtime_status import TickFigures, camera_status, second_status
from runtime.processes.selection_copy import disk_copy_path
from runtime.processes.selection_keeper import SelectionKeeper
from runtime.processes.shell import ProcessShell, log, make_directories
from runtime.recording.forgotten_runs import forget_old_runs
from runtime.recording.history_sink import HistorySink
from runtime.recording.layout import HistoryLayout


def run_runtime(config: RigConfig, stop: threading.Event) -> int:
    """Tick until `stop`. Raises DocumentError and StartError before anything is started."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # by default it would end the process while that still loads
    small_stacks()
    clock = SystemClock()
    limits = machine_report() + keep_memory()
    runtime = LiveRuntime(config, clock, limits)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: runtime.choose_phase_again())
    runtime.start()
    try:
        runtime.tick_until(stop)
    finally:
        runtime.stop()
    return 0


class LiveRuntime:
    """The composed runtime. Everything is loaded and allocated by the constructor; `start` starts the threads."""

    def __init__(self, config: RigConfig, clock: Clock, limits: RealtimeReport | None = None) -> None:
        self._config = config
        self._clock = clock
        self._directories = make_directories(config)
        self._shell = ProcessShell("runtime", self._directories.status, clock, config.health.progress_timeout_s)
        builder = SourceBuilder(clock)
        declared = declared_types(config.signals.declared)
        own_rules = open_rules(config.rules.files, config.signals.declared)
        self._campaigns = RuntimeCampaigns(self._directories.campaigns, own_rules, config.vehicle.id, clock, declared)
        names = builder.camera_names(config)
        self._network = self._campaigns.choose_network(
            lambda bundle: open_live_network(config, names, bundle, self._directories.engines)
        )
        self._second_network, self._second_refusal = open_second_network(
            config, names, self._network, self._directories.engines
        )
        rig = open_rig(config.rig)
        launched = launch_cameras(config, names, self._network, self._second_network)
        if launched is not None:
            launched[0].wait_until_built()
        self._begin_ns = clock.now_ns() + LEAD_IN_NS
        self._sources = builder.build(config, self._begin_ns)  # last: a recorded drive begins to play from here on
        kind = CameraWatch if launched is None else MirroredWatch
        self._watches = [kind(camera.name, camera.size, clock.now_ns()) for camera in self._sources.cameras]
        self._table = open_signals(config.signals.timeouts_s, config.signals.default_timeout_s)
        self.parts = compose_tick(
            self._watches, self._network, rig, self._table, self._campaigns.rules, config.rules.seed,
            config.tick.rate_hz, config.tick.reference_of(names), SourceFacts(self._sources.signal_names),
            second=self._second_network, memory=None if launched is None else launched[1],
        )  # fmt: skip
        self._campaigns.attach(self.parts)
        self._lock = InterpreterLock()
        self.parts.pipeline.on_predicted = self._lock.hold
        self._sink = HistorySink(
            open_history(config, self._directories.history, self._sources.cameras, self.parts, clock, rig),
            self._lock.give_way,
        )
        layout, disk_copy = HistoryLayout(self._directories.history), disk_copy_path(self._directories.spool)
        forget_old_runs(layout)
        self._selection = SelectionKeeper(self.parts.engine, layout, disk_copy, clock)
        self._selection.restore()
        encoder = open_encoder(config)  # tells before anything is started that there is none
        self._phase = TickPhase(config.tick, self.parts, clock)
        self._metronome = self._phase.metronome
        self._realtime = limits or RealtimeReport()
        self._realtime_lock = threading.Lock()
        self._cameras = self._camera_threads(encoder) if launched is None else self._attached(launched[0])
        self._telemetry = open_telemetry(config.health.telemetry)
        self._collector = SlackCollector()
        self._leave = threading.Event()
        self._status_thread = threading.Thread(target=self._publish_regularly, name="status", daemon=True)
        self.figures = TickFigures()

    # Start and stop

    def start(self) -> None:
        """Start every thread; the grid starts now, so that ticks come even when no camera ever does."""
        realtime = self._config.realtime
        self._note(apply_to_library_threads(realtime.tick_priority))
        self.parts.grid.start(self._clock.now_ns())
        # Two threads may compute for seconds (an encoder, a campaign's rules). In real time they would fill a processor
        # and the kernel would stop every real-time thread on it, the tick too: they stay at normal priority.
        self._campaigns.start()
        if isinstance(self._cameras, CameraThreads):
            self._cameras.start()
        with inherited("helpers", realtime.helper_priority) as report:
            self._note(report)
            self._sink.start()
            self._selection.start()
            for source in self._sources.signals:
                source.start(self._take_sample)
            self._status_thread.start()
            if isinstance(self._cameras, CameraLink):
                self._cameras.start(self._begin_ns)
        self._note(apply_to_process(realtime.lock_memory))
        self._shell.ready(f"ticking at {self._config.tick.rate_hz:g} Hz over {len(self._watches)} cameras")

    def stop(self) -> None:
        """Stop sources, write what is queued, and leave history cleanly closed."""
        self._shell.stopping("closing history")
        self._leave.set()
        self._campaigns.stop()
        for source in self._sources.signals:
            source.stop()
        self._cameras.stop()
        if not self._sink.stop(self._config.health.shutdown_timeout_s or 1.0):
            log.error("history was not closed cleanly, or not in time: the recorder will call this run crashed")
        self._selection.stop()
        self._status_thread.join(5.0)
        self.parts.pipeline.close()
        if self._telemetry is not None:
            self._telemetry.close()
        self._shell.close(self._status)
        for network in (self.parts.network, self._second_network):
            if network is not None:
                network.close()

    # The tick

    def tick_until(self, stop: threading.Event) -> None:
        """The loop of ticks, on the calling thread."""
        realtime = self._config.realtime
        self._note(apply_to_thread("tick", realtime.tick_priority, realtime.tick_cpus))
        self._lock.share()
        self._collector.start()
        try:
            while (instant := self._metronome.wait_for_next(stop)) is not None:
                self._tick(instant)
        finally:
            self._collector.stop()
            self._lock.leave()

    def _tick(self, instant: int) -> None:
        self._sink.raise_if_dead()
        grid, began_ns = self.parts.grid, self._clock.now_ns()
        self._campaigns.between_ticks(self.parts, self._sink, (grid.time_of(instant - 1) + grid.time_of(instant)) // 2)
        if self.parts.network is not None:  # perhaps another one since the last tick
            self.parts.network.on_ran = self._lock.hold
        report = self.parts.pipeline.tick(instant, grid.time_of(instant), self._clock.wall_ns(), began_ns)
        result_ns = self._clock.now_ns()
        self._lock.share()
        had_frames = report.frameset is not None and not report.frameset.is_empty
        captured_ns = report.time_ns if had_frames else None
        self.parts.tick_health.note(began_ns, result_ns, captured_ns, self._metronome.skipped)
        self.figures.add(report, result_ns, self._phase.is_measuring)
        if self._telemetry is not None:
            self._telemetry.publish(report, began_ns, result_ns)
        self._sink.tick(report)
        for firing in report.firings:
            if not self._sink.firing(firing):
                self.parts.engine.lost(firing.sequence, "history")
        self._selection.after_tick(result_ns)
        self._shell.progress()
        self._phase.after_tick(began_ns, result_ns)
        self._collector.offer(self._metronome.due_ns(instant + 1) - self._clock.now_ns())

    def choose_phase_again(self) -> None:
        """Measure readiness anew from the next tick on."""
        self._phase.ask_again()

    def _keep_packet(self, packet: Packet) -> None:
        self._sink.packet(packet)  # a refusal is counted by the sink

    def _take_sample(self, sample: SignalSample) -> None:
        self._table.offer(sample)
        self._sink.signals([sample])

    # Composition

    def _camera_threads(self, encoder: OpenEncoder) -> CameraThreads:
        """The cameras beside the tick."""
        listeners = CameraListeners(self._keep_packet, self._note, self._phase.listener, self._lock.give_way)
        return CameraThreads(
            self._sources.cameras, self._watches, self._assemblers(), self._clock, self._config.realtime, listeners,
            encoder,
        )  # fmt: skip

    def _assemblers(self) -> list[Assembler]:
        """One for each kind of image: none without a network, two when a second one takes other images."""
        second = None if self.parts.second is None else self.parts.second.images
        return [each for each in (self.parts.assembler, second) if each is not None]

    def _attached(self, link: CameraLink) -> CameraLink:
        """The cameras in their process."""
        mirrored = [watch for watch in self._watches if isinstance(watch, MirroredWatch)]
        listeners = ReportListeners(
            self._keep_packet, self._note, self._phase.ready, self._lock.give_way, self._clock.now_ns
        )
        link.attach(mirrored, self._assemblers(), self.parts.grid, listeners)
        return link

    # Status

    def _note(self, report: RealtimeReport) -> None:
        with self._realtime_lock:
            self._realtime += report

    def _publish_regularly(self) -> None:
        while not self._leave.wait(self._config.health.status_interval_s):
            self._shell.publish(self._status())

    def _status(self) -> Mapping[str, Any]:
        figures, epoch = self.figures, self._sources.epoch
        return {
            "ticks": figures.ticks,
            "framesets": figures.framesets,
            "framesets_dropped": self._metronome.skipped,
            "latency_ms": figures.latency.to_dict(),
            "latency_while_measuring_ms": figures.latency_while_measuring.to_dict(),
            "stages_ms": {stage: histogram.to_dict() for stage, histogram in list(figures.stages.items())},
            "phase_ms": self._metronome.phase_ns / NANOSECONDS_PER_MILLISECOND,
            "phase": self._phase.status(),
            "cameras": camera_status(self._watches, self.parts),
            "firing_count": figures.firing_count,
            "firings": figures.newest_firings(),
            "rules": [rule.name for rule in self.parts.rules.rules],
            "campaigns": self._campaigns.facts,
            "not_applicable": dict(self.parts.not_applicable),
            "learned": self.parts.learned.status(),
            "not_understood": dict(self.parts.engine.not_understood),
            "items_refused": self.parts.engine.items_refused,
            "object_lists_refused": dict(self.parts.objects.malformed),
            "suppressed": {rule: dict(reasons) for rule, reasons in self.parts.engine.suppressed.items()},
            "ledger": self.parts.engine.ledger,
            "selection": self._selection.status(),
            "agreement": figures.scoreboard.to_dict(),
            "model": model_facts(self.parts.network),
            "second_model": second_status(self.parts, self._second_refusal),
            "epoch": None if epoch is None else asdict(epoch),
            "signals": self._signal_status(),
            "history": {"refused": self._sink.refused(), "errors": self._sink.errors(), **asdict(self._sink.counters)},
            "encoder": self._cameras.encoder_status(),
            "cameras_process": self._cameras.process_status(),
            "realtime": self._realtime.to_list(),
        }

    def _signal_status(self) -> dict[str, Any]:
        """Every source's state, and what the table took and refused."""
        counters = asdict(self._table.counters())
        return {"sources": [asdict(source.status()) for source in self._sources.signals], "table": counters}
