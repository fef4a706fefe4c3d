"""The recorder as the real process that it is: what the policy refuses is in its status, and nothing in the spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_processes import Command, Daemon

from runtime.privacy.clip_keys import load_secret_key, new_clip_keys
from runtime.privacy.envelope import is_locked, unlocked
from runtime.recording.verify import verify_clip
from runtime.spool import Spool
from tests.runtime.privacy.private_history import answers, north_of, write_history, zones_file
from tests.runtime.recording.recorded_rig import firing

QUOTA_BYTES = 64_000_000


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    started: list[Command] = []
    yield started
    for command in started:
        command.end()


def test_exclusion_zone_leaves_nothing_and_the_rest_is_locked(
    tmp_path: Path, tiny_drive: Path, tiny_rules: Path, commands: list[Command]
) -> None:
    new_clip_keys(tmp_path, "fleet")
    zones = zones_file(tmp_path / "zones.yaml", 240.0)  # reached at 9.5 s
    privacy = {
        "zones": [str(zones)],
        "zone_margin_m": 0,
        "encryption": {"recipients": [str(tmp_path / "fleet.clips.public")]},
    }
    vehicle = Daemon(
        tmp_path / "daemon", {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}, "privacy": privacy}
    )
    firings = [firing(3.0, "outside", 0, 1, 1), firing(11.0, "inside", 1, 1, 1)]
    history = write_history(vehicle.folder / "history", north_of(0, 20), firings)
    commands.append(vehicle.start("recorder"))
    status = vehicle.wait_for("recorder", lambda found: found["privacy"]["refused_firings"] == {"zone": 1}, "a refusal")
    assert status["lost_firings"] == {"inside": 1}
    assert (status["sealed"], status["privacy"]["zones"], status["privacy"]["encrypted_for"]) == (1, 1, 1)
    assert commands[0].stop() == 0
    told = {answer.rule: (answer.outcome, answer.reason) for answer in answers(history)}
    assert told == {"outside": ("sealed", ""), "inside": ("privacy", "zone")}
    (spooled,) = [path for path in (tmp_path / "daemon").rglob("*.mcap") if "history" not in path.parts]
    assert is_locked(spooled)
    with spooled.open("rb") as stream:
        opened = b"".join(unlocked(stream, load_secret_key(tmp_path / "fleet.clips.secret")))
    (tmp_path / "open.mcap").write_bytes(opened)
    assert verify_clip(tmp_path / "open.mcap").problems == []
    with Spool.open(spooled.parents[1], QUOTA_BYTES) as spool:
        (clip,) = spool.pending()
        assert clip.metadata["rules"] == ["outside"]
        assert clip.metadata["encryption"]["cipher"] == "AES-256-GCM"
