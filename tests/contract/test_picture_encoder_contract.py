"""Whoever encodes raw pictures for clips keeps the same promises: x264, and GStreamer's pipeline where it is installed.

The pipeline is the Jetson's with x264enc in place of its hardware encoder: all but NVIDIA's elements is run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from video_samples import PERIOD_NS, RATE_HZ, scenes

from runtime.capture import gstreamer_encoder
from runtime.capture.conditioning import ClipReady, EncodingWorker
from runtime.capture.gstreamer_encoder import JETSON, X264ENC, AccessUnits, GstreamerEncoder, pipeline
from runtime.capture.picture_encoders import (
    EncoderError,
    PictureEncoder,
    X264Encoder,
    choose_encoder,
    why_no_element,
)
from runtime.formats.bitstream import StreamInfo, has_b_slices, nal_units
from runtime.messages import Packet
from runtime.recording.clip_file import decode

OpenIt = Callable[[int, int], PictureEncoder]


def x264(width: int, height: int) -> PictureEncoder:
    return X264Encoder("front", width, height, RATE_HZ)


def gstreamer(width: int, height: int) -> PictureEncoder:
    missing = why_no_element(X264ENC.element)
    if missing:
        pytest.skip(f"{missing}: install gstreamer1.0-tools and gstreamer1.0-plugins-ugly to run this test")
    return GstreamerEncoder("front", width, height, RATE_HZ, X264ENC)


def frame(image: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24")


def encode_all(encoder: PictureEncoder, images: list[np.ndarray]) -> list[Packet]:
    packets = []
    for index, image in enumerate(images):
        packets += encoder.encode(frame(image), index * PERIOD_NS, index * PERIOD_NS + 7, 100 + index)
    return packets + encoder.close()


@pytest.fixture(params=[x264, gstreamer])
def open_it(request: pytest.FixtureRequest) -> OpenIt:
    return request.param


def test_every_picture_gives_one_packet_with_its_own_times_in_order(open_it: OpenIt) -> None:
    packets = encode_all(open_it(320, 240), scenes(50))
    assert [packet.sequence for packet in packets] == list(range(100, 150))
    assert [packet.time_ns for packet in packets] == [index * PERIOD_NS for index in range(50)]
    assert {packet.wall_ns - packet.time_ns for packet in packets} == {7}
    assert all(packet.transcoded and packet.codec == "h264" for packet in packets)


def test_key_frames_come_each_second_with_parameter_sets_and_there_are_no_b_frames(open_it: OpenIt) -> None:
    packets = encode_all(open_it(320, 240), scenes(70))
    keys = [index for index, packet in enumerate(packets) if packet.is_key]
    assert keys[0] == 0
    assert all(later - earlier <= RATE_HZ for earlier, later in pairwise([*keys, 70]))
    for packet in packets:
        kinds = {packet.data[start] & 0x1F for start, _ in nal_units(packet.data)}
        assert not packet.is_key or {7, 8} <= kinds
        assert not has_b_slices(packet.data)


def test_what_comes_out_shows_what_went_in(open_it: OpenIt) -> None:
    images = scenes(30)
    shown = list(decode(iter(encode_all(open_it(320, 240), images))))
    assert len(shown) == 30
    for index in (0, 13, 29):
        difference = np.abs(shown[index].rgb().astype(int) - images[index].astype(int)).mean()
        assert difference < 25, f"picture {index} is off by {difference:.0f} of 255"


def test_odd_sizes_lose_their_last_line(open_it: OpenIt) -> None:
    images = [np.ascontiguousarray(image[:239, :319]) for image in scenes(5)]
    shown = list(decode(iter(encode_all(open_it(319, 239), images))))
    assert {(item.frame.width, item.frame.height) for item in shown} == {(318, 238)}


def test_raw_packets_of_a_camera_become_clip_ready_through_the_worker(open_it: OpenIt) -> None:
    out: list[Packet] = []
    worker = EncodingWorker(out.append, open_encoder=lambda camera, width, height, rate_hz: open_it(width, height))
    ready = ClipReady(
        "front", StreamInfo("rawvideo", 320, 240, RATE_HZ, pixel_format="rgb24"), worker.open_encoder
    )  # fmt: skip
    open_it(320, 240).close()  # skips here, on the test's own thread
    worker.start()
    for index, image in enumerate(scenes(25)):
        raw = Packet("front", index, index * PERIOD_NS, index * PERIOD_NS, "rawvideo", True, image.tobytes())
        assert worker.offer(ready, raw)
    assert worker.stop(20.0)
    assert (worker.errors, worker.last_error) == (0, "")
    assert [packet.sequence for packet in out] == list(range(25)), "what an encoder holds back comes out at the end"


# The pipeline alone


def fake(monkeypatch: pytest.MonkeyPatch, script: str) -> GstreamerEncoder:
    """An encoder whose pipeline is a process that misbehaves."""
    command = [sys.executable, "-c", script]
    monkeypatch.setattr(gstreamer_encoder, "pipeline", lambda *arguments: command)
    return GstreamerEncoder("front", 320, 240, RATE_HZ)


def failure(encoder: GstreamerEncoder, pictures: int = 60) -> str:
    for index, image in enumerate(scenes(pictures)):
        try:
            encoder.encode(frame(image), index, index, index)
        except EncoderError as error:
            return str(error)
    raise AssertionError(f"the pipeline took {pictures} pictures")


def test_a_pipeline_that_dies_says_why_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; sys.stdin.buffer.read(9); sys.exit('no element \"nvv4l2h264enc\"')"
    assert 'no element "nvv4l2h264enc"' in failure(fake(monkeypatch, script))


def test_a_pipeline_that_takes_nothing_is_ended_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer_encoder, "STALL_S", 0.2)
    encoder = fake(monkeypatch, "import time; time.sleep(60)")
    assert "it took and gave nothing for 0.2 s" in failure(encoder)


def test_a_pipeline_that_swallows_pictures_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = fake(monkeypatch, "import sys\nwhile sys.stdin.buffer.read(65536): pass")
    assert "pictures behind" in failure(encoder)


def test_after_a_failure_it_rests_and_then_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer_encoder, "REST_PICTURES", 3)
    if missing := why_no_element(X264ENC.element):
        pytest.skip(missing)
    good = pipeline(320, 240, RATE_HZ, X264ENC)
    encoder = fake(monkeypatch, "pass")
    failure(encoder)
    encoder._command = good
    for _ in range(3):
        assert "rests" in failure(encoder, 1)
    assert [packet.sequence for packet in encode_all(encoder, scenes(5))] == [100, 101, 102, 103, 104]


def test_a_tool_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer_encoder, "pipeline", lambda *arguments: ["/nowhere/gst-launch-1.0"])
    with pytest.raises(EncoderError, match=r"install gstreamer1\.0-tools"):
        GstreamerEncoder("front", 320, 240, RATE_HZ)


def test_access_units_are_told_apart_wherever_the_reads_cut_them() -> None:
    units = [b"\x00\x00\x00\x01\x09\x10" + bytes([5]) * (20 + index) for index in range(6)]
    stream = b"".join(units)
    for size in (1, 2, 3, 5, 7, 64, len(stream)):
        splitter = AccessUnits()
        found = [unit for at in range(0, len(stream), size) for unit in splitter.feed(stream[at : at + size])]
        assert [*found, splitter.rest()] == units


def test_the_jetsons_pipeline_asks_for_what_a_clip_needs() -> None:
    text = " ".join(pipeline(1280, 960, 20.0, JETSON))
    for wanted in (
        "nvv4l2h264enc", "insert-sps-pps=true", "insert-aud=true", "idrinterval=20", "iframeinterval=20",
        "num-B-Frames=0", "width=1280 height=960 framerate=20/1", "bitrate=2949120",
    ):  # fmt: skip
        assert wanted in text


def test_auto_takes_x264_where_there_is_no_jetson_and_jetson_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_encoder("auto") is X264Encoder
    assert choose_encoder("x264") is X264Encoder
    with pytest.raises(EncoderError, match=r"history.encoder is jetson, but gst-launch-1.0 is not installed"):
        choose_encoder("jetson")
    for tool in ("gst-launch-1.0", "gst-inspect-1.0"):
        (tmp_path / tool).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / tool).chmod(0o755)
    assert choose_encoder("auto") is GstreamerEncoder
