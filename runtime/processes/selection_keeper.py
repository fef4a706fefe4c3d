"""Budgets and tallies across restarts, and what the recorder says of firings, on behalf of the tick.

The tick thread calls `after_tick` alone: it takes a few answers from a bounded queue into the engine, and at most once
a second, when something changed, gives a snapshot away. A thread of its own does everything that touches files:
- it reads `answers/` into the queue, and measures what history takes a second (for the size of clips to come);
- it writes the newest snapshot to `selection.json` beside history, on tmpfs, in one atomic step;
- it removes the answers that a written snapshot has taken in, and no others.

Killed anywhere, the next run starts from the last snapshot and reads the answers that are not in it again; an answer
that was in it changes nothing the second time. What is lost is what happened since that snapshot: `SAVE_INTERVAL_NS`
plus one round of the thread, under two seconds. A reboot empties tmpfs: then the copy that the recorder makes on disk
every minute is read instead (`selection_copy`). A file that cannot be read is reported, and budgets begin anew.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.answers import SEALED, Answer, AnswerFileError, read_answer
from runtime.recording.history_reader import HistoryReader
from runtime.recording.layout import HistoryLayout, write_atomically
from triggers import RuleEngine
from triggers.selection.saved_state import SavedStateError

log = logging.getLogger("shadowrig")

SAVE_INTERVAL_NS = NANOSECONDS_PER_SECOND
ROUND_S = 0.25
MAX_QUEUED = 256
ANSWERS_PER_TICK = 16
MAX_STATE_BYTES = 64 * 1024 * 1024


class SelectionKeeper:
    """One for an engine. `restore`, `after_tick` and `stop` belong to the thread that ticks."""

    def __init__(self, engine: RuleEngine, layout: HistoryLayout, disk_copy: Path, clock: Clock) -> None:
        self._engine = engine
        self._layout = layout
        self._history = HistoryReader(layout.directory)
        self._disk_copy = disk_copy
        self._clock = clock
        self._answers: deque[tuple[int, Answer]] = deque()  # numbered; from the thread to the tick
        self._snapshots: deque[tuple[int, dict[str, Any]]] = deque(maxlen=1)  # with the last answer it took in
        self._taken = 0  # number of the last answer that the engine took; written by the tick
        self._saved_changes, self._saved_taken = engine.changes, 0  # of the last snapshot
        self._failed = False  # the last snapshot was not written; set by the thread, reset by the tick
        self._next_save_ns = 0
        self._read = 0  # what follows belongs to the thread
        self._waiting: dict[Path, int] = {}  # answers that were read, until a snapshot with them is written
        self._counts: Counter[str] = Counter()
        self._error = ""
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="selection", daemon=True)

    # The tick's side

    def restore(self) -> None:
        """Take over what the last run left: from tmpfs, after a reboot from the recorder's copy on disk."""
        for path in (self._layout.selection, self._disk_copy):
            saved = self._load(path)
            if saved is None:
                continue
            try:
                self._engine.restore(saved, self._clock.wall_ns(), self._clock.now_ns())
                return
            except SavedStateError as error:
                self._fail("unreadable", f"{path}: {error}")

    def after_tick(self, now_ns: int) -> None:
        """Bring answers in and, when it is time, give a snapshot away. Never waits."""
        for _ in range(min(len(self._answers), ANSWERS_PER_TICK)):
            number, answer = self._answers.popleft()
            if answer.outcome == SEALED:
                self._engine.settle(answer.sequence, answer.size_bytes, answer.time_ns)
            else:
                self._engine.lost(answer.sequence, answer.outcome, answer.time_ns)
            self._taken = number
        if now_ns >= self._next_save_ns and self._has_news():
            self._offer_snapshot()
            self._next_save_ns = now_ns + SAVE_INTERVAL_NS

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write everything a last time. Answers that have not been taken in stay for the next run."""
        if self._thread.is_alive():
            self._leave.set()
            self._thread.join(timeout_s)
        if self._has_news():
            self._offer_snapshot()
        self._save()

    def _has_news(self) -> bool:
        return self._failed or self._engine.changes != self._saved_changes or self._taken != self._saved_taken

    def _offer_snapshot(self) -> None:
        self._saved_changes, self._saved_taken, self._failed = self._engine.changes, self._taken, False
        self._snapshots.append((self._taken, self._engine.save()))

    # The thread's side

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._leave.wait(ROUND_S):
                self.work()
        except BaseException as error:  # told and not raised: the tick must go on, and nobody else can handle it
            self._fail("thread_died", f"budgets are no longer saved, restart the runtime: {error!r}")
            log.exception("the thread that saves budgets has died")

    def work(self) -> None:
        """One round: save, read answers, measure."""
        self._save()
        try:
            self._read_answers(self._layout.list_answers())
            bytes_per_s = self._history.bytes_per_s()
        except OSError as error:
            self._fail("not_read", str(error))
            return
        if bytes_per_s is not None:
            self._engine.bytes_per_s = bytes_per_s

    def _save(self) -> None:
        if not self._snapshots:
            return
        taken, snapshot = self._snapshots.popleft()
        try:
            write_atomically(self._layout.selection, json.dumps(snapshot, allow_nan=False).encode())
        except (OSError, ValueError) as error:  # ValueError: a number that is none, which nobody could read back
            self._fail("not_saved", f"{self._layout.selection}: {error}")
            self._failed = True
            return
        self._counts["saved"] += 1
        done = [path for path, number in self._waiting.items() if number <= taken]
        for path in done:
            if self._remove(path):
                del self._waiting[path]

    def _read_answers(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path in self._waiting:
                continue
            if len(self._answers) >= MAX_QUEUED:
                self._counts["answers_put_off"] += 1  # it stays where it is until the next round
                return
            try:
                answer = read_answer(path)
            except FileNotFoundError:
                continue  # the recorder made room
            except (AnswerFileError, OSError) as error:
                self._fail("bad_answers", str(error))
                self._remove(path)
                continue
            self._read += 1
            self._waiting[path] = self._read
            self._counts["answers"] += 1
            self._answers.append((self._read, answer))

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._fail("not_removed", str(error))
            return False
        return True

    def _load(self, path: Path) -> dict[str, Any] | None:
        try:
            with path.open("rb") as stream:
                saved = json.loads(stream.read(MAX_STATE_BYTES + 1))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._fail("unreadable", f"{path}: {error}")
            return None
        if not isinstance(saved, dict):
            self._fail("unreadable", f"{path}: holds {type(saved).__name__}, not an object")
            return None
        return saved

    def _fail(self, kind: str, text: str) -> None:
        self._counts[kind] += 1
        self._error = text

    # To look at

    def status(self) -> Mapping[str, Any]:
        """Counts for the status file; from any thread."""
        engine = self._engine
        return {
            **dict(self._counts),
            "firings_in_flight": engine.firings_in_flight,
            "unknown_answers": engine.unknown_answers,
            "damaged_parts": engine.damaged_parts,
            "bytes_per_s": round(engine.bytes_per_s),
            "last_error": self._error,
        }
