"""Publishes every tick's result over ZeroMQ (PUB), for a test bench that measures the runtime from outside.

One message a tick, two frames: the topic `tick` and a MessagePack map

    {"v": 2, "instant": int, "time_ns": int, "began_ns": int, "result_ns": int, "infer_ns": int,
     "stages_ms": {stage: ms}, "frames": {camera: capture time_ns}, "firings": [rule]}

`frames` lists the cameras that the tick saw; `infer_ns` is the run of the network alone (0: it did not run), a part of
stage `infer`. Off unless configured. Sending never waits: with nobody listening, or a
listener that is slow, messages are dropped by the socket. Nothing is ever received here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from runtime.messages import TickReport

TOPIC = b"tick"
VERSION = 2
QUEUE_MESSAGES = 256
MAX_MESSAGE_BYTES = 64 * 1024


class TelemetryError(ValueError):
    """A message is not telemetry of a version that is understood here."""


@dataclass(frozen=True, slots=True)
class TickResult:
    """One tick as a bench sees it."""

    instant: int
    time_ns: int
    began_ns: int
    result_ns: int
    infer_ns: int
    stages_ms: Mapping[str, float]
    frames: Mapping[str, int]
    firings: Sequence[str]


class TelemetryPublisher:
    """The runtime's end. Owned by the tick's thread."""

    def __init__(self, address: str) -> None:
        """Binds; zmq.ZMQError when the address cannot be bound."""
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)

    def publish(self, report: TickReport, began_ns: int, result_ns: int) -> None:
        """Send one tick's result; never waits."""
        self._socket.send_multipart([TOPIC, encode_tick(report, began_ns, result_ns)], zmq.NOBLOCK)

    def close(self) -> None:
        """Let go of the address."""
        self._socket.close()


def encode_tick(report: TickReport, began_ns: int, result_ns: int) -> bytes:
    """The message of one tick."""
    frameset = report.frameset
    frames = {}
    if frameset is not None:
        rows = zip(frameset.cameras, frameset.present, frameset.frame_time_ns, strict=True)
        frames = {camera: int(time_ns) for camera, present, time_ns in rows if present}
    fields = {
        "v": VERSION,
        "instant": report.sequence,
        "time_ns": report.time_ns,
        "began_ns": began_ns,
        "result_ns": result_ns,
        "infer_ns": 0 if report.prediction is None else report.prediction.infer_ns,
        "stages_ms": dict(report.timings_ms),
        "frames": frames,
        "firings": [firing.rule for firing in report.firings],
    }
    return bytes(msgpack.packb(fields))


def decode_tick(frames: Sequence[bytes]) -> TickResult:
    """A received message. Raises TelemetryError."""
    if len(frames) != 2 or frames[0] != TOPIC or len(frames[1]) > MAX_MESSAGE_BYTES:
        raise TelemetryError(f"telemetry has {len(frames)} frames or another topic than {TOPIC!r}")
    try:
        fields: Any = msgpack.unpackb(frames[1])
        if fields["v"] != VERSION:
            raise TelemetryError(f"telemetry of version {fields['v']!r}; this end understands {VERSION}")
        return TickResult(
            int(fields["instant"]),
            int(fields["time_ns"]),
            int(fields["began_ns"]),
            int(fields["result_ns"]),
            int(fields["infer_ns"]),
            {str(stage): float(milliseconds) for stage, milliseconds in fields["stages_ms"].items()},
            {str(camera): int(time_ns) for camera, time_ns in fields["frames"].items()},
            [str(rule) for rule in fields["firings"]],
        )
    except (KeyError, TypeError, AttributeError, ValueError, msgpack.UnpackException) as error:
        raise TelemetryError(f"telemetry cannot be read: {error}") from error
