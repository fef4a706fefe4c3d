"""A drive played live through the real processes: fired, recorded, sealed, delivered, verified, ended in order."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from calibrated_rig import focal_lengths, write_rig
from live_processes import Command, Daemon, is_alive, wait_for
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, FIRINGS, PERIOD_NS, RULES_YAML

from replay.session import ReplayRequest, replay_drive
from runtime.recording.inspection import inspect_clip
from runtime.recording.verify import verify_clip
from runtime.uplink.keys import ensure_local_pair

pytestmark = pytest.mark.timeout(180)

#: Nothing in the drive, nor its end, is one of these.
SILENT_RULES = """\
  - name: halt
    description: The car stops; a speed that is unknown is not a stop.
    when: falling(vehicle.speed_mps > 1)
  - name: fault
    description: A camera is at fault; one that ends with all others is not.
    when: health.faulty_cameras != ""
"""

MakeDaemon = Callable[..., Daemon]


def problems(clip: Path) -> list[str]:
    return [str(problem) for problem in verify_clip(clip).problems]


def firings_in_drive_time(status: dict[str, Any]) -> list[tuple[str, int]]:
    """Firings of a runtime's status, with their times on the clock of the drive that it plays."""
    epoch = status["epoch"]
    shift_ns = epoch["drive_start_ns"] - epoch["live_start_ns"]
    return [(firing["rule"], firing["mono_ns"] + shift_ns) for firing in status["firings"]]


def rules_of(status: dict[str, Any]) -> list[str]:
    return [firing["rule"] for firing in status.get("firings", [])]


def has_fired_all(status: dict[str, Any]) -> bool:
    return len(status.get("firings", [])) >= len(FIRINGS)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A receiver process on 127.0.0.1: its folder and address. `keys` beside it holds both ends' keys."""
    keys, folder = tmp_path / "keys", tmp_path / "received"
    keys.mkdir(mode=0o700)
    ensure_local_pair(keys, "tiny-car")
    config = tmp_path / "receiver.yaml"
    config.write_text(
        yaml.safe_dump({"bind": "tcp://127.0.0.1:*", "directory": str(folder), "keys": str(keys / "receiver")})
    )
    command = Command(tmp_path / "receiver.log", "receive", "--config", str(config))
    found = wait_for(lambda: re.search(r"listening at (tcp://\S+)", command.output), "the receiver's start")
    yield folder, found.group(1)
    command.end()


def test_firing_becomes_a_clip_that_is_delivered_and_verified(
    daemon: MakeDaemon, receiver: tuple[Path, str], tiny_drive: Path, tiny_rules: Path, tmp_path: Path
) -> None:
    received, address = receiver
    vehicle = daemon(
        drive=str(tiny_drive),
        rig=str(write_rig(tmp_path, CAMERAS)),
        rules={"files": [str(tiny_rules)]},
        model={"bundle": str(write_tiny_bundle(tmp_path / "bundle", len(CAMERAS)))},
        uplink={"server": address, "keys": str(tmp_path / "keys" / "vehicle"), "retry_min_s": 0.1, "retry_max_s": 1},
    )
    command = vehicle.start()
    runtime = vehicle.wait_for("runtime", has_fired_all, "both firings")
    vehicle.wait_for("recorder", lambda status: status["sealed"] >= 1 and not status["waiting"], "a sealed clip")
    clips = wait_for(lambda: sorted(received.rglob("*.mcap")), "the delivery")
    vehicle.wait_for(
        "recorder", lambda status: status["spool"]["delivered"] == status["spool"]["sealed"], "the receipt"
    )

    assert [problems(clip) for clip in clips] == [[] for _ in clips]
    rules = [firing["rule"] for clip in clips for firing in inspect_clip(clip).to_json()["firings"]]
    assert sorted(rules) == sorted(rule for rule, _ in FIRINGS)
    assert [sorted(focal_lengths(clip)) for clip in clips] == [sorted(CAMERAS) for _ in clips]
    assert vehicle.sealed_clips == []  # deleted once the receiver had it
    assert runtime["model"]["name"] == "tiny"
    assert runtime["framesets"] > 0
    pids = vehicle.pids
    assert command.stop() == 0
    assert len(pids) == 3
    assert not any(is_alive(pid) for pid in pids.values())


def test_live_and_replay_fire_alike_and_the_end_of_the_drive_fires_nothing(
    daemon: MakeDaemon, tiny_drive: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES_YAML + SILENT_RULES)
    bundle = write_tiny_bundle(tmp_path / "bundle", len(CAMERAS))
    vehicle = daemon(drive=str(tiny_drive), rules={"files": [str(rules)]}, model={"bundle": str(bundle)})
    command = vehicle.start("runtime")
    ended = vehicle.wait_for(
        "runtime",
        lambda status: all(camera["state"] == "ended" for camera in status["cameras"].values()),
        "the end of the drive",
    )
    vehicle.wait_for("runtime", lambda status: status["ticks"] > ended["ticks"] + 30, "ticks on stale signals")
    assert command.stop() == 0
    live = firings_in_drive_time(vehicle.status("runtime"))
    replayed = replay_drive(ReplayRequest(tiny_drive, str(bundle), (str(rules),))).firings
    assert [rule for rule, _ in live] == [firing.rule for firing in replayed] == [rule for rule, _ in FIRINGS]
    for (_, live_ns), firing in zip(live, replayed, strict=True):
        assert abs(live_ns - firing.time_ns) <= PERIOD_NS
    packets = {name: camera["packets"] for name, camera in ended["cameras"].items()}
    assert packets == {name: 6 * rate_hz for name, (rate_hz, _) in CAMERAS.items()}


def test_sigterm_seals_what_is_in_flight(daemon: MakeDaemon, tiny_drive: Path, tmp_path: Path) -> None:
    rules = tmp_path / "long.yaml"
    rules.write_text(
        "rules:\n  - name: takeover\n    description: A takeover with a post-roll that will not be reached.\n"
        "    when: falling(controller.enabled)\n    capture: {pre_s: 1, post_s: 25}\n"
    )
    vehicle = daemon(drive=str(tiny_drive), rules={"files": [str(rules)]})
    command = vehicle.start()
    vehicle.wait_for("runtime", lambda status: "takeover" in rules_of(status), "the firing")
    assert vehicle.sealed_clips == []
    pids = vehicle.pids
    # To the whole group and again to the process, as terminals and service managers do: the children still leave in
    # order, and the second signal does not cut the first one short.
    os.killpg(command.process.pid, signal.SIGTERM)
    wait_for(lambda: "closing history" in (vehicle.folder / "state" / "logs" / "runtime.log").read_text(), "the end")
    assert command.stop() == 0
    assert not any(is_alive(pid) for pid in pids.values())
    assert len(vehicle.sealed_clips) == 1
    assert problems(vehicle.sealed_clips[0]) == []
    assert inspect_clip(vehicle.sealed_clips[0]).to_json()["firings"][0]["rule"] == "takeover"


def test_killed_runtime_is_started_again_and_leaves_a_crash_clip(
    daemon: MakeDaemon, tiny_drive: Path, tiny_rules: Path
) -> None:
    vehicle = daemon(drive=str(tiny_drive), rules={"files": [str(tiny_rules)]})
    command = vehicle.start()
    first = vehicle.wait_for("runtime", lambda status: status["cameras"]["front"]["packets"] > 25, "some video")["pid"]
    os.kill(first, signal.SIGKILL)
    vehicle.wait_for("runtime", lambda status: status["pid"] != first and status["ticks"] > 0, "the new runtime")
    clip = wait_for(lambda: vehicle.sealed_clips, "the crash clip")[0]
    assert [firing["rule"] for firing in inspect_clip(clip).to_json()["firings"]] == ["runtime_crash"]
    assert problems(clip) == []
    vehicle.wait_for("runtime", has_fired_all, "the firings of the new runtime")
    assert command.stop() == 0
    assert "runtime died with code -9" in command.output


def test_children_leave_when_their_supervisor_is_killed(daemon: MakeDaemon, tiny_drive: Path, tiny_rules: Path) -> None:
    vehicle = daemon(drive=str(tiny_drive), rules={"files": [str(tiny_rules)]})
    command = vehicle.start()
    vehicle.wait_for("runtime", lambda status: status["ticks"] > 0, "the first tick")
    wait_for(lambda: len(vehicle.pids) == 3, "all processes")
    pids = vehicle.pids
    command.stop(signal.SIGKILL)
    wait_for(lambda: not any(is_alive(pid) for pid in pids.values()), "the children's end")


def test_signal_rules_fire_with_every_camera_dead(
    daemon: MakeDaemon, tiny_drive: Path, tiny_rules: Path, tmp_path: Path
) -> None:
    drive = Path(shutil.copytree(tiny_drive, tmp_path / "blind"))
    for camera in CAMERAS:
        (drive / f"{camera}.mp4").unlink()
    closed_port = free_port()
    bundle = {"bundle": str(write_tiny_bundle(tmp_path / "bundle", len(CAMERAS) + 1))}
    vehicle = daemon(
        drive=str(drive),
        rules={"files": [str(tiny_rules)]},
        cameras={"street": {"source": {"kind": "rtsp", "address": f"rtsp://127.0.0.1:{closed_port}/street"}}},
        model=bundle,
    )
    command = vehicle.start("runtime")
    status = vehicle.wait_for("runtime", has_fired_all, "both firings")
    assert command.stop() == 0
    assert rules_of(status) == [rule for rule, _ in FIRINGS]
    assert status["framesets"] == 0
    assert [status["cameras"][camera]["state"] for camera in CAMERAS] == ["failed"] * 3
    assert status["cameras"]["street"]["state"] in ("connecting", "failed")
    assert str(closed_port) in status["cameras"]["street"]["detail"]
    assert (status["not_understood"], status["object_lists_refused"]) == ({}, {})
    assert status["items_refused"] == {"track": 0, "object": 0, "camera": 0}


def test_bad_configuration_exits_with_two_and_starts_nothing(daemon: MakeDaemon, tiny_drive: Path) -> None:
    vehicle = daemon(drive=str(tiny_drive), tick={"rate_hz": -1}, rulez={}, history={"seconds": "long"})
    command = vehicle.start()
    assert command.wait() == 2
    text = vehicle.config_path.read_text().splitlines()
    for key, value in (("rate_hz", "-1"), ("rulez", ""), ("seconds", "long")):
        line = next(number for number, written in enumerate(text, start=1) if f"{key}:" in written)
        problem = next(problem for problem in command.output.splitlines() if f"rig.yaml:{line}:" in problem)
        assert value in problem
    assert sorted(path.name for path in vehicle.folder.iterdir()) == ["all.log", "rig.yaml"]


@pytest.mark.parametrize("process", ["all", "runtime"])
def test_bad_files_that_a_configuration_names_are_told_together(
    daemon: MakeDaemon, tiny_drive: Path, tmp_path: Path, process: str
) -> None:
    drive = Path(shutil.copytree(tiny_drive, tmp_path / "drive"))
    (drive / "vehicle.csv").write_text("mono_ns,speed_mps\nsoon,2\n")
    rules, rig, bundle = tmp_path / "bad_rules.yaml", tmp_path / "bad_rig.yaml", tmp_path / "bad_bundle"
    rules.write_text("rules:\n  - {name: r, description: d, when: vehicle.spede_mps > 1}\n")
    rig.write_text("name: x\ncameras: 3\n")
    bundle.mkdir()
    (bundle / "model.yaml").write_text("name: broken\n")
    other = {"source": {"kind": "drive", "path": str(tiny_drive), "camera": "frunt"}}
    vehicle = daemon(
        drive=str(drive),
        rules={"files": [str(rules)]},
        rig=str(rig),
        model={"bundle": str(bundle)},
        cameras={"other": other},
    )
    command = vehicle.start(process)
    assert command.wait() == 2
    for place in ("vehicle.csv:2:", "bad_rules.yaml:2:", "bad_rig.yaml:", "bad_bundle/model.yaml", "'front'"):
        assert place in command.output, command.output
    assert "Traceback" not in command.output
    assert vehicle.sealed_clips == []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
