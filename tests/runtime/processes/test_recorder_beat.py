"""A recorder that writes for a long time shows that it lives."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from systemd_ear import all_heard

from runtime.clock import ManualClock, SystemClock
from runtime.health.status import read_status
from runtime.processes.recorder_process import _Beat
from runtime.processes.shell import ProcessShell
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.processes.spool_opening import open_spool
from runtime.recording.recorder import Recorder
from runtime.spool import LedgerError, Spool, SpoolError
from tests.runtime.privacy.private_history import END_NS, north_of, write_history
from tests.runtime.recording.recorded_rig import firing


class SteppedClock(SystemClock):
    time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager that a shell made from now on tells."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_while_one_clip_takes_long_crashes_and_pulls_are_still_noted_about_once_a_second(tmp_path: Path) -> None:
    clock = SteppedClock()
    looks_ns: list[int] = []
    beat = _Beat(ProcessShell("recorder", tmp_path, clock, 10.0), clock)
    beat.watch = lambda: looks_ns.append(clock.time_ns)
    for picture in range(50):
        clock.time_ns = picture * 55_000_000
        beat()
    assert looks_ns == [0, 1_045_000_000, 2_090_000_000]


def test_every_write_of_every_clip_is_progress_so_that_many_clips_in_a_row_are_no_hang(tmp_path: Path) -> None:
    firings = [firing(time_s, "hard_braking", pre_s=0.5, post_s=0.5) for time_s in (2.0, 5.0, 8.0)]
    history = write_history(tmp_path / "history", north_of(0), firings, until_s=10.0)
    sealed_at_beats: list[int] = []
    with Spool.open(tmp_path / "spool", 64 << 20) as spool:
        recorder = Recorder(history, SpoolClipSink(spool, lambda: sealed_at_beats.append(spool.counts().sealed)))
        assert len(recorder.finish(END_NS)) == 3
    assert set(sealed_at_beats) == {0, 1, 2, 3}, "before, between and after"
    assert len(sealed_at_beats) > 6


def test_leaving_asks_systemd_for_more_time_as_long_as_there_is_progress(
    tmp_path: Path, manager: socket.socket
) -> None:
    clock = SteppedClock()
    shell = ProcessShell("recorder", tmp_path, clock, 10.0)
    shell.publish({})
    assert all_heard(manager) == ["WATCHDOG=1"]
    shell.stopping("sealing")
    shell.publish({})
    assert all_heard(manager) == ["STOPPING=1\nSTATUS=sealing", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"]
    clock.time_ns = 11 * 10**9
    shell.publish({})
    assert all_heard(manager) == ["STATUS=no progress: recorder"]
    shell.close(dict)


def test_a_start_that_takes_long_asks_systemd_for_more_time_once_a_second_as_long_as_it_gets_on(
    tmp_path: Path, manager: socket.socket
) -> None:
    clock = SteppedClock()
    shell = ProcessShell("recorder", tmp_path, clock, 10.0)
    for clock.time_ns in range(0, 3 * 10**9, 10**8):
        shell.starting()
    assert all_heard(manager) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"] * 3
    shell.close(dict)


def test_a_spool_whose_disk_is_full_is_waited_for_longer_each_time_until_it_opens_or_a_stop(tmp_path: Path) -> None:
    clock, stop, waits_ns = ManualClock(), threading.Event(), []
    shell = ProcessShell("recorder", tmp_path, clock, 10.0)

    def opened(progress: Callable[[], None]) -> Spool:
        waits_ns.append(clock.now_ns())
        if len(waits_ns) == 4:
            return Spool.open(tmp_path / "spool", 64 << 20, progress=progress)
        raise LedgerError("the disk is full") if len(waits_ns) % 2 else OSError(errno.EIO, "Input/output error")

    spool = open_spool(opened, shell, stop)
    assert spool is not None
    spool.close()
    assert waits_ns == [0, 1 * 10**9, 3 * 10**9, 7 * 10**9]
    status = read_status(tmp_path / "recorder.json")
    assert status is not None
    assert (status["waiting_for_spool"], status["attempts"]) == ("the disk is full", 3)
    stop.set()
    assert open_spool(opened, shell, stop) is None
    with pytest.raises(SpoolError, match="belongs"):
        open_spool(contradicting, shell, threading.Event())


def contradicting(progress: Callable[[], None]) -> Spool:
    raise SpoolError("it belongs to another vehicle")
