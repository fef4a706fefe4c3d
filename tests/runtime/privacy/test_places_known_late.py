"""Where history does not reach back to the fix that held at a clip's start, it begins where the place is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import ClipVariant, Firing, Packet, Priority
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import FolderClipSink, OpenClip, SealedClip
from runtime.recording.layout import HistoryLayout
from runtime.recording.manifest import ClipManifest
from runtime.recording.recorder import Recorder
from runtime.recording.shrinking import ClipExtent, ShrinkToError
from runtime.recording.verify import verify_clip
from tests.runtime.privacy.private_history import END_NS, Place, answers, north_of, seal, write_history, zones_file
from tests.runtime.recording.recorded_rig import SECOND_NS, START_NS, encode_camera, firing

SPEED_MPS = 20.0
UNTIL_S = 7.0


def rules(tmp_path: Path, zone_north_m: float = 5000.0) -> PrivacyRules:
    return PrivacyRules(zone_files=(zones_file(tmp_path / "zones.yaml", zone_north_m, 10.0),), zone_margin_m=0.0)


@cache
def packets_of(camera: str, row: int) -> list[Packet]:
    """Half a second between key frames."""
    return encode_camera(camera, round(UNTIL_S * 20), START_NS + row, seed=row)


def drive(*firings: Firing, history: Path, first_fix_s: float, last_fix_s: float = 99.0) -> Path:
    """No place before the first fix, nor more than 2 s after the last one."""
    packets = {name: packets_of(name, row) for row, name in enumerate(("front", "rear"))}

    def where(at_s: float) -> Place:
        return north_of(0, SPEED_MPS)(at_s) if first_fix_s <= at_s <= last_fix_s else None

    return write_history(history, where, firings, packets, UNTIL_S)


def told(clip: SealedClip) -> tuple[ClipManifest, float]:
    """The manifest of a good clip, and when its first record was captured."""
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path, strict=True) as reader:
        first_ns = min(message.time_ns for message in reader.messages())
        return read_manifest(reader), (first_ns - START_NS) / SECOND_NS


@pytest.mark.parametrize("variant", list(ClipVariant))
def test_a_firing_just_after_the_start_has_a_clip_from_the_first_fix_on(tmp_path: Path, variant: ClipVariant) -> None:
    history = drive(firing(2.0, pre_s=3, post_s=3, variant=variant), history=tmp_path / "history", first_fix_s=0.75)
    _, (clip,) = seal(history, tmp_path / "clips", rules(tmp_path))
    manifest, first_s = told(clip)
    assert first_s == pytest.approx(0.8)  # they come ten times a second
    assert manifest.pre_roll_short_s == pytest.approx(1.8)
    assert {round(camera.first_ns - START_NS, -3) for camera in manifest.cameras.values()} == {SECOND_NS}
    assert set(manifest.cameras) == {"front", "rear"}


def test_seconds_that_are_gone_with_their_fix_cost_the_clip_its_time_until_the_next_one(tmp_path: Path) -> None:
    packets = {"front": packets_of("front", 0)}
    one = firing(4.0, pre_s=3, post_s=1)
    history = write_history(tmp_path / "history", north_of(0, 20), [one], packets, UNTIL_S, fix_period_s=1.3)
    for segment in HistoryLayout(history).list_segments():
        if segment.start_ns < START_NS + 2 * SECOND_NS:
            segment.path.unlink()
    _, (clip,) = seal(history, tmp_path / "clips", rules(tmp_path))
    manifest, first_s = told(clip)
    assert (first_s, manifest.pre_roll_short_s) == (pytest.approx(2.6), pytest.approx(1.6))
    assert manifest.cameras["front"].first_ns == START_NS + 3 * SECOND_NS


@pytest.mark.parametrize(
    ("case", "at_s", "pre_s", "first_fix_s", "last_fix_s", "zone_north_m", "reason"),
    [
        ("it fired before the first fix", 0.6, 1.0, 0.8, 99.0, 5000.0, "no_fix"),
        ("the place is unknown again later", 3.0, 4.0, 0.8, 2.0, 5000.0, "no_fix"),
        ("the first fix lies in a zone", 3.0, 4.0, 0.8, 99.0, 16.0, "zone"),
        ("the way goes through a zone later", 3.0, 4.0, 0.8, 99.0, 80.0, "zone"),
        ("history is there, and has no fix", 5.5, 2.0, 4.5, 99.0, 5000.0, "no_fix"),
        ("history is there for a second, and has no fix", 3.6, 2.0, 2.0, 99.0, 5000.0, "no_fix"),
    ],
)
def test_all_else_is_refused(
    tmp_path: Path,
    case: str,
    at_s: float,
    pre_s: float,
    first_fix_s: float,
    last_fix_s: float,
    zone_north_m: float,
    reason: str,
) -> None:
    one = firing(at_s, pre_s=pre_s, post_s=1.4)
    history = drive(one, history=tmp_path / "history", first_fix_s=first_fix_s, last_fix_s=last_fix_s)
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, zone_north_m))
    assert (clips, dict(recorder.status.policy_refused)) == ([], {reason: 1}), case


def test_of_merged_firings_those_before_the_first_fix_are_lost(tmp_path: Path) -> None:
    firings = [firing(0.4, "too_early", 0, 1, 1), firing(1.5, "early", 1, 1, 1), firing(2.2, "later", 2, 1, 1)]
    history = drive(*firings, history=tmp_path / "history", first_fix_s=0.75)
    _, (clip,) = seal(history, tmp_path / "clips", rules(tmp_path))
    manifest, first_s = told(clip)
    assert [one.rule for one in manifest.firings] == ["early", "later"]
    assert (first_s, manifest.pre_roll_short_s) == (pytest.approx(0.8), pytest.approx(0.3))
    assert {one.rule: one.reason for one in answers(history)} == {"too_early": "no_fix", "early": "", "later": ""}


class HalfOfIt(FolderClipSink):
    """Has room for two seconds."""

    asked = 0

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        self.asked += 1
        if extent is not None and self.asked == 1:
            raise ShrinkToError("two seconds", ClipExtent(extent.cameras, 2.0))
        return super().begin(expected_bytes, priority, extent)


def test_a_clip_that_has_to_shrink_still_holds_nothing_from_before_the_first_fix(tmp_path: Path) -> None:
    history = drive(firing(1.9, pre_s=3, post_s=3), history=tmp_path / "history", first_fix_s=0.75)
    recorder = Recorder(history, HalfOfIt(tmp_path / "clips"), policy=PrivacyPolicy(rules(tmp_path)))
    (clip,) = recorder.step(END_NS)
    manifest, first_s = told(clip)
    assert manifest.shrunk is not None
    assert manifest.shrunk.start_ns < START_NS + SECOND_NS
    assert first_s >= 0.8
