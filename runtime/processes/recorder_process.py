"""The recorder: cuts firings out of history, seals them into the spool. No network, no cameras, no model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock
from runtime.config.rig_config import RigConfig
from runtime.messages import Priority
from runtime.processes.selection_copy import SelectionCopy, disk_copy_path
from runtime.processes.shell import ProcessShell, log, make_directories
from runtime.recording.clip_sink import OpenClip, SealedClip
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import Recorder, RecorderSettings
from runtime.spool import ClipDraft, RescueReport, Spool, SpoolError, rescue_partials


class SpoolClipSink:
    """The recorder's `ClipSink` over the spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def begin(self, expected_bytes: int, priority: Priority) -> OpenClip:
        """Reserve quota; QuotaExceededError (an OSError) when there is none."""
        return _SpoolClip(self._spool, self._spool.begin(expected_bytes, priority))

    def holds(self, clip_id: str) -> bool:
        """True when the ledger has ever known this clip."""
        return self._spool.knows_clip(clip_id)


@dataclass(frozen=True, slots=True)
class _SpoolClip:
    spool: Spool
    draft: ClipDraft

    @property
    def path(self) -> Path:
        return self.draft.path

    def seal(self, metadata: Mapping[str, Any]) -> SealedClip:
        clip = self.spool.seal(self.draft, metadata)
        return SealedClip(clip.path, clip.size_bytes, metadata)

    def discard(self) -> None:
        self.spool.discard(self.draft)


def run_recorder(config: RigConfig, stop: threading.Event) -> int:
    """Record until `stop`; then seal what is in flight. The process's exit code."""
    clock = SystemClock()
    directories = make_directories(config)
    shell = ProcessShell("recorder", directories.status, clock, config.health.progress_timeout_s)
    with Spool.open(directories.spool, config.spool.quota) as spool:
        _rescue(spool)
        settings = RecorderSettings(max_clip_s=config.max_clip_s)
        recorder = Recorder(directories.history, SpoolClipSink(spool), settings)
        copy = SelectionCopy(HistoryLayout(directories.history).selection, disk_copy_path(directories.spool))
        shell.ready(f"recording into {directories.spool}")
        while not stop.wait(config.recorder.scan_interval_s):
            _tell(recorder.step(clock.now_ns()))
            if spool.must_be_reopened:
                raise SpoolError("a failed seal could not be taken back: leaving, the next start recovers the spool")
            copy.step(clock.now_ns())
            shell.progress()
            shell.publish(_status(recorder, spool, copy))
        shell.stopping("sealing what is in flight")
        _tell(recorder.finish(clock.now_ns()))
        copy.copy()
        shell.close(lambda: _status(recorder, spool, copy))
    return 0


def _rescue(spool: Spool) -> None:
    """Partial clips must not keep the recorder from recording: what fails now is tried again at the next start."""
    try:
        rescued = rescue_partials(spool)
    except SpoolError as error:
        log.error("partial clips stay partial: %s", error)
        return
    if rescued != RescueReport():
        log.info("partial clips: %s", rescued)


def _tell(clips: list[SealedClip]) -> None:
    for clip in clips:
        log.info("sealed %s: %s, %d bytes", clip.path, ", ".join(clip.metadata["rules"]), clip.size_bytes)


def _status(recorder: Recorder, spool: Spool, copy: SelectionCopy) -> dict[str, Any]:
    status, counts = recorder.status, spool.counts()
    return {
        "sealed": status.sealed,
        "sealed_bytes": status.sealed_bytes,
        "waiting": status.waiting,
        "refused": status.refused,
        "lost_firings": dict(status.lost_firings),
        "bad_firings": status.bad_firings,
        "unread_answers": status.unread_answers,
        "last_error": status.last_error,
        "selection_copy": {"failures": copy.failures, "last_error": copy.last_error},
        "spool": {
            "sealed": counts.sealed,
            "pending": counts.pending,
            "delivered": counts.delivered,
            "tombstoned": counts.tombstoned,
            "bytes_used": counts.bytes_used,
            "quota_bytes": counts.quota_bytes,
            "alarms": counts.alarms,
        },
    }
