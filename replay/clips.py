"""Clips of a replay: the runtime's own history and recorder, driven by recorded time, sealing into a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND, Firing, Packet, SignalSample, TickReport
from runtime.recording.answers import SEALED, read_answer
from runtime.recording.calibrations import record_calibrations
from runtime.recording.clip_sink import FolderClipSink, SealedClip
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.provenance import Provenance
from runtime.recording.recorder import Recorder
from runtime.recording.sessions import SessionRecord
from runtime.rig import RigCamera
from triggers import RuleEngine

HISTORY_S = 60.0
HISTORY_BYTES = 1_000_000_000
SHARED_MEMORY = Path("/dev/shm")


class ReplayClips:
    """Records what the replay produces and seals a clip for every firing."""

    def __init__(
        self, out_dir: Path, provenance: Provenance, wall_ns: int, calibrated: Sequence[RigCamera] = ()
    ) -> None:
        """`calibrated`: cameras whose calibration every clip with their pictures has."""
        base = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        self._history = Path(tempfile.mkdtemp(prefix="shadowrig-replay-", dir=base))
        session = SessionRecord(
            session=f"replay-{os.getpid()}", pid=os.getpid(), started_wall_ns=wall_ns, history_s=HISTORY_S,
            provenance=provenance,
        )  # fmt: skip
        self._writer = HistoryWriter(self._history, HISTORY_S, HISTORY_BYTES, session)
        record_calibrations(self._writer, calibrated)
        self._recorder = Recorder(self._history, FolderClipSink(out_dir))
        self._sealed: list[SealedClip] = []
        self._next_step_ns = 0
        self._has_news = False  # the recorder has looked since the rules were told
        self._layout = HistoryLayout(self._history)
        self._reader = HistoryReader(self._history)

    def record(self, packets: Sequence[Packet], samples: Sequence[SignalSample], report: TickReport) -> None:
        """Everything of one tick, in the order in which it happened."""
        for packet in packets:
            self._writer.packet(packet)
        self._writer.signals(samples)
        self._writer.tick(report)
        for firing in report.firings:
            self._writer.firing(firing)
        if report.time_ns >= self._next_step_ns:
            self._sealed += self._recorder.step(report.time_ns)
            self._next_step_ns = report.time_ns + NANOSECONDS_PER_SECOND
            self._has_news = True

    def tell(self, engine: RuleEngine) -> None:
        """Tell the rules what became of their firings, and what recording takes a second."""
        if not self._has_news:
            return
        self._has_news = False
        engine.bytes_per_s = self._reader.bytes_per_s() or engine.bytes_per_s
        for path in self._layout.list_answers():
            answer = read_answer(path)
            if answer.outcome == SEALED:
                engine.settle(answer.sequence, answer.size_bytes, answer.time_ns)
            else:
                engine.lost(answer.sequence, answer.outcome, answer.time_ns)
            path.unlink()

    def finish(self, now_ns: int, firings: Sequence[Firing]) -> dict[int, Path]:
        """Seal what is in flight; the clip of each firing, by its sequence."""
        self._writer.close()
        self._sealed += self._recorder.finish(now_ns)
        self._has_news = True
        return {
            firing.sequence: clip.path
            for firing in firings
            for clip in self._sealed
            if firing.rule in clip.metadata["rules"] and firing.time_ns in clip.metadata["firing_times_ns"]
        }

    def close(self) -> None:
        """Give the memory of history back."""
        shutil.rmtree(self._history, ignore_errors=True)
