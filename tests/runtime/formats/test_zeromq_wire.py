"""What travels over ZeroMQ comes back as it was sent, and nothing else is believed."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.formats.bitstream import StreamInfo
from runtime.formats.zeromq_wire import (
    MAX_PACKET_BYTES,
    WireError,
    decode_camera,
    decode_signals,
    encode_camera,
    encode_signals,
)
from runtime.messages import Packet, SignalSample

PACKET = Packet("front", 7, 123_456, 999, "h264", True, b"\x00\x00\x00\x01\x65\x88")
INFO = StreamInfo("h264", 640, 480, 20.0, b"\x00\x00\x01\x67")


def test_a_camera_packet_comes_back_as_it_was_sent() -> None:
    message = decode_camera(encode_camera(PACKET, INFO))
    assert message.packet == PACKET
    assert message.info == INFO


def test_signals_come_back_with_their_types() -> None:
    samples = [
        SignalSample("vehicle.speed_mps", 5, 13.5),
        SignalSample("controller.enabled", 6, True),
        SignalSample("controller.state", 7, "engaged"),
    ]
    assert decode_signals(encode_signals(samples, 0)) == samples


def test_a_number_for_a_boolean_signal_is_a_boolean() -> None:
    frames = [
        b"signals/",
        msgpack.packb({"version": 1, "samples": [{"name": "controller.enabled", "time_ns": 1, "value": 1}]}),
    ]
    assert decode_signals(frames) == [SignalSample("controller.enabled", 1, True)]


def test_unknown_values_are_left_out_and_not_made_up() -> None:
    listed = [{"name": "x.a", "time_ns": 1, "value": None}, {"name": "x.b", "time_ns": 1, "value": float("nan")}]
    assert decode_signals([b"signals/", msgpack.packb({"version": 1, "samples": listed})]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"time_ns": -1},
        {"time_ns": 1.5},
        {"time_ns": 2**63},
        {"camera": ""},
        {"camera": "x" * 200},
        {"is_key": 1},
        {"width": None},
        {"rate_hz": 0},
        {"extradata": "text"},
    ],
)
def test_a_header_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    topic, header, data = encode_camera(PACKET, INFO)
    with pytest.raises(WireError):
        decode_camera([topic, msgpack.packb({**msgpack.unpackb(header), **change}), data])


@pytest.mark.parametrize("frames", [[], [b"camera/front/"], [b"camera/front/", b"", b""], [b"a", b"b", b"c", b"d"]])
def test_a_message_of_another_shape_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode_camera(frames)


def test_an_oversized_packet_is_refused() -> None:
    topic, header, _ = encode_camera(PACKET, INFO)
    with pytest.raises(WireError, match="bytes"):
        decode_camera([topic, header, bytes(MAX_PACKET_BYTES + 1)])


@given(st.binary(max_size=200))
def test_noise_raises_nothing_but_wire_errors(noise: bytes) -> None:
    for decode, frames in ((decode_camera, [b"camera/x/", noise, noise]), (decode_signals, [b"signals/", noise])):
        with pytest.raises(WireError):
            decode(frames)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["version", "samples", "name", "value", "time_ns"]), inner)
        ),
        max_leaves=8,
    )
)
def test_well_formed_msgpack_of_another_meaning_is_refused_or_empty(value: object) -> None:
    try:
        samples = decode_signals([b"signals/", msgpack.packb(value)])
    except WireError:
        return
    assert all(isinstance(sample, SignalSample) for sample in samples)
