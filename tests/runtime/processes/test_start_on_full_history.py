"""A runtime that starts where its predecessor has filled history's tmpfs: old seconds go, and it records again.

systemd never starts one again that ended with exit code 2: that is for what a person has to change.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_tmpfs import run_on_a_tmpfs_of_3_mb

from runtime.recording import sessions
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from tests.runtime.recording.recorded_rig import encode_camera, session

RESTARTS = """
import sys
sys.path[:0] = sys.argv[2:4]
import os
import threading
from pathlib import Path
from recorded_rig import PERIOD_NS, START_NS, session
from runtime.clock import SystemClock
from runtime.config.rig_config import load_config
from runtime.messages import Packet
from runtime.processes.runtime_process import LiveRuntime
from runtime.processes.shell import StartError
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.sessions import list_sessions

history = Path(sys.argv[1])
config = load_config(history.parent / "rig.yaml")

def fill():
    with (history / "filler").open("wb", buffering=0) as stream:
        for block in (bytes(1 << 16), bytes(1)):
            try:
                while stream.write(block):
                    pass
            except OSError:
                continue

HistoryLayout(history).create()
fill()  # others have taken all, and there is no second to give up
try:
    LiveRuntime(config, SystemClock())
except StartError as error:
    print(error.exit_code)
assert list((history / "sessions").iterdir()) == [], "nobody would ever remove what a start without a run left"
(history / "filler").unlink()

child = os.fork()
if child == 0:
    writer = HistoryWriter(history, 3600, 10**9, session("dead"))
    for index in range(300):
        time_ns = START_NS + index * PERIOD_NS
        assert writer.packet(Packet("front", index, time_ns, time_ns, "h264", True, os.urandom(12_000)))
    os._exit(9)
os.waitpid(child, 0)
fill()
before = len(HistoryLayout(history).list_segments())
assert os.statvfs(history).f_bavail == 0 and before > 5
runtime = LiveRuntime(config, SystemClock())
runtime.start()
stop = threading.Event()
threading.Timer(0.2, stop.set).start()
runtime.tick_until(stop)
runtime.stop()
assert [run.state.value for run in list_sessions(runtime._sink._writer.layout)] == ["crashed", "ended"]
assert runtime._sink.errors() == {}, runtime._sink.errors()
print(before, runtime._sink.counters.segments_given_up, runtime._sink.counters.refused_records)
"""


def test_a_runtime_starts_on_a_full_tmpfs_at_the_cost_of_old_seconds(tmp_path: Path) -> None:
    history = tmp_path / "history"
    history.mkdir()
    realtime = {"tick_priority": 0, "capture_priority": 0, "helper_priority": 0, "lock_memory": False}
    nobody = {"kind": "zeromq", "address": f"ipc://{tmp_path}/nobody"}
    fields = {
        "vehicle": {"id": "small-car"}, "state_directory": str(tmp_path / "state"), "realtime": realtime,
        "tick": {"phase_ms": 0}, "signals": {"sources": [nobody]},
        "history": {"directory": str(history)}, "spool": {"directory": str(tmp_path / "spool")},
    }  # fmt: skip
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(fields))
    exit_code, before, given_up, refused = run_on_a_tmpfs_of_3_mb(history, RESTARTS)
    assert exit_code == 1, "room may come by itself: systemd shall try again"
    assert 0 < given_up < before
    assert refused == 0


@pytest.mark.parametrize(("number", "seconds_given_up"), [(errno.ENOSPC, 1), (errno.EIO, 0)])
def test_only_want_of_room_costs_seconds_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, seconds_given_up: int
) -> None:
    first = HistoryWriter(tmp_path, 60, 10**9, session())
    for packet in encode_camera("front", 60):
        first.packet(packet)
    first.close()
    write, left = sessions.write_atomically, [number]

    def fails_once(path: Path, data: bytes) -> Any:
        if left:
            raise OSError(left[0], os.strerror(left.pop()))
        return write(path, data)

    monkeypatch.setattr(sessions, "write_atomically", fails_once)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            HistoryWriter(tmp_path, 60, 10**9, session("second"))
    else:
        HistoryWriter(tmp_path, 60, 10**9, session("second")).close()
    layout = HistoryLayout(tmp_path)
    assert len(layout.list_segments()) == 3 - seconds_given_up
