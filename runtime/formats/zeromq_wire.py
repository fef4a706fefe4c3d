"""What travels over ZeroMQ into the runtime: camera packets and signals, from a test bench or another process.

A sender publishes (PUB), the runtime subscribes (SUB); either end may bind. Messages have these frames:

| | frame 0 (subscription) | frame 1, a msgpack mapping | frame 2 |
|---|---|---|---|
| camera | `camera/<name>/` | see below | packet |
| signals | `signals/` | `version sequence samples: [{name, time_ns, value}, ...]` | |

Keys of a camera's mapping: `version camera sequence time_ns wall_ns codec is_key width height`, and where they are
known `rate_hz` and (with key frames) `extradata`.

`version` is 1. `time_ns` is capture time on the sender's monotonic clock: on the same machine the runtime's own.
`codec` is `h264`, `h265`, `mjpeg`, ...; H.264 and H.265 packets are Annex B access units. A `value` is a boolean,
a number or text. Encoders and decoders stand side by side here; a decoder raises `WireError` for anything else, and
believes no length that it has not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from runtime.formats.bitstream import StreamInfo
from runtime.formats.signal_names import coerce_signal_value
from runtime.messages import Packet, SignalSample

WIRE_VERSION = 1
SIGNALS_TOPIC = b"signals/"
#: An intra-coded 4K picture is about 3 MB; anything beyond this is no camera packet.
MAX_PACKET_BYTES = 16 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_SIGNALS_BYTES = 1024 * 1024
MAX_SAMPLES = 10_000
MAX_NAME_LENGTH = 128


class WireError(ValueError):
    """A message does not follow the description at the head of this module."""


@dataclass(frozen=True, slots=True)
class CameraMessage:
    """One camera packet and the stream that it belongs to."""

    packet: Packet
    info: StreamInfo


def camera_topic(camera: str) -> bytes:
    """What a camera's messages begin with."""
    return f"camera/{camera}/".encode()


def encode_camera(packet: Packet, info: StreamInfo) -> list[bytes]:
    """The frames of one camera packet."""
    header = {
        "version": WIRE_VERSION,
        "camera": packet.camera,
        "sequence": packet.sequence,
        "time_ns": packet.time_ns,
        "wall_ns": packet.wall_ns,
        "codec": packet.codec,
        "is_key": packet.is_key,
        "width": info.width,
        "height": info.height,
    }
    if info.rate_hz is not None:
        header["rate_hz"] = info.rate_hz
    if info.extradata and packet.is_key:
        header["extradata"] = info.extradata
    return [camera_topic(packet.camera), msgpack.packb(header), packet.data]


def decode_camera(frames: Sequence[bytes]) -> CameraMessage:
    """The packet in the frames of one camera message. Raises WireError."""
    if len(frames) != 3:
        raise WireError(f"a camera message has 3 frames, not {len(frames)}")
    header = _header(frames[1], MAX_HEADER_BYTES)
    data = frames[2]
    if not 0 < len(data) <= MAX_PACKET_BYTES:
        raise WireError(f"a camera packet has 1 to {MAX_PACKET_BYTES} bytes, not {len(data)}")
    packet = Packet(
        camera=_text(header, "camera"),
        sequence=_integer(header, "sequence"),
        time_ns=_integer(header, "time_ns"),
        wall_ns=_integer(header, "wall_ns"),
        codec=_text(header, "codec"),
        is_key=_field(header, "is_key", bool),
        data=data,
    )
    rate_hz = header.get("rate_hz")
    if rate_hz is not None and (not isinstance(rate_hz, (int, float)) or not 0 < rate_hz <= 1000):
        raise WireError(f"rate_hz is {rate_hz!r}; it must be above 0 and at most 1000")
    extradata = header.get("extradata", b"")
    if not isinstance(extradata, bytes):
        raise WireError("extradata must be bytes")
    width, height = _integer(header, "width"), _integer(header, "height")
    return CameraMessage(packet, StreamInfo(packet.codec, width, height, rate_hz and float(rate_hz), extradata))


def encode_signals(samples: Sequence[SignalSample], sequence: int) -> list[bytes]:
    """The frames of some signal samples."""
    listed = [{"name": sample.name, "time_ns": sample.time_ns, "value": sample.value} for sample in samples]
    return [SIGNALS_TOPIC, msgpack.packb({"version": WIRE_VERSION, "sequence": sequence, "samples": listed})]


def decode_signals(frames: Sequence[bytes]) -> list[SignalSample]:
    """The samples in the frames of one signals message. Raises WireError: a message is taken whole or not at all."""
    if len(frames) != 2:
        raise WireError(f"a signals message has 2 frames, not {len(frames)}")
    listed = _header(frames[1], MAX_SIGNALS_BYTES).get("samples")
    if not isinstance(listed, list) or len(listed) > MAX_SAMPLES:
        raise WireError(f"samples must be a list of at most {MAX_SAMPLES}")
    samples = [_sample(entry) for entry in listed]
    return [sample for sample in samples if sample is not None]


def _sample(entry: Any) -> SignalSample | None:
    """One sample; None for a value that the sender does not know (null, not a number)."""
    if not isinstance(entry, dict):
        raise WireError("a sample is a mapping of name, time_ns and value")
    name = _text(entry, "name")
    try:
        value = coerce_signal_value(name, entry.get("value"))
    except (ValueError, OverflowError) as error:
        raise WireError(str(error)) from error
    return None if value is None else SignalSample(name, _integer(entry, "time_ns"), value)


def _header(data: bytes, limit: int) -> dict[str, Any]:
    if len(data) > limit:
        raise WireError(f"a header has at most {limit} bytes, not {len(data)}")
    try:
        header = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"the header is not msgpack: {error}") from error
    if not isinstance(header, dict):
        raise WireError("the header is not a mapping")
    if header.get("version") != WIRE_VERSION:
        raise WireError(f"version is {header.get('version')!r}; this runtime speaks {WIRE_VERSION}")
    return header


def _field(header: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = header.get(name)
    if type(value) is not kind:
        raise WireError(f"{name} must be {kind.__name__}, not {value!r:.80}")
    return value


def _integer(header: dict[str, Any], name: str) -> int:
    value: int = _field(header, name, int)
    if not 0 <= value < 2**63:
        raise WireError(f"{name} is {value}; it must be 0 or more and fit 63 bits")
    return value


def _text(header: dict[str, Any], name: str) -> str:
    value: str = _field(header, name, str)
    if not 0 < len(value) <= MAX_NAME_LENGTH:
        raise WireError(f"{name} must have 1 to {MAX_NAME_LENGTH} characters")
    return value
