"""Details of live sources that need no bench: stream clocks, device options, malformed messages."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from video_samples import encode, scenes

from runtime.capture.sources import CaptureOpenError, CaptureWaiting
from runtime.capture.stream_clock import StreamClock
from runtime.capture.v4l2 import V4l2Source
from runtime.capture.zeromq import ZeromqCameraSource
from runtime.clock import SystemClock
from runtime.formats.bitstream import StreamInfo
from runtime.formats.zeromq_wire import encode_camera
from runtime.messages import Packet

MILLISECOND = 1_000_000


def test_network_jitter_does_not_reach_capture_times() -> None:
    clock = StreamClock()
    delays = [5, 1, 9, 3, 30, 2, 1, 8]
    times = [
        clock.capture_time(index * 50 * MILLISECOND, (index * 50 + delay + 1000) * MILLISECOND)
        for index, delay in enumerate(delays)
    ]
    steps = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    assert all(abs(step - 50 * MILLISECOND) < MILLISECOND / 10 for step in steps)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=50))
def test_nothing_is_captured_after_it_arrived(delays_ms: list[int]) -> None:
    clock = StreamClock()
    arrival = 0
    for index, delay in enumerate(delays_ms):
        arrival = max(arrival, (index * 50 + delay) * MILLISECOND)
        assert clock.capture_time(index * 50 * MILLISECOND, arrival) <= arrival


def test_a_stream_that_begins_anew_is_followed() -> None:
    clock = StreamClock()
    clock.capture_time(100_000 * MILLISECOND, 5_000 * MILLISECOND)
    assert clock.capture_time(0, 9_000 * MILLISECOND) == 9_000 * MILLISECOND


def test_a_packet_without_a_time_was_captured_when_it_arrived() -> None:
    assert StreamClock().capture_time(None, 77) == 77


def test_a_device_is_asked_for_what_was_configured() -> None:
    source = V4l2Source("front", "/dev/video0", SystemClock(), input_format="mjpeg", size=(1280, 960), rate_hz=30.0)
    assert source.options == {"input_format": "mjpeg", "video_size": "1280x960", "framerate": "30"}
    assert V4l2Source("front", "/dev/video0", SystemClock()).options == {}


def test_a_missing_device_is_named() -> None:
    with pytest.raises(CaptureOpenError, match=r"/dev/video99.*No such file"):
        V4l2Source("front", "/dev/video99", SystemClock(), input_format="mjpeg").open()


def test_a_file_that_is_no_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "video0"
    path.write_bytes(b"no device")
    with pytest.raises(CaptureOpenError, match="video0"):
        V4l2Source("front", path, SystemClock()).open()


def test_malformed_and_misdirected_messages_are_counted_and_sound_ones_still_come() -> None:
    publisher = zmq.Context.instance().socket(zmq.PUB)
    source = ZeromqCameraSource("front", "tcp://127.0.0.1:*", SystemClock(), bind=True)
    try:
        with pytest.raises(CaptureWaiting):
            source.open()
        publisher.connect(source.endpoint)
        packet = encode(scenes(1))[0]
        sound = encode_camera(packet, StreamInfo("h264", 320, 240, 20.0))
        _until_open(source, publisher, sound)
        publisher.send_multipart([b"camera/front/", b"\xc1garbage", b"x"])
        publisher.send_multipart([b"camera/front/", encode_camera(packet, StreamInfo("h264", 1, 1))[1]])
        publisher.send_multipart([b"camera/front/", *encode_camera(_renamed(packet), StreamInfo("h264", 1, 1))[1:]])
        publisher.send_multipart([b"camera/front/", sound[1], packet.data + b"last"])
        received = [source.read(2.0) for _ in range(200) if source.malformed < 3]
        last = next(got for got in iter(lambda: source.read(2.0), None) if got.data.endswith(b"last"))
        assert last.sequence == packet.sequence
        assert source.malformed == 3
        assert all(got is None or got.camera == "front" for got in received)
    finally:
        source.close()
        publisher.close(linger=0)


def _renamed(packet: Packet) -> Packet:
    return replace(packet, camera="rear")


def _until_open(source: ZeromqCameraSource, publisher: "zmq.Socket[bytes]", message: list[bytes]) -> None:
    """A subscription takes a moment to reach the publisher: send until something comes through."""
    for _ in range(100):
        publisher.send_multipart(message)
        try:
            source.open()
            return
        except CaptureWaiting:
            continue
    raise AssertionError("the subscription never reached the publisher")


def test_time_of_arrival_can_stand_in_for_the_senders_clock() -> None:
    publisher = zmq.Context.instance().socket(zmq.PUB)
    clock = SystemClock()
    source = ZeromqCameraSource("front", "tcp://127.0.0.1:*", clock, bind=True, timestamps="arrival")
    try:
        with pytest.raises(CaptureWaiting):
            source.open()
        publisher.connect(source.endpoint)
        before = clock.now_ns()
        _until_open(source, publisher, encode_camera(encode(scenes(1))[0], StreamInfo("h264", 320, 240, 20.0)))
        packet = source.read(1.0)
        assert packet is not None
        assert before <= packet.time_ns <= clock.now_ns()
    finally:
        source.close()
        publisher.close(linger=0)
