"""What the runtime's status file says of ticks, firings and cameras. Read by a thread of its own while ticks go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from runtime.capture.camera_watch import CameraWatch
from runtime.composition import TickParts, model_facts
from runtime.health.histogram import LatencyHistogram
from runtime.messages import NANOSECONDS_PER_MILLISECOND, Firing, TickReport
from runtime.shadow.scoreboard import Scoreboard

#: Firings that the status file lists, newest last.
LISTED_FIRINGS = 200


class TickFigures:
    """What the ticks have been so far. Written by the tick, read by the status thread."""

    def __init__(self) -> None:
        self.ticks = 0
        self.framesets = 0
        #: Of ticks at the phase that stands, and of those before it was chosen: their wait is a provisional one.
        self.latency = LatencyHistogram()
        self.latency_while_measuring = LatencyHistogram()
        self.stages: dict[str, LatencyHistogram] = {}
        self.scoreboard = Scoreboard()
        self.firings: deque[Firing] = deque(maxlen=LISTED_FIRINGS)
        self.firing_count = 0

    def add(self, report: TickReport, result_ns: int, is_measuring: bool) -> None:
        """Count one tick whose result was there at `result_ns`; `is_measuring` while its phase is being chosen."""
        self.ticks += 1
        if report.frameset is not None and not report.frameset.is_empty:
            self.framesets += 1
            if is_measuring and self.latency.count:
                self.latency.clear()  # measured again on command: what was is no more
            histogram = self.latency_while_measuring if is_measuring else self.latency
            histogram.record_ns(max(0, result_ns - report.time_ns))
        for stage, milliseconds in report.timings_ms.items():
            histogram = self.stages.setdefault(stage, LatencyHistogram())
            histogram.record_ns(round(milliseconds * NANOSECONDS_PER_MILLISECOND))
        if report.comparison is not None:
            self.scoreboard.add(report.comparison)
        if report.second is not None:
            self.scoreboard.add(report.second.comparison)
        self.firings.extend(report.firings)
        self.firing_count += len(report.firings)

    def newest_firings(self) -> list[dict[str, Any]]:
        """The newest firings for the status file, newest last."""
        return [_listed(firing) for firing in list(self.firings)]


def camera_status(watches: Sequence[CameraWatch], parts: TickParts) -> dict[str, Any]:
    """Every camera's state and what became of its packets and frames."""
    frames = {} if parts.assembler is None else parts.assembler.counters()
    latest = parts.health.latest
    status = {}
    for watch in watches:
        counters, frame = watch.counters, frames.get(watch.name)
        health = latest.get(watch.name)
        status[watch.name] = {
            "state": watch.connection if health is None else health.state,
            "detail": watch.error if health is None else health.detail,
            "packets": counters.packets,
            "bytes": counters.bytes,
            "lost": counters.lost,
            "decode_errors": counters.decode_errors,
            "reconnects": counters.reconnects,
            "received": 0 if frame is None else frame.received,
            "missing": 0 if frame is None else frame.missing,
            "late": 0 if frame is None else frame.late,
            "held": 0 if frame is None else frame.held,
            "prepared_here": 0 if frame is None else frame.prepared_here,
            "prepared_here_because": "" if frame is None else frame.prepared_here_because,
        }
    return status


def second_status(parts: TickParts, refusal: str) -> dict[str, Any] | None:
    """The second candidate, and on how many ticks it looked; why it was refused at the start; None: there is none."""
    second = parts.second
    if second is None:
        return {"refused": refusal} if refusal else None
    return {**(model_facts(second.network) or {}), "runs": second.runs, "skipped": second.skipped}


def _listed(firing: Firing) -> dict[str, Any]:
    return {
        "rule": firing.rule,
        "mono_ns": firing.time_ns,
        "wall_ns": firing.wall_ns,
        "sequence": firing.sequence,
        "operands": dict(firing.operands),
    }
