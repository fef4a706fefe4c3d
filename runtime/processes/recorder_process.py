"""The recorder: cuts firings out of history, seals them into the spool. No network, no cameras, no model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock
from runtime.config.rig_config import RigConfig
from runtime.formats.pull_files import PullFolder
from runtime.formats.synced_stream import SyncedStream
from runtime.messages import NANOSECONDS_PER_SECOND, Priority
from runtime.privacy.envelope import openable_bytes
from runtime.privacy.opening import open_policy
from runtime.privacy.policy import PrivacyPolicy
from runtime.privacy.retention import Retention
from runtime.processes.clip_facts import facts_of_clip
from runtime.processes.selection_copy import SelectionCopy, disk_copy_path
from runtime.processes.shell import ProcessShell, log, make_directories
from runtime.recording.clip_sink import ClipOutput, OpenClip, SealedClip
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import Recorder
from runtime.recording.recorder_status import RecorderSettings
from runtime.recording.shrinking import ClipExtent, ShrinkToError
from runtime.recording.thumbnails import ThumbnailSettings
from runtime.spool import (
    ClipDraft,
    ClipShape,
    IsAwaited,
    PartialRescue,
    RescueReport,
    RescueRules,
    ShrinkRequiredError,
    Spool,
    SpooledClip,
    SpoolError,
    all_awaited,
)
from runtime.spool.clips import EXPIRES_KEY

#: A recorder that is told to leave waits so long for a runtime whose firings wait: it may have been told, too.
LEAVING_NS = 10 * NANOSECONDS_PER_SECOND
LEAVING_POLL_S = 0.1


class SpoolClipSink:
    """The recorder's `ClipSink` over the spool; `progress` is called while clips are written: many take long."""

    def __init__(self, spool: Spool, progress: Callable[[], None] = lambda: None) -> None:
        self._spool = spool
        self._progress = progress

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        """Reserve quota; QuotaExceededError (an OSError) when there is none, ShrinkToError when there is some."""
        shape = None if extent is None else ClipShape(extent.cameras, extent.seconds)
        with _told_to_shrink():
            metadata = None if extent is None else _without_date(extent.known_by)
            return _SpoolClip(self._spool, self._spool.begin(expected_bytes, priority, shape, metadata), self._progress)

    def holds(self, clip_id: str) -> bool:
        """True when the ledger has ever known this clip."""
        return self._spool.knows_clip(clip_id)

    def find(self, clip_id: str) -> SealedClip | None:
        """The newest clip of that name; None for one that the ledger has folded."""
        clip = self._spool.find(clip_id)
        return None if clip is None else _sealed(clip)

    def kept(self) -> list[SealedClip]:
        """All clips that wait for delivery."""
        return sorted(map(_sealed, self._spool.pending(limit=None)), key=lambda clip: clip.number)


@dataclass(frozen=True, slots=True)
class _SpoolClip:
    spool: Spool
    draft: ClipDraft
    progress: Callable[[], None]

    @property
    def path(self) -> Path:
        return self.draft.path

    def open(self) -> ClipOutput:
        return _SpoolOutput(self.spool.write_into(self.draft), self.progress)

    def seal(self, metadata: Mapping[str, Any]) -> SealedClip:
        with _told_to_shrink():
            clip = _sealed(self.spool.seal(self.draft, _without_date(metadata)))
        log.info("sealed %s: %s, %d bytes", clip.path, ", ".join(clip.metadata["rules"]), clip.size_bytes)
        self.progress()
        return clip

    def discard(self) -> None:
        self.spool.discard(self.draft)


@dataclass(frozen=True, slots=True)
class _SpoolOutput:
    """A draft's stream, which asks the spool for more room as it grows."""

    stream: SyncedStream
    progress: Callable[[], None]

    @property
    def sync_is_due(self) -> bool:
        return self.stream.sync_is_due

    def write(self, data: bytes, /) -> int:
        with _told_to_shrink():
            written = self.stream.write(data)
        self.progress()
        return written

    def tell(self) -> int:
        return self.stream.tell()

    def flush(self) -> None:
        self.stream.flush()

    def sync(self) -> None:
        self.stream.sync()


def _without_date(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A date of the policy's comes from `keep_s` by a wall clock that may have been wrong when the rule fired.

    The spool was told `keep_s` itself, and measures it by a clock that nobody sets.
    """
    return {key: value for key, value in metadata.items() if key != EXPIRES_KEY}


@contextmanager
def _told_to_shrink() -> Iterator[None]:
    """The spool's words in the recorder's."""
    try:
        yield
    except ShrinkRequiredError as error:
        raise ShrinkToError(str(error), ClipExtent(error.shape.cameras, error.shape.seconds)) from error


def _sealed(clip: SpooledClip) -> SealedClip:
    return SealedClip(clip.path, clip.size_bytes, clip.metadata, clip.n)


def run_recorder(config: RigConfig, stop: threading.Event) -> int:
    """Record until `stop`; then seal what will get no more. The process's exit code."""
    clock = SystemClock()
    directories = make_directories(config)
    shell = ProcessShell("recorder", directories.status, clock, config.health.progress_timeout_s)
    describe = partial(facts_of_clip, vehicle=config.vehicle.id)
    with Spool.open(
        directories.spool, config.spool.quota, retention_s=config.privacy.keep_s, describe=describe
    ) as spool:
        thumbnails = ThumbnailSettings(**config.recorder.thumbnails.model_dump())
        settings = RecorderSettings(config.max_clip_s, config.recorder.crash_pre_s, thumbnails)
        beat = _Beat(shell, clock)
        policy = open_policy(config, directories.campaigns, beat)
        rescue = PartialRescue(spool, RescueRules(policy.half_clip_refusal, openable_bytes))
        _rescue(rescue, all_awaited)
        retention = Retention(spool)
        pulls = PullFolder(directories.spool)
        recorder = Recorder(directories.history, SpoolClipSink(spool, beat), settings, policy, pulls)
        copy = SelectionCopy(HistoryLayout(directories.history).selection, disk_copy_path(directories.spool))
        beat.status = {**_status(recorder, spool, copy), **_privacy(recorder, policy, retention)}
        beat.watch = recorder.watch
        shell.ready(f"recording into {directories.spool}")
        while not stop.wait(config.recorder.scan_interval_s):
            recorder.step(clock.now_ns())
            if spool.must_be_reopened:
                raise SpoolError("the spool lost its ledger or holds half a seal: leaving, the next start recovers it")
            _rescue(rescue, recorder.awaits)
            copy.step(clock.now_ns())
            retention.step(clock.now_ns())
            shell.progress()
            beat.status = {**_status(recorder, spool, copy), **_privacy(recorder, policy, retention)}
            shell.publish(beat.status)
        shell.stopping("sealing what is in flight")
        _let_runtime_leave(recorder, shell, clock)
        recorder.finish(clock.now_ns())
        copy.copy()
        shell.close(lambda: {**_status(recorder, spool, copy), **_privacy(recorder, policy, retention)})
        policy.close()
    return 0


def _let_runtime_leave(recorder: Recorder, shell: ProcessShell, clock: SystemClock) -> None:
    """Where the machine is shut down, history goes with it: what the runtime leaves behind has to be sealed now.

    Where only the recorder is stopped, the runtime stays, and the next recorder finds the whole post-roll.
    """
    deadline_ns = clock.now_ns() + LEAVING_NS
    while recorder.awaits_runtime() and clock.now_ns() < deadline_ns:
        shell.progress()
        time.sleep(LEAVING_POLL_S)


class _Beat:
    """Shows while clips take long (many, or blurred ones) that the process is alive; the status is the last one.

    Meanwhile runtimes may crash and pulls arrive, whose seconds must not be gone by then: `watch`.
    """

    def __init__(self, shell: ProcessShell, clock: SystemClock) -> None:
        self.status: Mapping[str, Any] = {}
        self.watch: Callable[[], object] = lambda: None
        self._shell = shell
        self._clock = clock
        self._next_ns = 0

    def __call__(self) -> None:
        self._shell.progress()
        if self._clock.now_ns() >= self._next_ns:
            self._next_ns = self._clock.now_ns() + NANOSECONDS_PER_SECOND
            self._shell.publish(self.status)
            self.watch()


def _privacy(recorder: Recorder, policy: PrivacyPolicy, retention: Retention) -> dict[str, Any]:
    refused = dict(recorder.status.policy_refused)
    deleted = {"deleted_by_age": retention.deleted, "deleting_error": retention.last_error}
    return {"privacy": {**policy.facts(), "refused_firings": refused, **deleted}}


def _rescue(rescue: PartialRescue, is_awaited: IsAwaited) -> None:
    """Partial clips must not keep the recorder from recording: what fails now is tried again at the next start."""
    try:
        rescued = rescue.step(is_awaited)
    except OSError as error:
        log.error("partial clips stay partial: %s", error)
        return
    if rescued is not None and rescued != RescueReport():
        log.info("partial clips: %s", rescued)


def _status(recorder: Recorder, spool: Spool, copy: SelectionCopy) -> dict[str, Any]:
    status, counts = recorder.status, spool.counts()
    return {
        "sealed": status.sealed,
        "sealed_bytes": status.sealed_bytes,
        "shrunk": status.shrunk,
        "waiting": status.waiting,
        "refused": status.refused,
        "lost_firings": dict(status.lost_firings),
        "policy_refused": dict(status.policy_refused),
        "bad_firings": status.bad_firings,
        "crashes_not_noted": status.crashes_not_noted,
        "unread_answers": status.unread_answers,
        "last_error": status.last_error,
        "pulls": asdict(recorder.pulls),
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
