"""What every camera source promises, whatever stands behind it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_benches import CAMERA_BENCHES, PATIENCE_NS, Bench, RtspServers

from runtime.capture.decoding import PacketDecoder
from runtime.capture.sources import (
    CameraSource,
    CaptureEnded,
    CaptureError,
    CaptureReadError,
    CaptureWaiting,
)
from runtime.clock import SystemClock
from runtime.formats.bitstream import StreamInfo, nal_unit_type, nal_units
from runtime.messages import NANOSECONDS_PER_SECOND, Packet

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def servers() -> Iterator[RtspServers]:
    running = RtspServers()
    yield running
    running.close()


@pytest.fixture(params=CAMERA_BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path, servers: RtspServers) -> Iterator[Bench]:
    with CAMERA_BENCHES[request.param](tmp_path, servers) as made:
        yield made
        made.source.close()
        if made.absent is not None:
            made.absent.close()


def opened(source: CameraSource) -> StreamInfo:
    give_up_ns = CLOCK.now_ns() + PATIENCE_NS
    while True:
        try:
            return source.open()
        except CaptureWaiting:
            assert CLOCK.now_ns() < give_up_ns


def packets(source: CameraSource, count: int) -> list[Packet]:
    give_up_ns = CLOCK.now_ns() + PATIENCE_NS
    received: list[Packet] = []
    while len(received) < count:
        packet = source.read(0.2)
        received += [packet] if packet is not None else []
        assert CLOCK.now_ns() < give_up_ns, f"{len(received)} of {count} packets came"
    return received


def test_packets_follow_the_stream_that_open_describes(bench: Bench) -> None:
    info = opened(bench.source)
    assert bench.codec in ("", info.codec)
    assert (info.width, info.height) == (320, 240) or not bench.codec
    assert info.rate_hz is None or info.rate_hz > 0
    for packet in packets(bench.source, 5):
        assert packet.camera == "front"
        assert packet.codec == info.codec
        assert packet.data


def test_packets_decode_to_pictures_from_their_first_key_frame(bench: Bench) -> None:
    info = opened(bench.source)
    decoder = PacketDecoder(info)
    received = packets(bench.source, 25)
    pictures = [frame for packet in received for frame in decoder.decode(packet)]
    first_key = next(index for index, packet in enumerate(received) if packet.is_key)
    assert decoder.errors == 0
    assert len(pictures) == len(received) - first_key
    assert {(frame.picture.width, frame.picture.height) for frame in pictures} == {(info.width, info.height)}


def test_sequences_count_and_capture_times_rise_and_are_those_of_this_clock(bench: Bench) -> None:
    opened(bench.source)
    received = packets(bench.source, 20)
    sequences = [packet.sequence for packet in received]
    if bench.ends:
        assert sequences == list(range(20))
    times = [packet.time_ns for packet in received]
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    assert times[-1] <= CLOCK.now_ns()
    assert CLOCK.now_ns() - times[-1] < 15 * NANOSECONDS_PER_SECOND
    assert abs(received[-1].wall_ns - CLOCK.wall_ns()) < 15 * NANOSECONDS_PER_SECOND


def test_key_frames_of_h264_are_marked_and_annex_b(bench: Bench) -> None:
    if opened(bench.source).codec != "h264":
        pytest.skip("this bench sends no H.264")
    for packet in packets(bench.source, 15):
        kinds = {nal_unit_type("h264", packet.data[start]) for start, _ in nal_units(packet.data)}
        assert kinds
        assert (5 in kinds) == packet.is_key


def test_a_recording_ends_and_a_live_stream_goes_on(bench: Bench) -> None:
    opened(bench.source)
    if not bench.ends:
        assert packets(bench.source, 40)
        return
    assert len(packets(bench.source, 30)) == 30
    with pytest.raises(CaptureEnded):
        bench.source.read(0.2)


def test_a_source_can_be_closed_twice_and_opened_again(bench: Bench) -> None:
    opened(bench.source)
    packets(bench.source, 3)
    bench.source.close()
    bench.source.close()
    opened(bench.source)
    assert packets(bench.source, 3)


def test_reading_before_opening_is_an_error_that_says_so(bench: Bench) -> None:
    with pytest.raises(CaptureError, match="before it is opened"):
        bench.source.read(0.01)


def test_what_is_not_there_cannot_be_opened_and_the_error_names_it(bench: Bench) -> None:
    assert bench.absent is not None
    with pytest.raises(CaptureError) as caught:
        bench.absent.open()
    assert not isinstance(caught.value, (CaptureEnded, CaptureReadError, CaptureWaiting))
    assert any(name in str(caught.value) for name in ("gone.mp4", "127.0.0.1", "/dev/video99"))
