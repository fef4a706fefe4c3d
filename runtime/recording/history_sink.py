"""The runtime's side of history: a bounded queue and the one thread that writes.

Offers never wait and never raise: capture threads and the tick hand over a value and go on. What does not fit (too many
records or too many bytes queued) is refused and counted by kind. Firings have a queue of their own and go first: losing
a frame costs a frame, losing a firing costs a clip. Values that live in a ring (a prediction's heads, a frameset's
arrays) are copied at the offer, because the ring will have moved on when the thread gets to them.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np

from runtime.formats.json_messages import MAX_RECORDED_HEAD_VALUES
from runtime.messages import Firing, Frameset, Packet, Prediction, SecondLook, SignalSample, TickReport
from runtime.recording.history_writer import HistoryCounters, HistoryWriter
from runtime.recording.sessions import SessionChange

MAX_QUEUED_RECORDS = 4096
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_QUEUED_FIRINGS = 256
MAX_ERROR_TEXTS = 32
#: What a record without a payload of its own is taken to weigh.
_SMALL_RECORD_BYTES = 1024

Record = Packet | TickReport | list[SignalSample] | tuple[str, str, str, int]


class HistorySink:
    """Offers from any thread; `start` and `stop` from the one that owns it."""

    def __init__(self, writer: HistoryWriter, give_way: Callable[[], None] | None = None) -> None:
        """`give_way` is called before each record is written, and may wait there for something more urgent."""
        self._writer = writer
        self._give_way = give_way
        self._records: deque[Record] = deque()
        self._firings: deque[Firing | SessionChange] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._refused: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    # Offers

    def packet(self, packet: Packet) -> bool:
        """A camera's access unit; False when refused."""
        return self._offer("packet", packet)

    def signals(self, samples: Sequence[SignalSample]) -> bool:
        """Samples as they arrived."""
        return self._offer("signals", list(samples))

    def tick(self, report: TickReport) -> bool:
        """The result of a tick; its firings are offered one by one with `firing`."""
        return self._offer("tick", _snapshot(report))

    def log(self, level: str, name: str, message: str, time_ns: int) -> bool:
        """A log line that belongs into recordings."""
        return self._offer("log", (level, name, message, time_ns))

    def firing(self, firing: Firing) -> bool:
        """A rule that went off."""
        with self._wake:
            if self._stopping or len(self._firings) >= MAX_QUEUED_FIRINGS:
                self._refused["firing"] += 1
                return False
            self._firings.append(firing)
            self._wake.notify()
            return True

    def change(self, change: SessionChange) -> bool:
        """Other rules run from this tick on; offered before that tick's firings, and written before them."""
        with self._wake:
            if self._stopping or len(self._firings) >= MAX_QUEUED_FIRINGS:
                self._refused["change"] += 1
                return False
            self._firings.append(change)
            self._wake.notify()
            return True

    def refused(self) -> dict[str, int]:
        """Offers refused so far, by kind."""
        with self._wake:
            return dict(self._refused)

    @property
    def counters(self) -> HistoryCounters:
        """What the writer did so far; its own thread goes on counting."""
        return self._writer.counters

    def errors(self) -> dict[str, int]:
        """Errors of the writing thread so far, by text: each cost one record."""
        with self._wake:
            return dict(self._errors)

    # Life

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Write what is queued, close history cleanly; False when that took longer than `timeout_s`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _offer(self, kind: str, record: Record) -> bool:
        weight = _weight(record)
        with self._wake:
            full = len(self._records) >= MAX_QUEUED_RECORDS or self._queued_bytes + weight > MAX_QUEUED_BYTES
            if full or self._stopping:
                self._refused[kind] += 1
                return False
            self._records.append(record)
            self._queued_bytes += weight
            self._wake.notify()
            return True

    def _run(self) -> None:
        while (record := self._next()) is not None:
            if self._give_way is not None:
                self._give_way()
            self._guard(self._write, record)
        self._guard(self._writer.close)

    def _next(self) -> Record | Firing | SessionChange | None:
        """The next value to write, firings first; None once stopped and empty."""
        with self._wake:
            self._wake.wait_for(lambda: self._records or self._firings or self._stopping)
            if self._firings:
                return self._firings.popleft()
            if not self._records:
                return None
            record = self._records.popleft()
            self._queued_bytes -= _weight(record)
            return record

    def _write(self, record: Record | Firing | SessionChange) -> None:
        if isinstance(record, Firing):
            self._writer.firing(record)
        elif isinstance(record, SessionChange):
            self._writer.change(record)
        elif isinstance(record, Packet):
            self._writer.packet(record)
        elif isinstance(record, TickReport):
            self._writer.tick(record)
        elif isinstance(record, list):
            self._writer.signals(record)
        else:
            self._writer.log(*record)

    def _guard(self, action: Callable[..., object], *arguments: object) -> None:
        """A record that cannot be written is counted with its reason; the thread goes on with the next."""
        try:
            action(*arguments)
        except Exception as error:  # whatever one record provokes, the only writer must go on with the next
            with self._wake:
                text = f"{type(error).__name__}: {error}"[:200]
                self._errors[text if len(self._errors) < MAX_ERROR_TEXTS else "others"] += 1


def _weight(record: Record) -> int:
    return len(record.data) if isinstance(record, Packet) else _SMALL_RECORD_BYTES


def _snapshot(report: TickReport) -> TickReport:
    frameset = _copy_frameset(report.frameset) if report.frameset is not None else None
    prediction = _copy_prediction(report.prediction) if report.prediction is not None else None
    # The tracker goes on moving its own tracks.
    tracks = None if report.tracks is None else [dataclasses.replace(track) for track in report.tracks]
    second = None if report.second is None else _copy_second(report.second)
    return dataclasses.replace(report, frameset=frameset, prediction=prediction, tracks=tracks, second=second)


def _copy_second(second: SecondLook) -> SecondLook:
    """Its tracks are not recorded."""
    return SecondLook(_copy_prediction(second.prediction), (), second.comparison)


def _copy_frameset(frameset: Frameset) -> Frameset:
    """Without images: video is recorded as packets."""
    return dataclasses.replace(
        frameset,
        present=frameset.present.copy(),
        frame_time_ns=frameset.frame_time_ns.copy(),
        frame_sequence=frameset.frame_sequence.copy(),
        images=np.zeros((0, 3, 0, 0), np.uint8),
    )


def _copy_prediction(prediction: Prediction) -> Prediction:
    found = prediction.detections
    detections = dataclasses.replace(
        found,
        camera=found.camera.copy(),
        class_id=found.class_id.copy(),
        score=found.score.copy(),
        box_px=found.box_px.copy(),
        state=list(found.state),
    )
    heads = {name: head.copy() for name, head in prediction.heads.items() if head.size <= MAX_RECORDED_HEAD_VALUES}
    return dataclasses.replace(prediction, detections=detections, heads=heads)
