"""The low-bandwidth variant: small pictures and signals, no video, and the same promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from recorded_rig import CAMERAS, PERIOD_NS, SECOND_NS, START_NS, encode_camera, firing, rewrite, session

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter
from runtime.messages import ClipVariant, Packet
from runtime.recording.clip_file import read_jpeg, read_manifest
from runtime.recording.clip_sink import FolderClipSink, SealedClip
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.manifest import MANIFEST_ATTACHMENT, MANIFEST_METADATA, PROVENANCE_METADATA
from runtime.recording.pictures import contact_sheet
from runtime.recording.recorder import Recorder
from runtime.recording.recorder_status import RecorderSettings
from runtime.recording.thumbnails import ThumbnailSettings, thumbnail_times
from runtime.recording.verify import verify_clip

END_NS = START_NS + 14 * SECOND_NS
SMALL = ClipVariant.THUMBNAILS


def seal(history: Path, tmp_path: Path, settings: ThumbnailSettings | None = None) -> list[SealedClip]:
    chosen = RecorderSettings(thumbnails=settings or ThumbnailSettings())
    return Recorder(history, FolderClipSink(tmp_path / "clips"), chosen).step(END_NS)


def test_a_clip_of_thumbnails_keeps_every_promise_and_holds_no_video(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    (clip,) = seal(record_history(firing(6.0, variant=SMALL)), tmp_path)
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path) as reader:
        manifest = read_manifest(reader)
        kinds = {topic.rpartition("/")[2] for topic in reader.topics if topic.startswith("/camera/")}
    assert kinds == {"thumbnail", "annotations", "calibration"}
    assert list(manifest.cameras) == list(CAMERAS)
    assert (manifest.variant, clip.metadata["variant"]) == (SMALL, "thumbnails")
    assert set(manifest.topics) >= {"/vehicle", "/comparison", "/firing"}
    assert not {"/prediction", "/tick"} & set(manifest.topics)


def test_thumbnails_begin_at_or_before_the_request_and_come_once_a_second(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    (clip,) = seal(record_history(firing(6.3, variant=SMALL)), tmp_path)
    with McapTopicReader(clip.path) as reader:
        manifest = read_manifest(reader)
        for camera in CAMERAS:
            times_ns = [packet.time_ns for packet in reader.thumbnails(camera)]
            keys_ns = {packet.time_ns for packet in rig_packets[camera] if packet.is_key}
            assert set(times_ns) <= keys_ns
            assert manifest.requested_start_ns - SECOND_NS // 2 < times_ns[0] <= manifest.requested_start_ns
            assert all(later - earlier == SECOND_NS for earlier, later in pairwise(times_ns))
            assert manifest.requested_end_ns - times_ns[-1] <= SECOND_NS
            assert manifest.cameras[camera].frames == len(times_ns)


def test_a_thumbnail_shows_its_key_frame(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    (clip,) = seal(record_history(firing(6.0, variant=SMALL)), tmp_path, ThumbnailSettings(width_px=80))
    with McapTopicReader(clip.path) as reader:
        for packet in reader.thumbnails("front_wide"):
            image = read_jpeg(packet)
            assert image.shape == (48, 80, 3)
            index = next(item.sequence for item in rig_packets["front_wide"] if item.time_ns == packet.time_ns)
            column = (index * 3 + 17) % (160 - 24)
            bright = image[20:28, column // 2 + 3 : column // 2 + 9].mean()
            assert bright > image[5:10].mean() + 80
        sizes = {
            (channel.metadata["source_width"], channel.metadata["source_height"])
            for channel in reader.channels.values()
            if channel.schema_name == topics.THUMBNAIL_SCHEMA
        }
    assert sizes == {("160", "96")}


def test_thumbnails_that_are_not_made_as_the_manifest_says_break_it(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    wanted = firing(6.0, variant=SMALL, cameras=("rear",))
    (clip,) = seal(record_history(wanted), tmp_path, ThumbnailSettings(width_px=80))
    assert verify_clip(rewrite(clip.path)).problems == []
    for lie in ({"width_px": 81}, {"width_px": 79}, {"interval_s": 1.2}):
        lying = rewrite(clip.path, manifest=lambda said, lie=lie: said["thumbnails"].update(lie))  # type: ignore[misc]
        problems = verify_clip(lying).problems
        assert {(problem.code, problem.camera) for problem in problems} == {("thumbnail", "rear")}


def test_of_real_video_it_weighs_a_fraction(real_material: Path, tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    with av.open(str(real_material / "drives/model3_night/front_0.ts")) as container:
        for index, packet in enumerate(item for item in container.demux(video=0) if item.size):
            time_ns = START_NS + index * PERIOD_NS
            writer.packet(Packet("front", index, time_ns, time_ns, "h264", packet.is_keyframe, bytes(packet)))
            if index == 300:
                break
    for fired in (firing(4.0, pre_s=3, post_s=2), firing(10.0, sequence=1, pre_s=3, post_s=2, variant=SMALL)):
        writer.firing(fired)
    writer.close()
    full, small = seal(tmp_path / "history", tmp_path)
    assert verify_clip(small.path).problems == []
    assert small.size_bytes < full.size_bytes / 3  # of video as meagre as 0.3 Mbit/s


def test_chosen_cameras_and_topics_hold_for_thumbnails_too(record_history: Callable[..., Path], tmp_path: Path) -> None:
    wanted = firing(6.0, variant=SMALL, cameras=("rear",), topics=("/prediction", "/radar"))
    (clip,) = seal(record_history(wanted), tmp_path)
    with McapTopicReader(clip.path) as reader:
        manifest = read_manifest(reader)
    assert set(manifest.topics) == {
        "/camera/rear/thumbnail", "/camera/rear/annotations", "/prediction", "/firing"
    }  # fmt: skip
    assert manifest.missing_topics == ["/radar"]
    assert verify_clip(clip.path).problems == []


def test_a_key_frame_that_cannot_be_decoded_costs_its_thumbnail_and_is_counted(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    def ruin(packet: Packet) -> Packet:
        if packet.sequence != 110:
            return packet
        return replace(packet, data=packet.data[: packet.data.index(b"\x00\x00\x01\x65") + 4])

    packets = {**rig_packets, "rear": [ruin(packet) for packet in rig_packets["rear"]]}
    (clip,) = seal(record_history(firing(6.0, variant=SMALL), packets=packets), tmp_path)
    with McapTopicReader(clip.path) as reader:
        manifest = read_manifest(reader)
    assert manifest.thumbnails is not None
    assert manifest.thumbnails.failed == 1
    assert manifest.cameras["rear"].frames == manifest.cameras["front_main"].frames - 1
    assert manifest.cameras["rear"].gap_count == 1
    assert verify_clip(clip.path).problems == []


def test_a_contact_sheet_of_thumbnails_has_the_boxes_where_the_objects_are(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    (clip,) = seal(record_history(firing(6.0, variant=SMALL)), tmp_path, ThumbnailSettings(width_px=80))
    picture = contact_sheet(clip.path, tmp_path / "sheet.png", (0.0,))
    assert picture.boxes == 1
    image = cv2.imread(str(picture.path))
    assert image is not None
    # The box is (20, 30, 60, 70) in a picture 160 wide; the tile is 288 wide, under a bar of 30 and a gap of 4.
    left, right, top = 4 + 20 * 288 // 160, 4 + 60 * 288 // 160, 34 + 30 * 288 // 160
    blue = (np.abs(image.astype(int) - np.array([255, 191, 51])).max(axis=2) < 60)[:200]
    columns = np.flatnonzero(blue[top + 20 :].sum(axis=0) > 30)
    assert columns.min() == pytest.approx(left, abs=2)
    assert columns.max() == pytest.approx(right, abs=2)


def test_verify_finds_a_picture_that_is_no_jpeg_and_video_among_thumbnails(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    (clip,) = seal(record_history(firing(6.0, variant=SMALL)), tmp_path)
    bad = clip.path.with_name("bad.mcap")
    with McapTopicReader(clip.path) as reader, McapTopicWriter(bad) as writer:
        for message in reader.messages():
            is_first = message.topic == topics.thumbnail_topic("rear") and message.time_ns < START_NS + 4 * SECOND_NS
            data = message.data.replace(b"\xff\xd8\xff", b"GIF") if is_first else message.data
            writer.write(message.channel, data, message.time_ns, message.wall_ns, message.sequence)
        writer.packet(encode_camera("rear", 1, END_NS)[0])
        for name in (PROVENANCE_METADATA, MANIFEST_METADATA):
            writer.metadata(name, reader.metadata()[name])
        writer.attachment(MANIFEST_ATTACHMENT, "application/json", reader.attachments()[MANIFEST_ATTACHMENT])
    codes = {(problem.code, problem.camera) for problem in verify_clip(bad).problems}
    assert {("decode", "rear"), ("variant", None), ("payload_hash", "rear")} <= codes


def test_verify_finds_thumbnails_that_are_higher_than_the_wider_picture_they_were_made_of(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    (clip,) = seal(record_history(firing(6.0, variant=SMALL)), tmp_path)
    said = {"source_width": "200", "source_height": "10"}
    claimed = clip.path.with_name("claimed.mcap")
    with McapTopicReader(clip.path) as reader, McapTopicWriter(claimed) as writer:
        for message in reader.messages():
            is_small = message.channel.schema_name == topics.THUMBNAIL_SCHEMA
            channel = replace(message.channel, metadata=said) if is_small else message.channel
            writer.write(channel, message.data, message.time_ns, message.wall_ns, message.sequence)
        for name in (PROVENANCE_METADATA, MANIFEST_METADATA):
            writer.metadata(name, reader.metadata()[name])
        writer.attachment(MANIFEST_ATTACHMENT, "application/json", reader.attachments()[MANIFEST_ATTACHMENT])
    assert {problem.code for problem in verify_clip(claimed).problems} == {"thumbnail"}


def test_key_frames_closer_than_the_interval_are_thinned_and_jitter_loses_none() -> None:
    every_half_s = [START_NS + index * SECOND_NS // 2 for index in range(9)]
    assert thumbnail_times(every_half_s, ThumbnailSettings()) == set(every_half_s[::2])
    jittery = [START_NS + index * SECOND_NS + (index % 2) * 40_000_000 for index in range(9)]
    assert thumbnail_times(jittery, ThumbnailSettings()) == set(jittery)
    rare = [START_NS + index * 4 * SECOND_NS for index in range(3)]
    assert thumbnail_times(rare, ThumbnailSettings()) == set(rare)
