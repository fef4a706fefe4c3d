"""The recorder: cuts firings out of history, seals them into the spool. No network, no cameras, no model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from runtime.clock import SystemClock
from runtime.config.rig_config import RigConfig
from runtime.formats.pull_files import PullFolder
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.privacy.locked_files import openable_bytes
from runtime.privacy.opening import open_policy
from runtime.privacy.policy import PrivacyPolicy
from runtime.privacy.retention import Retention
from runtime.processes.alarm_log import AlarmLog
from runtime.processes.clip_facts import facts_of_clip
from runtime.processes.selection_copy import SelectionCopy, disk_copy_path
from runtime.processes.shell import ProcessShell, log, make_directories
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.processes.spool_opening import SpoolFigures, open_spool
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import Recorder
from runtime.recording.recorder_status import RecorderSettings
from runtime.recording.thumbnails import ThumbnailSettings
from runtime.spool import IsAwaited, PartialRescue, RescueReport, RescueRules, Spool, SpoolError, all_awaited

#: A recorder that is told to leave waits so long for a runtime whose firings wait: it may have been told, too.
LEAVING_NS = 10 * NANOSECONDS_PER_SECOND
LEAVING_POLL_S = 0.1


def run_recorder(config: RigConfig, stop: threading.Event) -> int:
    """Record until `stop`; then seal what will get no more. The process's exit code."""
    clock = SystemClock()
    directories = make_directories(config)
    shell = ProcessShell("recorder", directories.status, clock, config.health.progress_timeout_s)
    describe = partial(facts_of_clip, vehicle=config.vehicle.id)
    opened = partial(
        Spool.open, directories.spool, config.spool.quota, retention_s=config.privacy.keep_s, describe=describe
    )
    spool = open_spool(opened, shell, stop)
    if spool is None:
        return _left_without_spool(shell)
    with spool:
        thumbnails = ThumbnailSettings(**config.recorder.thumbnails.model_dump())
        settings = RecorderSettings(config.max_clip_s, config.recorder.crash_pre_s, thumbnails)
        beat = _Beat(shell, clock)
        policy = open_policy(config, directories.campaigns, beat)
        rescue = PartialRescue(spool, RescueRules(policy.half_clip_refusal, openable_bytes))
        _rescue(rescue, all_awaited)
        retention, alarms = Retention(spool), AlarmLog(spool)
        alarms.step()
        pulls = PullFolder(directories.spool)
        recorder = Recorder(directories.history, SpoolClipSink(spool, beat), settings, policy, pulls)
        copy = SelectionCopy(HistoryLayout(directories.history).selection, disk_copy_path(directories.spool))
        spool_figures = SpoolFigures(spool)
        figures = partial(_figures, recorder, spool_figures, alarms, copy, policy, retention, config.privacy.keep_s)
        beat.status = figures()
        beat.watch = recorder.watch
        shell.ready(f"recording into {directories.spool}")
        while not stop.wait(config.recorder.scan_interval_s):
            recorder.step(clock.now_ns())
            if spool.must_be_reopened:
                raise SpoolError("the spool lost its ledger or holds half a seal: leaving, the next start recovers it")
            _rescue(rescue, recorder.awaits)
            copy.step(clock.now_ns())
            retention.step(clock.now_ns())
            alarms.step()
            shell.progress()
            beat.status = figures()
            shell.publish(beat.status)
        shell.stopping("sealing what is in flight")
        _let_runtime_leave(recorder, shell, clock)
        recorder.finish(clock.now_ns())
        copy.copy()
        alarms.step()
        spool_figures(at_once=True)
        shell.close(figures)
        policy.close()
    return 0


def _left_without_spool(shell: ProcessShell) -> int:
    """Told to leave while the spool's disk was full: history keeps what waits."""
    shell.stopping("leaving: the spool was never there")
    shell.close(dict)
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


def _rescue(rescue: PartialRescue, is_awaited: IsAwaited) -> None:
    """Partial clips must not keep the recorder from recording: what fails now is tried again in a while."""
    try:
        rescued = rescue.step(is_awaited)
    except OSError as error:
        log.error("partial clips stay partial: %s", error)
        return
    if rescued is not None and rescued != RescueReport():
        log.info("partial clips: %s", rescued)


def _figures(
    recorder: Recorder,
    spool_figures: SpoolFigures,
    alarms: AlarmLog,
    copy: SelectionCopy,
    policy: PrivacyPolicy,
    retention: Retention,
    keep_s: float | None,
) -> dict[str, Any]:
    status = recorder.status
    return {
        "sealed": status.sealed,
        "sealed_bytes": status.sealed_bytes,
        "shrunk": status.shrunk,
        "waiting": status.waiting,
        "refused": status.refused,
        "lost_firings": dict(status.lost_firings),
        "bad_firings": status.bad_firings,
        "crashes_not_noted": status.crashes_not_noted,
        "unread_answers": status.unread_answers,
        "last_error": status.last_error,
        "pulls": asdict(recorder.pulls),
        "selection_copy": {"failures": copy.failures, "last_error": copy.last_error},
        "spool": {**spool_figures(), "newest_alarms": alarms.newest},
        "privacy": {
            **policy.facts(),
            "keep_s": keep_s,
            "refused_firings": dict(status.policy_refused),
            "deleted_by_age": retention.deleted,
            "deleting_error": retention.last_error,
        },
    }
