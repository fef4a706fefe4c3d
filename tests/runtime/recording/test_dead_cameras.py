"""A camera that was gone before a clip's window begins adds nothing from before it; one that is slow is not gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_rig import CAMERAS, GOP, PERIOD_NS, SECOND_NS, START_NS, firing, without

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import ClipVariant, Packet
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.manifest import ClipManifest
from runtime.recording.recorder import Recorder
from runtime.recording.verify import verify_clip

END_NS = START_NS + 14 * SECOND_NS
GOP_NS = GOP * PERIOD_NS
WINDOW_NS = START_NS + 8 * SECOND_NS  # of a firing at 10 s with 2 s of pre-roll


def clip_of(history: Path, clips: Path) -> ClipManifest:
    (sealed,) = Recorder(history, FolderClipSink(clips)).step(END_NS)
    assert verify_clip(sealed.path).problems == []
    with McapTopicReader(sealed.path) as reader:
        return read_manifest(reader)


@pytest.mark.parametrize("variant", list(ClipVariant))
def test_a_camera_that_died_long_before_the_window_is_missing_and_moves_no_start(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path, variant: ClipVariant
) -> None:
    packets = without(rig_packets, "rear", lambda packet: packet.time_ns > START_NS + SECOND_NS)
    manifest = clip_of(record_history(firing(10.0, pre_s=2.0, variant=variant), packets=packets), tmp_path / "clips")
    assert manifest.missing_cameras == ["rear"]
    assert list(manifest.cameras) == [camera for camera in CAMERAS if camera != "rear"]
    assert WINDOW_NS - GOP_NS < manifest.start_ns <= WINDOW_NS


def test_a_camera_that_comes_back_within_the_window_begins_there_and_says_how_late(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    gone = range(START_NS + SECOND_NS, WINDOW_NS + SECOND_NS)
    packets = without(rig_packets, "rear", lambda packet: packet.time_ns in gone)
    manifest = clip_of(record_history(firing(10.0, pre_s=2.0), packets=packets), tmp_path / "clips")
    rear = manifest.cameras["rear"]
    assert WINDOW_NS + SECOND_NS <= rear.first_ns <= WINDOW_NS + SECOND_NS + GOP_NS
    assert 1.0 <= rear.starts_late_s <= 1.0 + GOP_NS / SECOND_NS
    assert manifest.start_ns > WINDOW_NS - GOP_NS


def test_a_camera_that_died_just_before_the_window_is_there_with_its_last_group(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    packets = without(rig_packets, "rear", lambda packet: packet.time_ns > WINDOW_NS - SECOND_NS // 5)
    manifest = clip_of(record_history(firing(10.0, pre_s=2.0), packets=packets), tmp_path / "clips")
    assert WINDOW_NS - GOP_NS < manifest.cameras["rear"].first_ns <= WINDOW_NS


def test_a_camera_with_few_frames_begins_with_the_one_that_it_shows_at_the_requested_start(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    slow = [packet for packet in rig_packets["rear"] if packet.is_key][::5]  # one each 2.5 s, decodable alone
    packets = {**rig_packets, "rear": [replace(packet, sequence=n) for n, packet in enumerate(slow)]}
    manifest = clip_of(record_history(firing(10.0, pre_s=0.5), packets=packets), tmp_path / "clips")
    first_ns = manifest.cameras["rear"].first_ns
    assert first_ns == max(packet.time_ns for packet in slow if packet.time_ns <= manifest.requested_start_ns)
    assert manifest.requested_start_ns - first_ns > 19 * SECOND_NS // 10
