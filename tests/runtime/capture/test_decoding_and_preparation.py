"""Packets to network images: right pictures, right times, and no picture made of torn data."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from video_samples import PERIOD_NS, encode, scene, scenes, write_video

from runtime.capture.decoding import PacketDecoder, UnknownCodecError
from runtime.capture.preparation import ImagePreparer
from runtime.drives.video_files import VideoFile
from runtime.formats.bitstream import StreamInfo
from runtime.formats.image_spec import ImageSpec
from runtime.messages import Packet


def decoder(codec: str = "h264") -> PacketDecoder:
    return PacketDecoder(StreamInfo(codec, 320, 240))


def _difference(shown: np.ndarray, index: int) -> float:
    return float(np.abs(shown - scene(index)).mean())


@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_every_packet_gives_its_own_picture_at_once(codec: str) -> None:
    decode = decoder(codec).decode
    for packet in encode(scenes(12), codec=codec, start_ns=1_000):
        (frame,) = decode(packet)
        assert (frame.time_ns, frame.sequence) == (packet.time_ns, packet.sequence)
        shown = frame.picture.to_ndarray(format="rgb24").astype(int)
        assert _difference(shown, packet.sequence) < 20
        assert _difference(shown, packet.sequence) < 0.6 * _difference(shown, packet.sequence + 1)


def test_reordered_pictures_keep_their_own_times() -> None:
    packets = encode(scenes(20), b_frames=2)
    decode = decoder().decode
    frames = [frame for packet in packets for frame in decode(packet)]
    times = [frame.time_ns for frame in frames]
    assert times == sorted(times)
    by_time = {packet.time_ns: packet.sequence for packet in packets}
    assert all(by_time[frame.time_ns] == frame.sequence for frame in frames)


def test_a_stream_is_picked_up_at_its_first_key_frame() -> None:
    decode = decoder()
    frames = [frame.sequence for packet in encode(scenes(20), group=10)[3:] for frame in decode.decode(packet)]
    assert frames == list(range(10, 20))
    assert decode.skipped == 7


def test_after_a_torn_packet_nothing_is_shown_until_the_next_key_frame() -> None:
    packets = encode(scenes(30), group=10)
    packets[4] = replace(packets[4], data=packets[4].data[:40] + bytes(len(packets[4].data) - 40))
    decode = decoder()
    shown = [frame.sequence for packet in packets for frame in decode.decode(packet)]
    assert shown == [0, 1, 2, 3, *range(10, 30)]
    assert (decode.errors, decode.skipped) == (1, 5)


def test_noise_instead_of_packets_is_counted_and_harmless() -> None:
    decode = decoder()
    noise = np.random.default_rng(0).integers(0, 255, 3000, np.uint8).tobytes()
    for sequence in range(5):
        assert decode.decode(Packet("front", sequence, sequence, sequence, "h264", True, noise)) == []
    assert decode.errors == 5
    assert len(decode.decode(encode(scenes(1))[0])) == 1


def test_a_codec_without_a_decoder_is_named() -> None:
    with pytest.raises(UnknownCodecError, match="'betamax'"):
        decoder("betamax")


def test_animated_gifs_are_cameras_too(tmp_path: Path) -> None:
    file = VideoFile(write_video(tmp_path / "scene.gif", scenes(6), codec="gif"))
    decode = PacketDecoder(file.stream())
    pictures = [
        decode.decode(Packet("left", 0, packet.time_ns, 0, "gif", packet.is_key, packet.data))
        for packet in file.packets()
    ]
    assert [len(shown) for shown in pictures] == [1] * 6


def test_raw_video_is_decoded_by_its_pixel_format(tmp_path: Path) -> None:
    file = VideoFile(write_video(tmp_path / "scene.nut", scenes(3), codec="rawvideo"))
    info = file.stream()
    assert (info.codec, info.pixel_format) == ("rawvideo", "yuyv422")
    packet = next(file.packets())
    (frame,) = PacketDecoder(info).decode(Packet("left", 0, 0, 0, "rawvideo", True, packet.data))
    shown = frame.picture.to_ndarray(format="rgb24").astype(int)
    assert np.abs(shown - scene(0)).mean() < 12


def picture(image: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(("color", "red_channel"), [("rgb", 0), ("bgr", 2)])
def test_colours_arrive_in_the_channels_that_the_network_asks_for(color: str, red_channel: int) -> None:
    red = np.zeros((240, 320, 3), np.uint8)
    red[:, :, 0] = 200
    view = np.zeros((3, 96, 160), np.uint8)
    ImagePreparer(ImageSpec(160, 96, color=color)).prepare(picture(red), view)
    means = view.reshape(3, -1).mean(axis=1)
    assert means[red_channel] == pytest.approx(200, abs=4)
    assert means.sum() == pytest.approx(200, abs=8)


def test_scaling_averages_areas_like_a_reference_does() -> None:
    """Against the mean over each block of source pixels, computed here."""
    image = scene(0, 640, 384)
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    view = np.zeros((3, 192, 320), np.uint8)
    ImagePreparer(ImageSpec(320, 192)).prepare(picture(gray), view)
    expected = gray[:, :, 0].reshape(192, 2, 320, 2).mean(axis=(1, 3))
    assert np.abs(view[0] - expected).mean() < 1.5


def test_a_letterbox_is_padded_right_and_below() -> None:
    white = np.full((90, 320, 3), 255, np.uint8)
    view = np.zeros((3, 128, 128), np.uint8)
    geometry = ImagePreparer(ImageSpec(128, 128, resize="letterbox", pad_value=114)).prepare(picture(white), view)
    assert (geometry.content_width, geometry.content_height) == (128, 36)
    assert (view[:, 36:, :] == 114).all()
    assert view[:, :36, :].min() > 250


def test_a_picture_of_another_size_gets_its_own_geometry() -> None:
    preparer = ImagePreparer(ImageSpec(64, 64))
    view = np.zeros((3, 64, 64), np.uint8)
    assert preparer.prepare(picture(scene(0, 320, 240)), view).source_width == 320
    assert preparer.prepare(picture(scene(0, 160, 128)), view).source_width == 160


def test_the_same_picture_always_gives_the_same_image() -> None:
    frames = [decoder().decode(encode(scenes(1))[0])[0].picture for _ in range(2)]
    views = [np.zeros((3, 192, 320), np.uint8) for _ in frames]
    for frame, view in zip(frames, views, strict=True):
        ImagePreparer(ImageSpec(320, 192)).prepare(frame, view)
    assert views[0].tobytes() == views[1].tobytes()


def test_sequences_are_found_even_when_capture_times_are_irregular() -> None:
    packets = [
        replace(packet, time_ns=packet.time_ns + (packet.sequence % 3) * PERIOD_NS // 9) for packet in encode(scenes(9))
    ]
    decode = decoder().decode
    assert [decode(packet)[0].time_ns for packet in packets] == [packet.time_ns for packet in packets]
