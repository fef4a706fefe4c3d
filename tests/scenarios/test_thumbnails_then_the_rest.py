"""The real processes: a rule that asks for thumbnails, and people who then ask for the rest, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_processes import Daemon, wait_for

from runtime.cli import main
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import ClipVariant
from runtime.recording.clip_file import read_manifest
from runtime.recording.manifest import ClipManifest
from runtime.recording.verify import verify_clip

pytest.importorskip("sqlalchemy")

RULES = """\
rules:
  - name: driver_takeover
    description: The controller was engaged and stops being engaged.
    when: falling(controller.enabled)
    capture: {pre_s: 1, post_s: 1, variant: thumbnails}
"""
SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
#: Each camera's records tell the distance of both clocks as it was read for them.
CLOCKS_NS = 1_000_000
#: Of the tiny drive's front camera: 10 frames at 20 Hz.
GOP_NS, PERIOD_NS = SECOND_NS // 2, SECOND_NS // 20


def manifest_of(clip: Path) -> ClipManifest:
    """Of a clip that keeps every promise."""
    assert verify_clip(clip).problems == []
    with McapTopicReader(clip) as reader:
        return read_manifest(reader)


def pull(config: Path, camera: str, start_ns: int, end_ns: int) -> tuple[int, dict[str, Any]]:
    """What `shadowrig pull` comes back with, and what it says of the pull."""
    said = config.with_name("pull.json")
    asked = ["--camera", camera, "--from", str(start_ns), "--to", str(end_ns), "--wait", "60s", "--json", str(said)]
    code = main(["pull", "tiny-car", "--config", str(config), *asked])
    (row,) = json.loads(said.read_text())
    return code, row


def test_a_clip_of_thumbnails_is_followed_by_the_video_that_is_asked_for_and_by_a_reason_where_there_is_none(
    daemon: Callable[..., Daemon], start_receiver: Callable[..., Any], tiny_drive: Path, tmp_path: Path
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    receiver = start_receiver()
    car = daemon(
        drive=str(tiny_drive),
        rules={"files": [str(tmp_path / "rules.yaml")]},
        uplink={"server": receiver.address, "keys": str(receiver.vehicle_keys), "retry_min_s": 0.1, "retry_max_s": 1},
    )
    car.start()
    wait_for(lambda: receiver.clips, "a clip of thumbnails")
    said = manifest_of(receiver.clips[0])
    assert (said.kind, said.variant) == ("event", ClipVariant.THUMBNAILS)
    assert set(said.cameras) == {"front", "rear", "side"}

    code, row = pull(receiver.config, "front", said.start_wall_ns, said.end_wall_ns)
    assert (code, row["state"], row["n"]) == (0, "sealed", 2)
    wait_for(lambda: len(receiver.clips) == 2, "the clip of the pull")
    full = manifest_of(receiver.clips[1])
    assert (full.kind, full.pull_id, full.variant) == ("pull", row["id"], ClipVariant.FULL)
    assert list(full.cameras) == ["front"]
    start_ns, end_ns = full.requested_start_ns, full.requested_end_ns
    assert abs(start_ns - said.start_ns) < CLOCKS_NS > abs(end_ns - said.end_ns)
    front = full.cameras["front"]
    assert start_ns - GOP_NS < front.first_ns <= start_ns
    assert end_ns - PERIOD_NS < front.last_ns <= end_ns

    code, row = pull(receiver.config, "front", said.start_wall_ns - HOUR_NS, said.end_wall_ns - HOUR_NS)
    assert (code, row["state"], row["n"]) == (1, "refused", 0)
    assert row["reason"].startswith("nothing is held of it: history has ")
    history = car.wait_for("runtime", lambda status: status["history"]["held_s"] > 0, "history's reach")["history"]
    assert history["segments_given_up"] == 0
    assert len(receiver.clips) == 2
