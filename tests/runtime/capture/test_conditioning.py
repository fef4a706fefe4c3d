"""Clip-ready packets: as they came where possible, encoded once where not, and decodable from every key frame."""

import threading
from dataclasses import replace
from pathlib import Path

import av
import pytest
from video_samples import PERIOD_NS, encode, scenes, write_video

from runtime.capture.conditioning import ClipReady, EncodingWorker
from runtime.capture.container_sources import _Pump
from runtime.clock import ManualClock
from runtime.drives.video_files import ContainerTimedCamera
from runtime.formats.bitstream import StreamInfo, has_b_slices, nal_unit_type, nal_units, stream_info
from runtime.messages import Packet


def info(codec: str = "h264", *, reorders: bool = False) -> StreamInfo:
    return StreamInfo(codec, 320, 240, 20.0, reorders=reorders)


def decodes_whole(packets: list[Packet]) -> int:
    context = av.CodecContext.create("h264", "r")
    return sum(len(context.decode(av.Packet(packet.data))) for packet in packets) + len(context.decode(None))


def check_clip_rules(packets: list[Packet]) -> None:
    for packet in packets:
        kinds = {nal_unit_type("h264", packet.data[start]) for start, _ in nal_units(packet.data)}
        assert ({7, 8} <= kinds) == packet.is_key
        assert (5 in kinds) == packet.is_key
        assert not has_b_slices(packet.data)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_packets_that_are_ready_go_through_untouched(codec: str) -> None:
    packets = encode(scenes(12), codec=codec)
    ready = ClipReady("front", info(codec))
    assert not ready.encodes
    assert [out for packet in packets for out in ready.feed(packet)] == packets


def test_long_groups_of_pictures_are_kept_as_they_are() -> None:
    packets = encode(scenes(60), group=60)
    ready = ClipReady("front", info())
    assert [out for packet in packets for out in ready.feed(packet)] == packets


def test_key_frames_get_the_parameter_sets_that_the_stream_keeps_aside() -> None:
    complete = encode(scenes(20), group=5)
    bare = encode(scenes(20), group=5, global_header=True)
    start, _ = list(nal_units(complete[0].data))[2]
    sets_only = complete[0].data[: start - 3]
    ready = ClipReady("front", replace(info(), extradata=sets_only))
    out = [packet for source in bare for packet in ready.feed(source)]
    check_clip_rules(out)
    assert not any(packet.transcoded for packet in out)
    assert decodes_whole(out[5:]) == 15


def test_what_comes_before_the_first_key_frame_is_of_no_use_to_a_clip() -> None:
    ready = ClipReady("front", info())
    out = [packet for source in encode(scenes(20), group=10)[3:] for packet in ready.feed(source)]
    assert [packet.sequence for packet in out] == list(range(10, 20))
    assert ready.dropped == 7


@pytest.mark.parametrize("announced", [True, False])
def test_streams_with_b_frames_are_encoded_once(announced: bool) -> None:
    packets = encode(scenes(40), b_frames=2, group=10)
    ready = ClipReady("front", info(reorders=announced))
    out = [packet for source in packets for packet in ready.feed(source)]
    assert ready.encodes
    encoded = [packet for packet in out if packet.transcoded]
    check_clip_rules(encoded)
    times = [packet.time_ns for packet in encoded]
    assert times == sorted(times)
    assert set(times) <= {packet.time_ns for packet in packets}
    assert len(encoded) >= (36 if announced else 26)
    assert decodes_whole(encoded) == len(encoded)


def test_other_codecs_become_h264_with_a_key_frame_at_least_every_second() -> None:
    packets = encode(scenes(45), codec="mjpeg", start_ns=777)
    ready = ClipReady("front", info("mjpeg"))
    out = [packet for source in packets for packet in ready.feed(source)]
    assert [packet.time_ns for packet in out] == [777 + index * PERIOD_NS for index in range(45)]
    assert [packet.sequence for packet in out if packet.is_key] == [0, 20, 40]
    assert all(packet.transcoded and packet.codec == "h264" for packet in out)
    check_clip_rules(out)
    assert decodes_whole(out[20:]) == 25


def test_odd_sizes_are_cut_to_even_ones(tmp_path: Path) -> None:
    camera = ContainerTimedCamera("left", [write_video(tmp_path / "odd.gif", scenes(4, 161, 121), codec="gif")])
    camera.place(0, None)
    ready = ClipReady("left", camera.stream())
    out = [packet for source in camera.packets() for packet in ready.feed(source)]
    context = av.CodecContext.create("h264", "r")
    picture = context.decode(av.Packet(out[0].data))[0]
    assert (picture.width, picture.height) == (160, 120)


def test_the_worker_encodes_and_ends_with_its_queue_empty() -> None:
    out: list[Packet] = []
    worker = EncodingWorker(out.append)
    worker.start()
    ready = ClipReady("front", info("mjpeg"))
    assert all(worker.offer(ready, packet) for packet in encode(scenes(10), codec="mjpeg"))
    assert worker.stop()
    assert len(out) == 10
    assert worker.refused == 0


def test_a_full_queue_refuses_and_counts_and_never_waits() -> None:
    entered, release = threading.Event(), threading.Event()

    def emit(packet: Packet) -> None:
        entered.set()
        release.wait(10)

    worker = EncodingWorker(emit, capacity=2)
    worker.start()
    ready = ClipReady("front", info("mjpeg"))
    packets = encode(scenes(6), codec="mjpeg")
    assert worker.offer(ready, packets[0])
    assert entered.wait(10)
    assert [worker.offer(ready, packet) for packet in packets[1:]] == [True, True, False, False, False]
    assert worker.refused == 3
    release.set()
    assert worker.stop()


def test_what_refers_to_a_refused_packet_is_not_decoded_to_be_encoded() -> None:
    worker = EncodingWorker(list[Packet]().append, capacity=4)  # not started: it takes nothing away
    packets = encode(scenes(30), b_frames=2, group=10)
    ready = ClipReady("front", info(reorders=True))
    assert [worker.offer(ready, packet) for packet in packets[:5]] == [True] * 4 + [False]
    worker._queue.get_nowait()
    next_key = next(index for index in range(5, 30) if packets[index].is_key)
    assert [worker.offer(ready, packet) for packet in packets[5 : next_key + 1]] == [False] * (next_key - 5) + [True]
    assert worker.refused == next_key - 4


def test_what_a_stream_has_no_room_for_takes_along_what_refers_to_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "front.mp4", scenes(30), group=10)
    with av.open(str(path)) as container:
        pump = _Pump("front", container, ManualClock(1))
        pump._queue.maxsize = 14
        packets = encode(scenes(30), group=10)
        for packet in packets[:15]:
            pump._put(packet)
        assert [pump.take(1.0) for _ in range(14)] == packets[:14]
        for packet in packets[15:]:
            pump._put(packet)
        assert [pump.take(1.0) for _ in range(10)] == packets[20:]
        assert pump.dropped == 6


@pytest.mark.real
@pytest.mark.parametrize("name", ["drives/model3_night/front_0.ts", "video/highway_day_960x540.mp4"])
def test_real_streams_pass_untouched_but_for_parameter_sets(real_material: Path, name: str) -> None:
    with av.open(str(real_material / name)) as container:
        source_info = stream_info(container.streams.video[0])
    camera = ContainerTimedCamera("front", [real_material / name])
    camera.place(0, 5_000_000_000)
    ready = ClipReady("front", source_info)
    packets = list(camera.packets())
    out = [packet for source in packets for packet in ready.feed(source)]
    assert not ready.encodes
    assert [packet.data for packet in out] == [packet.data for packet in packets]
    check_clip_rules(out)
