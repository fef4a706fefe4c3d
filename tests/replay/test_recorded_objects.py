"""The controller's object list is a signal like any other: recorded with clips, replayed from them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from replay.report import ReplayResult
from replay.session import ReplayRequest, replay_drive
from runtime.formats.mcap_files import McapTopicReader

START_NS = 100_000_000_000
SECOND_NS = 1_000_000_000
#: It appears at 6 s, 40 m away, and comes nearer at 8 m/s from 8 s on.
APPEARS_S, CLOSES_S = 6.0, 8.0
RULES = """\
rules:
  - name: closing_in
    description: An object of the controller's comes near fast.
    when: any_object(closing_speed_mps > 5 and lane == "ego" and age_s > 1)
    cooldown_s: 60
    capture: {pre_s: 5, post_s: 2}
"""


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    with (folder / "controller.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["mono_ns", "enabled", "objects"])
        for tick in range(300):
            elapsed_s = tick / 20
            distance_m = 40.0 - 8.0 * max(0.0, elapsed_s - CLOSES_S)
            there = [] if elapsed_s < APPEARS_S else [
                {"id": 5, "class_name": "car", "distance_m": max(distance_m, 1.0), "lateral_m": 0.2}
            ]  # fmt: skip
            writer.writerow([START_NS + tick * SECOND_NS // 20, 1, json.dumps(there)])
    (folder / "drive.yaml").write_text("name: objects\nsignals: {controller: controller.csv}\n")
    return folder


def _replay(drive: Path, tmp_path: Path, out_dir: Path | None = None) -> ReplayResult:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    return replay_drive(ReplayRequest(drive, None, (str(rules),), out_dir=out_dir))


def test_object_that_closes_in_fires_with_its_witness(drive: Path, tmp_path: Path) -> None:
    (firing,) = _replay(drive, tmp_path).firings
    assert firing.time_ns - START_NS == pytest.approx((CLOSES_S + 0.35) * SECOND_NS, abs=0.15 * SECOND_NS)
    assert firing.operands["object.object_id"] == 5.0


def test_clip_keeps_the_list_and_fires_again(drive: Path, tmp_path: Path) -> None:
    original = _replay(drive, tmp_path, tmp_path / "clips")
    (clip,) = original.clips.values()
    with McapTopicReader(clip) as reader:
        recorded = [sample for sample in reader.signal_samples() if sample.name == "controller.objects"]
        assert json.loads(str(recorded[-1].value))[0]["id"] == 5
        assert next(iter(reader.ticks())).tracks is None
    again = _replay(clip, tmp_path)
    assert [(firing.rule, firing.time_ns) for firing in again.firings] == [
        (firing.rule, firing.time_ns) for firing in original.firings
    ]
