"""A campaign from people's keys to a clip that names it, through the real commands and processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_processes import Daemon, wait_for
from tiny_bundle import write_tiny_bundle

from runtime.cli import main
from runtime.recording.inspection import inspect_clip
from runtime.recording.verify import verify_clip

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
MakeDaemon = Callable[..., Daemon]

OWN_RULES = """\
rules:
  - name: own
    description: Goes off once at the start, and then holds a state that a swap must not reset.
    when: not known(vehicle.latitude_deg)
    capture: {pre_s: 0.5, post_s: 0.5}
"""
CAMPAIGN_RULES = """\
rules:
  - name: {rule}
    description: Nobody knows where we are.
    when: not known(vehicle.latitude_deg)
    rearm: level
    cooldown_s: 1
    capture: {{pre_s: 0.5, post_s: 0.5}}
"""


class Fleet:
    """Two people and a machine that pushes, each with a key; everything by the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository, self.served, self.keys = folder / "fleet", folder / "served", folder / "signing"
        for name in ("alice", "bob", "online"):
            self("keys", self.keys, name)
        people = [self.keys / "alice.public", self.keys / "bob.public"]
        self("init", self.repository, "--root", *people, "--targets", *people, "--online", self.keys / "online.public")
        self.publish()

    def __call__(self, command: str, *arguments: object) -> None:
        assert main(["campaign", command, *map(str, arguments)]) == 0

    def publish(self) -> None:
        for name in ("alice", "bob"):
            self("sign", self.repository, "--key", self.keys / f"{name}.key")
        self("push", self.repository, "--online-key", self.keys / "online.key", "--to", self.served)

    def bring(self, version: int, rule: str, lasts: timedelta = timedelta(days=1), model: str | None = None) -> None:
        folder = self.folder / f"campaign-{version}"
        folder.mkdir()
        now = datetime.now(timezone.utc)
        document = {
            "name": "where", "version": version, "description": "Asks where we are.", "vehicles": ["tiny-*"],
            "starts": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
            "expires": f"{now + lasts:%Y-%m-%dT%H:%M:%SZ}", "rules": ["where.yaml"],
        }  # fmt: skip
        if model is not None:
            write_named_bundle(folder / "model", model)
            document["model"] = ["model/model.yaml", "model/model.onnx"]
        (folder / "campaign.yaml").write_text(yaml.safe_dump(document))
        (folder / "where.yaml").write_text(CAMPAIGN_RULES.format(rule=rule))
        self("new", self.repository, folder)
        self.publish()


def write_named_bundle(folder: Path, name: str) -> Path:
    manifest = write_tiny_bundle(folder, 1) / "model.yaml"
    manifest.write_text(manifest.read_text().replace("name: tiny", f"name: {name}", 1))
    return folder


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def receiver(start_receiver: Callable[..., Any], fleet: Fleet) -> tuple[Path, str]:
    started = start_receiver(campaigns=str(fleet.served))
    return started.config, started.address


@pytest.fixture
def vehicle(daemon: MakeDaemon, receiver: tuple[Path, str], fleet: Fleet, tmp_path: Path) -> Daemon:
    rules = tmp_path / "own.yaml"
    rules.write_text(OWN_RULES)
    return daemon(
        signals={"sources": [{"kind": "zeromq", "address": f"ipc://{tmp_path}/signals", "bind": True}]},
        rules={"files": [str(rules)]},
        uplink={"server": receiver[1], "keys": str(tmp_path / "keys/vehicle"), "retry_min_s": 0.1, "retry_max_s": 1},
        campaigns={"root": str(fleet.served / "metadata/1.root.json"), "check_interval_s": 1},
    )


def running(labels: list[str]) -> Callable[[dict[str, Any]], bool]:
    return lambda status: status.get("campaigns", {}).get("running") == labels


def fired(rule: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: any(firing["rule"] == rule for firing in status["firings"])


def clips_of(folder: Path, rule: str) -> list[dict[str, Any]]:
    found = [inspect_clip(path).to_json() for path in sorted(folder.rglob("*.mcap"))]
    return [clip for clip in found if any(firing["rule"] == rule for firing in clip["firings"])]


def test_a_campaign_comes_is_replaced_and_withdrawn_while_the_vehicle_drives(
    vehicle: Daemon, receiver: tuple[Path, str], fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = vehicle.start()
    before = vehicle.wait_for("runtime", fired("own"), "the own rule")
    fleet.bring(1, "where_are_we")
    first = vehicle.wait_for("runtime", running(["where@1"]), "the first version")
    vehicle.wait_for("runtime", fired("where_are_we"), "a firing of the campaign")
    fleet.bring(2, "where_now")
    vehicle.wait_for("runtime", running(["where@2"]), "the second version")
    vehicle.wait_for("runtime", fired("where_now"), "a firing of the second version")
    fleet("new", fleet.repository, "--withdraw", "where")
    fleet.publish()
    ended = vehicle.wait_for("runtime", running([]), "the end")

    received = tmp_path / "received"
    wait_for(lambda: clips_of(received, "where_are_we") and clips_of(received, "where_now"), "the clips of both")
    for rule, label in (("where_are_we", "where@1"), ("where_now", "where@2")):
        (firing, *_) = [f for clip in clips_of(received, rule) for f in clip["firings"] if f["rule"] == rule]
        assert firing["campaign"] == label
        assert firing["rules_sha256"] not in ("", before["campaigns"]["rules_sha256"])
    assert first["campaigns"]["rules_sha256"] in {
        firing["rules_sha256"] for clip in clips_of(received, "where_are_we") for firing in clip["firings"]
    }
    assert [problem for path in received.rglob("*.mcap") for problem in verify_clip(path).problems] == []

    assert [firing["rule"] for firing in ended["firings"]].count("own") == 1, "a swap left the own rule's state alone"
    assert ended["campaigns"]["swaps"] == 3
    assert ended["pid"] == before["pid"]
    report = tmp_path / "received/campaign-reports/tiny-car.json"
    wait_for(lambda: '"where@2": "withdrawn"' in report.read_text(), "the report of the end")
    capsys.readouterr()
    assert main(["campaign", "status", str(fleet.repository), "--receiver", str(receiver[0])]) == 0
    said = capsys.readouterr().out
    assert "tiny-car, reported" in said
    assert "ended: where@2 (withdrawn)" in said
    assert command.stop() == 0


def test_a_killed_vehicle_starts_again_with_its_campaign_and_stops_it_in_time_without_a_link(
    vehicle: Daemon, receiver: tuple[Path, str], fleet: Fleet
) -> None:
    fleet.bring(1, "where_are_we", lasts=timedelta(seconds=25))
    command = vehicle.start()
    vehicle.wait_for("runtime", running(["where@1"]), "the campaign")
    pid = vehicle.status("runtime")["pid"]
    os.kill(pid, signal.SIGKILL)
    again = vehicle.wait_for("runtime", lambda status: status["pid"] != pid, "another runtime")
    assert again["campaigns"]["running"] == ["where@1"], "it begins with its campaign"
    assert again["campaigns"]["swaps"] == 0
    over = vehicle.wait_for("runtime", running([]), "the end of the campaign by its date")
    refused = over["campaigns"]["refused"].get("where@1")  # gone once the uploader has cleared the campaign away
    assert refused is None or refused["reason"] == "campaign_expired"
    vehicle.wait_for("uploader", lambda status: status["campaigns"]["ended"].get("where@1") == "expired", "its end")
    ticks = over["ticks"]
    vehicle.wait_for("runtime", lambda status: status["ticks"] > ticks + 20, "ticks after the end")
    assert command.stop() == 0


def test_a_campaigns_network_replaces_the_running_one_and_goes_with_it(
    daemon: MakeDaemon, receiver: tuple[Path, str], fleet: Fleet, tmp_path: Path, tiny_drive: Path
) -> None:
    rules = tmp_path / "own.yaml"
    rules.write_text(OWN_RULES)
    vehicle = daemon(
        cameras={"front": {"source": {"kind": "video", "path": str(tiny_drive / "front.mp4"), "loop": True}}},
        model={"bundle": str(write_named_bundle(tmp_path / "bundle", "own_network"))},
        rules={"files": [str(rules)]},
        uplink={"server": receiver[1], "keys": str(tmp_path / "keys/vehicle"), "retry_min_s": 0.1, "retry_max_s": 1},
        campaigns={"root": str(fleet.served / "metadata/1.root.json"), "check_interval_s": 1},
    )
    command = vehicle.start()
    before = vehicle.wait_for("runtime", lambda status: status["framesets"] > 20, "framesets")
    assert before["model"]["name"] == "own_network"
    fleet.bring(1, "where_are_we", model="campaign_network")
    during = vehicle.wait_for("runtime", running(["where@1"]), "the campaign")
    assert during["model"]["name"] == "campaign_network"
    vehicle.wait_for(
        "runtime", lambda status: status["framesets"] > during["framesets"] + 20, "framesets of the new network"
    )
    clip = wait_for(lambda: clips_of(tmp_path / "received", "where_are_we"), "a clip of the campaign")[0]
    assert clip["provenance"]["model"]["name"] == "campaign_network"
    fleet("new", fleet.repository, "--withdraw", "where")
    fleet.publish()
    after = vehicle.wait_for("runtime", running([]), "the end")
    assert (after["model"]["name"], after["pid"]) == ("own_network", before["pid"])
    vehicle.wait_for("runtime", lambda status: status["framesets"] > after["framesets"] + 20, "framesets again")
    assert vehicle.status("runtime")["history"]["errors"] == {}
    assert command.stop() == 0
