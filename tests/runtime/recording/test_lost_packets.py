"""Wherever a packet is lost on its way into history, no picture that refers to it is recorded: nobody has to guess."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from recorded_rig import PERIOD_NS, SECOND_NS, START_NS, encode_camera, firing, session
from video_samples import encode, scenes

from runtime.capture.conditioning import ClipReady
from runtime.capture.phase import InstantGrid
from runtime.capture.picture_encoders import X264Encoder
from runtime.clock import SystemClock
from runtime.config.rig_config import RealtimeConfig
from runtime.formats.bitstream import StreamInfo
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Packet
from runtime.processes import camera_process
from runtime.processes.camera_process import ReportDesk
from runtime.processes.camera_threads import CameraListeners, CameraThreads
from runtime.recording import history_sink, segment_stream
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.firing_files import write_firing
from runtime.recording.history_ring import HistoryRing
from runtime.recording.history_sink import HistorySink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.manifest import Gap
from runtime.recording.recorder import Recorder
from runtime.recording.verify import verify_clip

CAMERA = "front_main"
#: The first of them is where a second of history begins.
LOST = range(20, 23)

#: Brings packets into a history, loses `LOST`; how many were counted as refused.
Way = Callable[[HistoryWriter, Sequence[Packet], pytest.MonkeyPatch], int]


def fails_with(number: int) -> Callable[..., Any]:
    def fail(*_arguments: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def full_queue(writer: HistoryWriter, packets: Sequence[Packet], monkeypatch: pytest.MonkeyPatch) -> int:
    sink = HistorySink(writer)
    with monkeypatch.context() as patched:
        patched.setattr(history_sink, "MAX_QUEUED_RECORDS", LOST.start)
        for packet in packets[: LOST.stop]:
            sink.packet(packet)
    for packet in packets[LOST.stop :]:
        sink.packet(packet)
    sink.start()
    assert sink.stop()
    return sink.refused()["packet"]


def full_report(writer: HistoryWriter, packets: Sequence[Packet], monkeypatch: pytest.MonkeyPatch) -> int:
    clock = SystemClock()
    desk = ReportDesk(InstantGrid(PERIOD_NS, CAMERA), clock)
    listeners = CameraListeners(desk.keep, desk.note, desk.offered)
    threads = CameraThreads((), (), (), clock, RealtimeConfig(), listeners, X264Encoder)
    with monkeypatch.context() as patched:
        patched.setattr(camera_process, "MAX_QUEUED_BYTES", sum(len(packet.data) for packet in packets[: LOST.start]))
        for packet in packets[: LOST.stop]:
            desk.keep(packet)
    taken = desk.report([], [], threads).packets
    for packet in packets[LOST.stop :]:
        desk.keep(packet)
    last = desk.report([], [], threads)
    for packet in (*taken, *last.packets):
        assert writer.packet(packet)
    writer.close()
    return last.refused


def full_when_written_together(
    writer: HistoryWriter, packets: Sequence[Packet], monkeypatch: pytest.MonkeyPatch
) -> int:
    with writer.together():
        for packet in packets[: LOST.start]:
            assert writer.packet(packet)
    with monkeypatch.context() as patched, writer.together():
        for packet in packets[LOST.start : LOST.stop]:
            assert writer.packet(packet)
        patched.setattr(segment_stream.os, "write", fails_with(errno.ENOSPC))
    return written(writer, packets[LOST.stop :])


def full_before_the_second_ends(
    writer: HistoryWriter, packets: Sequence[Packet], monkeypatch: pytest.MonkeyPatch
) -> int:
    """The packet that ends a second finds out that those before it have no room."""
    written(writer, packets[: LOST.start - 3], close=False)
    with writer.together():
        for packet in packets[LOST.start - 3 : LOST.start]:
            assert writer.packet(packet)
        with monkeypatch.context() as patched:
            patched.setattr(segment_stream.os, "write", fails_with(errno.ENOSPC))
            assert not writer.packet(packets[LOST.start])
    return written(writer, packets[LOST.start + 1 :])


def no_second_opens(writer: HistoryWriter, packets: Sequence[Packet], monkeypatch: pytest.MonkeyPatch) -> int:
    written(writer, packets[: LOST.start], close=False)
    with monkeypatch.context() as patched:
        patched.setattr(segment_stream.SegmentStream, "_open", fails_with(errno.ENOSPC))
        for packet in packets[LOST.start : LOST.stop]:
            assert not writer.packet(packet)
    return written(writer, packets[LOST.stop :])


def failing_disk(writer: HistoryWriter, packets: Sequence[Packet], monkeypatch: pytest.MonkeyPatch) -> int:
    written(writer, packets[: LOST.start + 1], close=False)
    with monkeypatch.context() as patched:
        patched.setattr(segment_stream.os, "write", fails_with(errno.EIO))
        for packet in packets[LOST.start + 1 : LOST.stop]:
            with pytest.raises(OSError, match="Input/output"):
                writer.packet(packet)
    return written(writer, packets[LOST.stop :])


def written(writer: HistoryWriter, packets: Sequence[Packet], *, close: bool = True) -> int:
    for packet in packets:
        writer.packet(packet)
    if close:
        writer.close()
    return writer.counters.refused_records


def from_a_camera() -> list[Packet]:
    return encode_camera(CAMERA, 60, gop=15)


def from_our_encoder() -> list[Packet]:
    ready = ClipReady(CAMERA, StreamInfo("mjpeg", 320, 240, 20.0))
    pictures = encode(scenes(60), CAMERA, codec="mjpeg", start_ns=START_NS)
    return [packet for picture in pictures for packet in ready.feed(picture)]


def packets_of(clip: Path) -> list[Packet]:
    with McapTopicReader(clip) as reader:
        return list(reader.packets(CAMERA))


def shown(packets: Sequence[Packet]) -> dict[int, bytes]:
    """Capture time -> luma, as a player shows it."""
    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1
    wrapped = []
    for packet in packets:
        wrapped.append(av.Packet(packet.data))
        wrapped[-1].pts = packet.time_ns
    pictures = [picture for packet in (*wrapped, None) for picture in context.decode(packet)]
    return {picture.pts: bytes(picture.planes[0]) for picture in pictures if picture.pts is not None}


@pytest.mark.parametrize(
    ("source", "way", "first_lost"),
    [
        (from_a_camera, full_queue, LOST.start),
        (from_our_encoder, full_queue, LOST.start),
        (from_a_camera, full_report, LOST.start),
        (from_a_camera, full_when_written_together, LOST.start),
        (from_a_camera, full_before_the_second_ends, LOST.start - 3),
        (from_a_camera, no_second_opens, LOST.start),
        (from_a_camera, failing_disk, LOST.start + 1),
    ],
)
def test_what_refers_to_a_lost_packet_is_refused_counted_and_a_gap_of_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Callable[[], list[Packet]], way: Way, first_lost: int
) -> None:
    packets = source()
    next_key = next(index for index in range(LOST.stop, 60) if packets[index].is_key)
    monkeypatch.setattr(HistoryRing, "give_up", lambda _ring: False)  # else a full tmpfs costs the second before, too
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    assert way(writer, packets, monkeypatch) == next_key - first_lost
    write_firing(writer.layout, "first", firing(1.2, pre_s=1.2, post_s=1.7, cameras=(CAMERA,)))
    (clip,) = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    report = verify_clip(clip.path)
    assert report.problems == []
    kept = [*packets[:first_lost], *packets[next_key:-1]]
    assert report.manifest is not None
    camera = report.manifest.cameras[CAMERA]
    last_ns = packets[first_lost - 1].time_ns
    assert camera.gaps == [Gap(after_ns=last_ns, duration_ms=(next_key - first_lost + 1) * 50.0)]
    assert camera.frames == len(kept)
    whole, played = shown(packets), shown(packets_of(clip.path))
    assert set(played) == {packet.time_ns for packet in kept}
    assert [time_ns for time_ns, picture in played.items() if picture != whole[time_ns]] == [], "guessed by the decoder"


def test_cameras_do_not_lose_pictures_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    front, rear = encode_camera("front", 12), encode_camera("rear", 12, seed=1)
    for packet in (front[0], rear[0]):
        assert writer.packet(packet)
    with monkeypatch.context() as patched:
        patched.setattr(segment_stream.os, "write", fails_with(errno.ENOSPC))
        assert not writer.packet(front[1])
    assert [writer.packet(packet) for packet in rear[1:]] == [True] * 11
    assert [writer.packet(packet) for packet in front[2:]] == [False] * 8 + [True, True]
    writer.close()
    assert writer.counters.refused_records == 9
