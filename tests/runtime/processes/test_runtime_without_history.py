"""A runtime whose history has died does not drive on as if it recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runtime.clock import SystemClock
from runtime.config.rig_config import load_config
from runtime.messages import TickReport
from runtime.processes.runtime_process import LiveRuntime
from runtime.recording.history_sink import HistoryDeathError
from runtime.recording.history_writer import HistoryWriter


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[LiveRuntime]:
    """One without cameras, network or wishes to the operating system."""
    directories = {name: {"directory": str(tmp_path / name)} for name in ("history", "spool")}
    config = tmp_path / "rig.yaml"
    nobody = {"kind": "zeromq", "address": "ipc://" + str(tmp_path / "nobody")}
    realtime = {"tick_priority": 0, "capture_priority": 0, "helper_priority": 0, "lock_memory": False}
    fields = {
        "vehicle": {"id": "small-car"}, "state_directory": str(tmp_path / "state"), "realtime": realtime,
        "tick": {"phase_ms": 0}, "signals": {"sources": [nobody]}, **directories,
    }  # fmt: skip
    config.write_text(yaml.safe_dump(fields))
    made = LiveRuntime(load_config(config), SystemClock())
    made.start()
    yield made
    made.stop()


def test_the_tick_ends_with_the_thread_that_writes_history(
    runtime: LiveRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(writer: HistoryWriter, report: TickReport) -> bool:
        raise SystemExit("no record provokes this")

    monkeypatch.setattr(HistoryWriter, "tick", lost)
    stop = threading.Event()
    give_up = threading.Timer(20.0, stop.set)
    give_up.start()
    with pytest.raises(HistoryDeathError, match="no record provokes this"):
        runtime.tick_until(stop)
    give_up.cancel()
