"""The runtime's side of history: a bounded queue and the one thread that writes.

Offers never wait and never raise: capture threads and the tick hand over a value and go on. What does not fit (too many
records or too many bytes queued) is refused and counted by kind, a packet together with those that refer to it
(`picture_chains`). Firings have a queue of their own and go first: losing a frame costs its group of pictures, losing a
firing costs a clip. Values that live in a ring (a prediction's heads, a frameset's arrays) are copied at the offer,
because the ring will have moved on when the thread gets to them; the rest of a report (tracks, views, signals) is made
for it alone and never changed.

The thread writes in gulps: it wakes for a tick, for a firing, when much is queued, and else every `GATHER_S`, and all
that is there then reaches the file in one write. So a camera's packet costs neither a wake-up nor a call of the system
of its own, and a process that is killed loses at most the last `GATHER_S` of its records.

A write that fails costs what it held, is counted with its reason, and the thread goes on. Should it end nevertheless,
every offer is refused and `raise_if_dead` tells the runtime, which must not drive on without history.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np

from runtime.formats.json_messages import MAX_RECORDED_HEAD_VALUES
from runtime.messages import Firing, Frameset, Packet, Prediction, SecondLook, SignalSample, TickReport
from runtime.picture_chains import PictureChains
from runtime.recording.history_ring import HistoryCounters
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.sessions import SessionChange

MAX_QUEUED_RECORDS = 4096
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_QUEUED_FIRINGS = 256
MAX_ERROR_TEXTS = 32
#: So long a record may wait for others, so that they are written in one go: what a kill may cost, beside a tick's own.
GATHER_S = 0.05
#: So many records do not wait.
MAX_GATHERED_RECORDS = 64
_NO_IMAGES = np.zeros((0, 3, 0, 0), np.uint8)
#: What a record without a payload of its own is taken to weigh.
_SMALL_RECORD_BYTES = 1024

Record = Packet | TickReport | list[SignalSample] | tuple[str, str, str, int]


class HistoryDeathError(RuntimeError):
    """The thread that writes history has ended although nobody stopped it: nothing is recorded any more."""


class HistorySink:
    """Offers from any thread; `start` and `stop` from the one that owns it."""

    def __init__(self, writer: HistoryWriter, give_way: Callable[[], None] | None = None) -> None:
        """`give_way` is called before each record is written, and may wait there for something more urgent."""
        self._writer = writer
        self._give_way = give_way
        self._records: deque[Record] = deque()
        self._firings: deque[Firing | SessionChange] = deque()
        self._queued_bytes = 0  # of queued records and those in hand
        self._in_hand = 0  # records that the thread is writing
        self._is_due = False
        self._wake = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None  # what ended the thread
        self._is_closed = False  # history was left cleanly
        self._chains = PictureChains()
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
            if self._is_over or len(self._firings) >= MAX_QUEUED_FIRINGS:
                self._refused["firing"] += 1
                return False
            self._firings.append(firing)
            self._wake.notify()
            return True

    def change(self, change: SessionChange) -> bool:
        """Other rules run from this tick on; offered before that tick's firings, and written before them."""
        with self._wake:
            if self._is_over or len(self._firings) >= MAX_QUEUED_FIRINGS:
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
        """Errors of the writing thread so far, by text: each cost a record, or those that were written together."""
        with self._wake:
            return dict(self._errors)

    # Life

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Write what is queued, close history cleanly; False when it is not closed after `timeout_s`, or never will."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and self._is_closed

    def raise_if_dead(self) -> None:
        """Raise HistoryDeathError when the thread ended with an error."""
        if self._failure is not None:
            raise HistoryDeathError(f"the writer of history has died: {self._failure!r}") from self._failure

    @property
    def _is_over(self) -> bool:
        return self._stopping or self._failure is not None

    def _offer(self, kind: str, record: Record) -> bool:
        weight = _weight(record)
        with self._wake:
            queued = len(self._records) + self._in_hand
            is_full = queued >= MAX_QUEUED_RECORDS or self._queued_bytes + weight > MAX_QUEUED_BYTES
            is_taken = not is_full and not self._is_over
            if isinstance(record, Packet):
                is_taken = self._chains.takes(record, is_taken)
            if not is_taken:
                self._refused[kind] += 1
                return False
            self._records.append(record)
            self._queued_bytes += weight
            if isinstance(record, TickReport) or queued >= MAX_GATHERED_RECORDS:
                self._is_due = True
                self._wake.notify()
            return True

    def _run(self) -> None:
        try:
            while (gulp := self._next()) is not None:
                self._guard(self._write_together, gulp)
                self._done(gulp)
            self._is_closed = self._guard(self._writer.close)
        except BaseException as failure:  # kept for the tick, which raises it: nobody else can handle it
            self._failure = failure

    def _write_together(self, gulp: Sequence[Record | Firing | SessionChange]) -> None:
        with self._writer.together():  # most is written when it ends, and that may fail as well
            for record in gulp:
                if self._give_way is not None:
                    self._give_way()
                self._guard(self._write, record)

    def _next(self) -> list[Record | Firing | SessionChange] | None:
        """What to write next, firings first, perhaps nothing; None once stopped and empty."""
        with self._wake:
            self._wake.wait_for(lambda: self._is_due or self._firings or self._stopping, GATHER_S)
            self._is_due = False
            gulp: list[Record | Firing | SessionChange] = list(self._firings)
            self._firings.clear()
            self._in_hand = len(self._records)
            gulp += self._records
            self._records.clear()
            return None if self._stopping and not gulp else gulp

    def _done(self, gulp: Sequence[Record | Firing | SessionChange]) -> None:
        """These are written: there is room for as many others."""
        with self._wake:
            self._in_hand = 0
            self._queued_bytes -= sum(
                _weight(record) for record in gulp if not isinstance(record, (Firing, SessionChange))
            )

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

    def _guard(self, action: Callable[..., object], *arguments: object) -> bool:
        """What cannot be written is counted with its reason (False); the thread goes on with the next."""
        try:
            action(*arguments)
            return True
        except Exception as error:  # whatever one record provokes, the only writer must go on with the next
            with self._wake:
                text = f"{type(error).__name__}: {error}"[:200]
                self._errors[text if len(self._errors) < MAX_ERROR_TEXTS else "others"] += 1
            return False


def _weight(record: Record) -> int:
    return len(record.data) if isinstance(record, Packet) else _SMALL_RECORD_BYTES


def _snapshot(report: TickReport) -> TickReport:
    frameset = _copy_frameset(report.frameset) if report.frameset is not None else None
    prediction = _copy_prediction(report.prediction) if report.prediction is not None else None
    second = None if report.second is None else _copy_second(report.second)
    return dataclasses.replace(report, frameset=frameset, prediction=prediction, second=second)


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
        images=_NO_IMAGES,
        sources=None,
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
