"""Clips of a replay: the runtime's own history and recorder, driven by recorded time, sealing into a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND, Firing, Packet, SignalSample, TickReport
from runtime.recording.clip_sink import FolderClipSink, SealedClip
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.provenance import Provenance
from runtime.recording.recorder import Recorder
from runtime.recording.sessions import SessionRecord

HISTORY_S = 60.0
HISTORY_BYTES = 1_000_000_000
SHARED_MEMORY = Path("/dev/shm")


class ReplayClips:
    """Records what the replay produces and seals a clip for every firing."""

    def __init__(self, out_dir: Path, provenance: Provenance, wall_ns: int) -> None:
        base = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        self._history = Path(tempfile.mkdtemp(prefix="shadowrig-replay-", dir=base))
        session = SessionRecord(
            session=f"replay-{os.getpid()}", pid=os.getpid(), started_wall_ns=wall_ns, history_s=HISTORY_S,
            provenance=provenance,
        )  # fmt: skip
        self._writer = HistoryWriter(self._history, HISTORY_S, HISTORY_BYTES, session)
        self._recorder = Recorder(self._history, FolderClipSink(out_dir))
        self._sealed: list[SealedClip] = []
        self._next_step_ns = 0

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

    def finish(self, now_ns: int, firings: Sequence[Firing]) -> dict[int, Path]:
        """Seal what is in flight; the clip of each firing, by its sequence."""
        self._writer.close()
        self._sealed += self._recorder.finish(now_ns)
        return {
            firing.sequence: clip.path
            for firing in firings
            for clip in self._sealed
            if firing.rule in clip.metadata["rules"] and firing.time_ns in clip.metadata["firing_times_ns"]
        }

    def close(self) -> None:
        """Give the memory of history back."""
        shutil.rmtree(self._history, ignore_errors=True)
