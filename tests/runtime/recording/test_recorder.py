from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_rig import (
    CAMERAS,
    GOP,
    PERIOD_NS,
    SECOND_NS,
    START_NS,
    Recording,
    as_transcoded,
    encode_camera,
    firing,
    session,
    without,
)

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Packet, Priority
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import FolderClipSink, OpenClip, SealedClip
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.manifest import ClipManifest
from runtime.recording.readiness import RETRY_NS, STALL_NS
from runtime.recording.recorder import Recorder, RecorderSettings
from runtime.recording.shrinking import ClipExtent
from runtime.recording.verify import verify_clip

END_NS = START_NS + 14 * SECOND_NS


def manifest_of(clip: SealedClip) -> ClipManifest:
    with McapTopicReader(clip.path, strict=True) as reader:
        return read_manifest(reader)


def sink_at(tmp_path: Path) -> FolderClipSink:
    return FolderClipSink(tmp_path / "clips")


def test_a_firing_becomes_a_clip_that_keeps_every_promise(record_history: Callable[..., Path], tmp_path: Path) -> None:
    history = record_history(firing(6.0))
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    report = verify_clip(clip.path)
    assert report.problems == []
    assert sum(report.frames_decoded.values()) == sum(camera.frames for camera in manifest_of(clip).cameras.values())
    assert HistoryLayout(history).list_firings() == []


def test_every_camera_starts_on_a_key_frame_at_or_before_the_request_and_at_most_a_gop_early(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.333))
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    manifest = manifest_of(clip)
    with McapTopicReader(clip.path) as reader:
        for camera in CAMERAS:
            first = next(reader.packets(camera))
            assert first.is_key
            assert manifest.requested_start_ns - GOP * PERIOD_NS < first.time_ns <= manifest.requested_start_ns
            last_ns = manifest.cameras[camera].last_ns
            assert manifest.requested_end_ns - PERIOD_NS < last_ns <= manifest.requested_end_ns


def test_packets_are_in_the_clip_byte_for_byte(clip: Path, rig_packets: dict[str, list[Packet]]) -> None:
    with McapTopicReader(clip) as reader:
        for camera in CAMERAS:
            found = list(reader.packets(camera))
            first = rig_packets[camera].index(found[0])
            assert found == rig_packets[camera][first : first + len(found)]


def test_the_clip_waits_until_its_post_roll_is_in(tmp_path: Path, rig_packets: dict[str, list[Packet]]) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    recorder = Recorder(tmp_path / "history", sink_at(tmp_path))
    writer.firing(firing(4.0))
    for packet in rig_packets["front_main"]:
        writer.packet(packet)
        sealed = recorder.step(packet.time_ns)
        if sealed:
            break
    assert START_NS + 6 * SECOND_NS <= packet.time_ns <= START_NS + 8 * SECOND_NS
    manifest = manifest_of(sealed[0])
    assert manifest.ended_early is None
    assert manifest.cameras["front_main"].last_ns == START_NS + 6 * SECOND_NS
    writer.close()


def test_the_clip_waits_for_a_camera_whose_packets_come_late(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    lag = 26  # packets of 50 ms: an encoder that is 1.3 s behind
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    recorder = Recorder(tmp_path / "history", sink_at(tmp_path))
    writer.firing(firing(4.0))
    sealed: list[SealedClip] = []
    for index, packet in enumerate(rig_packets["front_main"]):
        writer.packet(packet)
        if index >= lag:
            writer.packet(rig_packets["rear"][index - lag])
        sealed = recorder.step(packet.time_ns)
        if sealed:
            break
    cameras = manifest_of(sealed[0]).cameras
    assert cameras["rear"].ends_early_s == 0.0
    assert START_NS + 6 * SECOND_NS - PERIOD_NS < cameras["rear"].last_ns <= START_NS + 6 * SECOND_NS
    writer.close()


def test_a_camera_that_died_just_before_the_end_holds_the_clip_up_for_moments_only(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    recorder = Recorder(tmp_path / "history", sink_at(tmp_path))
    writer.firing(firing(4.0))
    sealed: list[SealedClip] = []
    for index, packet in enumerate(rig_packets["front_main"]):
        writer.packet(packet)
        if packet.time_ns < START_NS + 5_700_000_000:
            writer.packet(rig_packets["rear"][index])
        sealed = recorder.step(packet.time_ns)
        if sealed:
            break
    assert packet.time_ns <= START_NS + 10 * SECOND_NS
    assert manifest_of(sealed[0]).cameras["rear"].ends_early_s > 0.2
    writer.close()


def test_overlapping_firings_share_one_clip_that_names_both(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(
        firing(5.0), firing(7.0, "hard_brake", 1, priority=Priority.SAFETY), firing(12.0, "random", 2, pre_s=0.5)
    )
    clips = Recorder(history, sink_at(tmp_path)).finish(END_NS)
    assert [clip.metadata["rules"] for clip in clips] == [["driver_takeover", "hard_brake"], ["random"]]
    assert clips[0].metadata["priority"] == "safety"
    assert [item.rule for item in manifest_of(clips[0]).firings] == ["driver_takeover", "hard_brake"]
    assert manifest_of(clips[0]).firings[0].operands == {"vehicle.brake_pressed": True, "lead.distance_m": None}


def test_firings_merge_to_no_clip_that_history_has_lost_the_front_of_when_it_is_cut(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    """What overlaps could become one clip of ten seconds, as long as history is."""
    storm = [firing(second, sequence=second, pre_s=1.0, post_s=1.0) for second in range(3, 13)]
    writer = HistoryWriter(tmp_path / "history", 10.0, 10**9, session(history_s=10.0))
    recorder = Recorder(tmp_path / "history", sink_at(tmp_path))
    manifests = []
    for time_ns, kind, value in Recording({"rear": rig_packets["rear"]}, tuple(storm)).records():
        getattr(writer, kind)(value)
        if kind == "packet":
            manifests += [manifest_of(clip) for clip in recorder.step(time_ns)]
    writer.close()
    manifests += [manifest_of(clip) for clip in recorder.step(END_NS)]
    assert sum(len(manifest.firings) for manifest in manifests) == len(storm)
    assert {manifest.cameras["rear"].starts_late_s for manifest in manifests} == {0.0}
    assert {manifest.pre_roll_short_s for manifest in manifests} == {0.0}


def test_chosen_cameras_and_topics_only(record_history: Callable[..., Path], tmp_path: Path) -> None:
    history = record_history(firing(6.0, cameras=("rear", "roof"), topics=("/vehicle",)))
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    manifest = manifest_of(clip)
    assert list(manifest.cameras) == ["rear"]
    assert manifest.missing_cameras == ["roof"]
    assert set(manifest.topics) == {"/camera/rear/video", "/camera/rear/annotations", "/vehicle", "/firing"}
    assert verify_clip(clip.path).ok


def test_a_camera_that_died_is_in_the_manifest_with_its_last_frame(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    died_ns = START_NS + 5 * SECOND_NS
    history = record_history(firing(6.0), packets=without(rig_packets, "rear", lambda p: p.time_ns > died_ns))
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    rear = manifest_of(clip).cameras["rear"]
    assert rear.last_ns <= died_ns
    assert 2.9 < rear.ends_early_s < 3.1
    assert manifest_of(clip).cameras["front_main"].ends_early_s == 0.0
    assert verify_clip(clip.path).ok


def test_lost_frames_are_listed_as_gaps(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    packets = without(rig_packets, "rear", lambda packet: packet.sequence in (105, 106, 125))
    history = record_history(firing(6.0), packets=packets)
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    rear = manifest_of(clip).cameras["rear"]
    assert [(gap.after_ns, gap.duration_ms) for gap in rear.gaps] == [
        (rig_packets["rear"][104].time_ns, 150.0),
        (rig_packets["rear"][124].time_ns, 100.0),
    ]
    assert rear.lag_median_ms == 7.0


def test_a_transcoded_camera_says_so(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(6.0), packets={**rig_packets, "rear": as_transcoded(rig_packets["rear"])})
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    cameras = manifest_of(clip).cameras
    assert [name for name, camera in cameras.items() if camera.transcoded] == ["rear"]


def test_a_pre_roll_longer_than_history_says_by_how_much_it_is_short(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(2.0, pre_s=5.0))
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    manifest = manifest_of(clip)
    assert manifest.pre_roll_short_s == pytest.approx(3.0)
    assert verify_clip(clip.path).ok


def test_a_runtime_that_ended_ends_the_wait(record_history: Callable[..., Path], tmp_path: Path) -> None:
    history = record_history(firing(6.0), until_s=7.0)
    (clip,) = Recorder(history, sink_at(tmp_path)).step(START_NS + 7 * SECOND_NS)
    assert manifest_of(clip).ended_early == "the runtime ended"
    assert verify_clip(clip.path).ok


def test_a_history_that_stands_still_ends_the_wait(record_history: Callable[..., Path], tmp_path: Path) -> None:
    recorder = Recorder(record_history(firing(6.0), until_s=7.0, close=False), sink_at(tmp_path))
    assert recorder.step(START_NS + 8 * SECOND_NS) == []
    (clip,) = recorder.step(START_NS + 8 * SECOND_NS + STALL_NS + 1)
    assert manifest_of(clip).ended_early == "history stopped growing while the runtime was alive"


def test_a_restarted_recorder_answers_the_firings_that_waited(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0), until_s=7.0, close=False)
    assert Recorder(history, sink_at(tmp_path)).step(START_NS + 7 * SECOND_NS) == []
    assert len(Recorder(history, sink_at(tmp_path)).step(START_NS + 8 * SECOND_NS + STALL_NS + 1)) == 1


class KilledAfterSealing(FolderClipSink):
    """The recorder's process dies between sealing a clip and removing its firings."""

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        clip = super().begin(expected_bytes, priority)
        seal = clip.seal

        def seal_and_die(metadata: Any) -> SealedClip:
            seal(metadata)
            raise KeyboardInterrupt

        clip.seal = seal_and_die  # type: ignore[method-assign]
        return clip


def test_a_recorder_killed_after_sealing_does_not_seal_twice(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0))
    with pytest.raises(KeyboardInterrupt):
        Recorder(history, KilledAfterSealing(tmp_path / "clips")).step(END_NS)
    assert len(HistoryLayout(history).list_firings()) == 1
    assert Recorder(history, sink_at(tmp_path)).step(END_NS) == []
    assert HistoryLayout(history).list_firings() == []
    assert len(list((tmp_path / "clips").glob("*.mcap"))) == 1


class FullDisk(FolderClipSink):
    """Refuses until `room` is set."""

    room = False

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        if not self.room:
            raise OSError(errno.ENOSPC, "quota is used up")
        return super().begin(expected_bytes, priority)


def test_a_refused_clip_is_tried_again_and_its_firing_kept(record_history: Callable[..., Path], tmp_path: Path) -> None:
    sink = FullDisk(tmp_path / "clips")
    history = record_history(firing(6.0))
    recorder = Recorder(history, sink)
    assert recorder.step(END_NS) == []
    assert recorder.status.refused == 1
    assert "quota is used up" in recorder.status.last_error
    assert recorder.step(END_NS + 1) == []
    assert recorder.status.refused == 1, "it waits before it tries again"
    sink.room = True
    assert len(recorder.step(END_NS + RETRY_NS)) == 1


def test_a_clip_refused_until_history_moved_on_is_counted_as_lost(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(3.0, pre_s=1.0, post_s=1.0), seconds=4.0)
    recorder = Recorder(history, FullDisk(tmp_path / "clips"))
    recorder.step(END_NS)
    assert recorder.status.lost_firings == {"driver_takeover": 1}
    assert HistoryLayout(history).list_firings() == []


def test_a_firing_file_that_cannot_be_read_is_set_aside_and_the_others_are_answered(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0))
    bad = HistoryLayout(history).firing(START_NS, 77)
    bad.write_bytes(b'{"session": "first", "firing": {"rule": ')
    recorder = Recorder(history, sink_at(tmp_path))
    assert len(recorder.step(END_NS)) == 1
    assert recorder.status.bad_firings == 1
    assert bad.name in recorder.status.last_error
    assert bad.with_suffix(".bad").exists()


CRASHING_RUNTIME = """
import os, signal, sys
sys.path[:0] = sys.argv[2:4]
from recorded_rig import START_NS, encode_camera, session
from runtime.recording.history_writer import HistoryWriter
writer = HistoryWriter(sys.argv[1], 60, 10**9, session("crashed"))
for packet in encode_camera("front_main", 205):
    writer.packet(packet)
print("written", flush=True)
signal.pause()
"""


def crash_a_runtime(history: Path) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", CRASHING_RUNTIME, str(history), str(here), str(here.parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        assert Recorder(history, FolderClipSink(history.parent / "early")).step(END_NS) == [], "it is still alive"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_a_runtime_killed_by_sigkill_leaves_a_clip_of_its_last_seconds_exactly_once(tmp_path: Path) -> None:
    history = tmp_path / "history"
    crash_a_runtime(history)
    recorder = Recorder(history, sink_at(tmp_path), RecorderSettings(crash_pre_s=4.0))
    (clip,) = recorder.step(END_NS)
    assert clip.metadata["rules"] == ["runtime_crash"]
    manifest = manifest_of(clip)
    assert (manifest.kind, clip.metadata["kind"]) == ("crash", "crash")
    assert manifest.cameras["front_main"].last_ns == START_NS + 204 * PERIOD_NS
    assert manifest.cameras["front_main"].first_ns == START_NS + 120 * PERIOD_NS
    assert verify_clip(clip.path).problems == []
    assert recorder.step(END_NS + SECOND_NS) == []
    assert Recorder(history, sink_at(tmp_path)).step(END_NS + SECOND_NS) == []


def test_a_crash_is_found_after_the_runtime_was_started_again(tmp_path: Path) -> None:
    history = tmp_path / "history"
    crash_a_runtime(history)
    writer = HistoryWriter(history, 60, 10**9, session("second", started_wall_ns=2))
    for packet in encode_camera("front_main", 100, START_NS + 12 * SECOND_NS):
        writer.packet(packet)
    (clip,) = Recorder(history, sink_at(tmp_path), RecorderSettings(crash_pre_s=4.0)).step(END_NS)
    assert clip.metadata["rules"] == ["runtime_crash"]
    assert manifest_of(clip).cameras["front_main"].last_ns == START_NS + 204 * PERIOD_NS
    writer.close()


def test_a_runtime_that_left_cleanly_is_no_crash(record_history: Callable[..., Path], tmp_path: Path) -> None:
    assert Recorder(record_history(), sink_at(tmp_path)).step(END_NS) == []


def test_a_clip_without_cameras_holds_the_signals(record_history: Callable[..., Path], tmp_path: Path) -> None:
    history = record_history(firing(6.0), packets={})
    (clip,) = Recorder(history, sink_at(tmp_path)).step(END_NS)
    manifest = manifest_of(clip)
    assert manifest.cameras == {}
    assert manifest.missing_cameras == list(CAMERAS)
    assert manifest.topics["/vehicle"] == 101
    assert verify_clip(clip.path).ok


def test_a_clip_opens_with_the_plain_mcap_reader_and_foxglove_schemas(clip: Path) -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from mcap.reader import make_reader

    counts: dict[str, int] = {}
    with clip.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
            if channel.topic == topics.video_topic("rear") and counts[channel.topic] == 1:
                assert schema is not None
                pool = descriptor_pool.DescriptorPool()
                for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                    pool.Add(file)
                video_class = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
                video = video_class.FromString(message.data)
                assert (schema.name, video.format) == ("foxglove.CompressedVideo", "h264")
                assert video.timestamp.seconds * SECOND_NS + video.timestamp.nanos == message.log_time
    with McapTopicReader(clip) as reader:
        assert counts == read_manifest(reader).topics


def test_real_video_survives_the_way_through_history_into_a_clip(real_material: Path, tmp_path: Path) -> None:
    import av

    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    with av.open(str(real_material / "drives/model3_night/front_0.ts")) as container:
        for index, packet in enumerate(item for item in container.demux(video=0) if item.size):
            time_ns = START_NS + index * PERIOD_NS
            writer.packet(Packet("front", index, time_ns, time_ns, "h264", packet.is_keyframe, bytes(packet)))
            if index == 300:
                break
    writer.firing(firing(8.0))
    writer.close()
    (clip,) = Recorder(tmp_path / "history", sink_at(tmp_path)).step(END_NS)
    report = verify_clip(clip.path)
    assert report.problems == []
    assert report.frames_decoded["front"] >= 100
