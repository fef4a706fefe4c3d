"""The cameras' process beside a real runtime: what it delivers, and what happens when it dies, hangs or is orphaned."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_processes import Command, Daemon, is_alive, wait_for
from tiny_bundle import write_tiny_bundle

from runtime.formats.mcap_reader import McapTopicReader
from runtime.formats.topics import VIDEO_SCHEMA


@pytest.fixture
def vehicle(tmp_path: Path, tiny_drive: Path, tiny_rules: Path) -> Daemon:
    """Looks at cameras that go on for as long as the test wants."""
    return Daemon(tmp_path / "daemon", looping(tmp_path, tiny_drive, tiny_rules))


def looping(folder: Path, tiny_drive: Path, tiny_rules: Path) -> dict[str, Any]:
    cameras = {
        name: {"source": {"kind": "video", "path": str(tiny_drive / f"{name}.mp4"), "loop": True}}
        for name in ("front", "rear")
    }
    return {
        "cameras": cameras,
        "rules": {"files": [str(tiny_rules)]},
        "model": {"bundle": str(write_tiny_bundle(folder / "bundle", cameras=len(cameras)))},
    }


@pytest.fixture
def runtime(vehicle: Daemon) -> Iterator[Command]:
    command = vehicle.start("runtime")
    yield command
    command.end()


def cameras_pid(status: dict[str, Any]) -> int:
    return int(status["cameras_process"]["pid"])


def has_frames(status: dict[str, Any], more_than: int = 3) -> bool:
    return bool(status["framesets"] > more_than and all(c["state"] == "ok" for c in status["cameras"].values()))


def test_frames_come_from_a_process_of_their_own_that_leaves_with_the_runtime(
    vehicle: Daemon, runtime: Command
) -> None:
    status = vehicle.wait_for("runtime", has_frames, "framesets")
    pid = cameras_pid(status)
    assert pid != runtime.process.pid
    assert is_alive(pid)
    assert runtime.stop() == 0
    assert not is_alive(pid)
    last = vehicle.status("runtime")
    assert last["cameras_process"]["restarts"] == 0
    assert all(camera["received"] > 3 for camera in last["cameras"].values())


def test_killed_cameras_process_is_started_again_and_frames_come_back(vehicle: Daemon, runtime: Command) -> None:
    before = vehicle.wait_for("runtime", has_frames, "framesets")
    pid = cameras_pid(before)
    os.kill(pid, signal.SIGKILL)
    again = vehicle.wait_for("runtime", lambda status: status["cameras_process"]["restarts"] == 1, "the next process")
    assert cameras_pid(again) != pid
    more = again["framesets"] + 5
    after = vehicle.wait_for("runtime", lambda status: has_frames(status, more), "frames of the next process")
    for name, camera in after["cameras"].items():  # the next one counts on
        assert camera["received"] > before["cameras"][name]["received"]
        assert camera["packets"] > before["cameras"][name]["packets"]
        assert camera["reconnects"] == 1
    assert "killed by SIGKILL" in runtime.output
    assert runtime.stop() == 0


def test_cameras_process_that_hangs_is_killed_while_ticks_go_on(vehicle: Daemon, runtime: Command) -> None:
    status = vehicle.wait_for("runtime", has_frames, "framesets")
    os.kill(cameras_pid(status), signal.SIGSTOP)
    vehicle.wait_for("runtime", lambda now: now["ticks"] > status["ticks"] + 20, "ticks without cameras")
    vehicle.wait_for("runtime", lambda now: now["cameras_process"]["restarts"] == 1, "the next process")
    assert runtime.stop() == 0


def test_killed_runtime_takes_its_cameras_along(vehicle: Daemon, runtime: Command) -> None:
    pid = cameras_pid(vehicle.wait_for("runtime", has_frames, "framesets"))
    runtime.process.kill()
    runtime.process.wait()
    wait_for(lambda: not is_alive(pid), "the end of the cameras' process")


def test_cameras_may_stay_threads_of_the_runtime(tmp_path: Path, tiny_drive: Path, tiny_rules: Path) -> None:
    threads = {"cameras": "threads", "lock_memory": False}
    beside = Daemon(tmp_path / "beside", {**looping(tmp_path, tiny_drive, tiny_rules), "realtime": threads})
    command = beside.start("runtime")
    try:
        status = beside.wait_for("runtime", has_frames, "framesets")
        assert status["cameras_process"] is None
        assert command.stop() == 0
    finally:
        command.end()


def test_runtime_stops_at_once_while_the_process_is_down(vehicle: Daemon, runtime: Command) -> None:
    for _ in range(3):  # the pause before the next try has grown by then
        pid = cameras_pid(
            vehicle.wait_for("runtime", lambda now: now["cameras_process"]["pid"] is not None, "a process")
        )
        os.kill(pid, signal.SIGKILL)
        vehicle.wait_for("runtime", lambda now, gone=pid: now["cameras_process"]["pid"] != gone, "its end")
    assert runtime.stop() == 0
    assert "Traceback" not in runtime.output


def test_what_was_recorded_before_the_process_died_is_not_recorded_again(vehicle: Daemon, runtime: Command) -> None:
    before = vehicle.wait_for("runtime", lambda now: has_frames(now, 30), "framesets")
    os.kill(cameras_pid(before), signal.SIGKILL)
    vehicle.wait_for("runtime", lambda now: has_frames(now, now["ticks"] // 2), "frames of the next process")
    assert runtime.stop() == 0
    times: dict[str, list[int]] = {}
    for path in sorted((vehicle.folder / "history" / "segments").iterdir()):
        with McapTopicReader(path) as reader:
            for message in reader.messages():
                if message.channel.schema_name == VIDEO_SCHEMA:
                    times.setdefault(message.topic, []).append(message.time_ns)
    assert times
    for seen in times.values():
        assert len(seen) == len(set(seen))


def test_signals_for_the_service_do_not_reach_the_cameras(vehicle: Daemon, runtime: Command) -> None:
    pid = cameras_pid(vehicle.wait_for("runtime", has_frames, "framesets"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(pid, number)
    status = vehicle.status("runtime")
    later = vehicle.wait_for("runtime", lambda now: has_frames(now, status["framesets"] + 10), "more framesets")
    assert later["cameras_process"] == {**later["cameras_process"], "pid": pid, "restarts": 0}
    assert runtime.stop() == 0
