"""Single processes as real ones: what they refuse, how they leave, what they leave behind."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import yaml
from live_processes import Command, Daemon, wait_for

from runtime.clock import SystemClock
from runtime.health.status import read_status
from runtime.processes.shell import ProcessShell
from runtime.recording.layout import HistoryLayout
from runtime.recording.sessions import SessionState, list_sessions


@pytest.mark.parametrize("process", ["runtime", "recorder", "uploader"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_process_leaves_cleanly_when_told(
    vehicle: Daemon, commands: list[Command], process: str, number: signal.Signals
) -> None:
    command = vehicle.start(process)
    commands.append(command)
    vehicle.wait_for(process, lambda status: status["pid"] == command.process.pid, "the first status")
    assert command.stop(number) == 0
    assert "Traceback" not in command.output


def test_runtime_leaves_its_session_ended_and_its_history_closed(vehicle: Daemon, commands: list[Command]) -> None:
    commands.append(vehicle.start("runtime"))
    vehicle.wait_for("runtime", lambda status: status["cameras"]["front"]["packets"] > 5, "some video")
    assert commands[0].stop() == 0
    layout = HistoryLayout(vehicle.folder / "history")
    assert [session.state for session in list_sessions(layout)] == [SessionState.ENDED]
    segments = list((vehicle.folder / "history" / "segments").iterdir())
    assert segments
    assert [path.name for path in segments if path.suffix == ".open"] == []


def test_directory_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, tiny_drive: Path, commands: list[Command]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    vehicle = Daemon(tmp_path / "daemon", {"drive": str(tiny_drive), "state_directory": str(blocked / "state")})
    for process in ("all", "recorder"):
        commands.append(vehicle.start(process))
        assert commands[-1].wait() == 2
        assert str(blocked) in commands[-1].output
        assert "Traceback" not in commands[-1].output


def test_telemetry_address_in_use_is_refused(
    tmp_path: Path, tiny_drive: Path, tiny_rules: Path, commands: list[Command]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        config = {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}, "health": {"telemetry": address}}
        commands.append(Daemon(tmp_path / "daemon", config).start("runtime"))
        assert commands[0].wait() == 2
    assert address in commands[0].output
    assert "Traceback" not in commands[0].output


def test_uploader_without_the_receivers_key_says_how_to_pin_it(
    tmp_path: Path, tiny_drive: Path, commands: list[Command]
) -> None:
    config = {"drive": str(tiny_drive), "uplink": {"server": "tcp://127.0.0.1:9", "keys": "keys"}}
    commands.append(Daemon(tmp_path / "daemon", config).start("uploader"))
    assert commands[0].wait() == 2
    assert "receiver.public" in commands[0].output
    assert "Traceback" not in commands[0].output


def test_receiver_refuses_an_address_in_use(tmp_path: Path, commands: list[Command]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "receiver.yaml"
        path.write_text(yaml.safe_dump({"bind": address, "directory": str(tmp_path / "clips")}))
        commands.append(Command(tmp_path / "receiver.log", "receive", "--config", str(path)))
        assert commands[0].wait() != 0
    assert address in commands[0].output
    assert "Traceback" not in commands[0].output


def test_receiver_listens_and_leaves(tmp_path: Path, commands: list[Command]) -> None:
    path = tmp_path / "receiver.yaml"
    path.write_text(yaml.safe_dump({"bind": "tcp://127.0.0.1:*", "directory": str(tmp_path / "clips")}))
    commands.append(Command(tmp_path / "receiver.log", "receive", "--config", str(path)))
    wait_for(lambda: "listening at tcp://127.0.0.1:" in commands[0].output, "the receiver's start")
    assert commands[0].stop() == 0
    assert (tmp_path / "keys" / "receiver.public").is_file()
    assert oct((tmp_path / "keys" / "receiver.secret").stat().st_mode)[-3:] == "600"


def test_status_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shell = ProcessShell("runtime", tmp_path / "nowhere", SystemClock(), 10.0)
    for _ in range(3):
        shell.publish({"ticks": 1})
    assert len([record for record in caplog.records if "status not written" in record.message]) == 1
    (tmp_path / "nowhere").mkdir()
    shell.publish({"ticks": 2})
    assert (read_status(tmp_path / "nowhere" / "runtime.json") or {})["ticks"] == 2
    shell.close(lambda: {"ticks": 3})
    assert (read_status(tmp_path / "nowhere" / "runtime.json") or {})["ticks"] == 3
