"""Annex B, parameter sets and B-frames, on packets of real encoders and files."""

from pathlib import Path

import av
import pytest
from video_samples import encode, scenes, write_video

from runtime.formats.bitstream import (
    AnnexBConverter,
    ParameterSets,
    StreamInfo,
    codec_name,
    has_b_slices,
    is_key_access_unit,
    nal_unit_type,
    nal_units,
    stream_info,
)


def _types(codec: str, data: bytes) -> list[int]:
    return [nal_unit_type(codec, data[start]) for start, _ in nal_units(data)]


def test_nal_units_are_found_behind_short_and_long_start_codes() -> None:
    data = b"\x00\x00\x00\x01\x67\xaa\x00\x00\x01\x68\xbb\x00\x00\x00\x01\x65\xcc\x00\x01"
    assert [data[start:end] for start, end in nal_units(data)] == [b"\x67\xaa", b"\x68\xbb", b"\x65\xcc\x00\x01"]


def test_data_without_start_codes_has_no_units() -> None:
    assert list(nal_units(b"not a bitstream")) == []
    assert list(nal_units(b"")) == []


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_key_frames_are_told_by_the_bitstream_itself(codec: str) -> None:
    packets = encode(scenes(12), codec=codec, group=5)
    assert [is_key_access_unit(codec, packet.data) for packet in packets] == [packet.is_key for packet in packets]
    assert any(packet.is_key for packet in packets[1:])


def test_b_slices_are_found_and_p_slices_are_not_mistaken_for_them() -> None:
    assert not any(has_b_slices(packet.data) for packet in encode(scenes(12)))
    assert any(has_b_slices(packet.data) for packet in encode(scenes(12), b_frames=2))


def test_torn_slice_headers_are_no_b_slices_and_no_error() -> None:
    assert not has_b_slices(b"\x00\x00\x01\x41")
    assert not has_b_slices(b"\x00\x00\x01\x41\x00\x00\x00")


def test_mp4_packets_become_annex_b_with_parameter_sets(tmp_path: Path) -> None:
    path = write_video(tmp_path / "scene.mp4", scenes(12), group=5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        converter = AnnexBConverter(stream)
        packets = [(packet.is_keyframe, converter.convert(packet)) for packet in container.demux(stream) if packet.size]
    assert converter.extradata == b""
    for is_key, data in packets:
        assert is_key_access_unit("h264", data) == is_key
        assert ({7, 8} <= set(_types("h264", data))) == is_key


def test_parameter_sets_are_put_before_key_frames_that_lack_them() -> None:
    complete = encode(scenes(12), group=5)
    bare = encode(scenes(12), group=5, global_header=True)
    keeper = ParameterSets("h264")
    keeper.with_sets(complete[0].data, True)
    for packet in bare:
        data = keeper.with_sets(packet.data, packet.is_key)
        assert ({7, 8} <= set(_types("h264", data))) == packet.is_key
        assert data.endswith(packet.data)


def test_parameter_sets_of_h265_include_the_video_parameter_set() -> None:
    packets = encode(scenes(3), codec="h265")
    keeper = ParameterSets("h265")
    assert keeper.with_sets(packets[0].data, True) is packets[0].data
    start, end = next(
        s
        for s in nal_units(packets[0].data)
        if nal_unit_type("h265", packets[0].data[s[0]]) == 19 or nal_unit_type("h265", packets[0].data[s[0]]) == 20
    )
    bare = b"\x00\x00\x00\x01" + packets[0].data[start:end]
    assert {32, 33, 34} <= set(_types("h265", keeper.with_sets(bare, True)))


def test_key_frames_stay_as_they_are_while_no_parameter_sets_are_known() -> None:
    bare = b"\x00\x00\x00\x01\x65\x88"
    keeper = ParameterSets("h264")
    assert not keeper.complete
    assert keeper.with_sets(bare, True) is bare


def test_oversized_parameter_sets_are_not_kept() -> None:
    keeper = ParameterSets("h264")
    keeper.with_sets(b"\x00\x00\x01\x67" + b"\x11" * 5000 + b"\x00\x00\x01\x68\x22", True)
    assert not keeper.complete


def test_stream_info_says_whether_pictures_are_reordered(tmp_path: Path) -> None:
    straight = write_video(tmp_path / "straight.mp4", scenes(12))
    reordered = write_video(tmp_path / "reordered.mp4", scenes(12), b_frames=2)
    with av.open(str(straight)) as container:
        assert stream_info(container.streams.video[0]) == StreamInfo("h264", 320, 240, 20.0)
    with av.open(str(reordered)) as container:
        assert stream_info(container.streams.video[0]).reorders


def test_hevc_is_called_h265() -> None:
    assert codec_name("hevc") == "h265"
    assert codec_name("mjpeg") == "mjpeg"
