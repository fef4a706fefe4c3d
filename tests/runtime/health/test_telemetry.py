"""Telemetry over a real socket."""

from __future__ import annotations

import numpy as np
import pytest
import zmq

from runtime.health.telemetry import TOPIC, TelemetryError, TelemetryPublisher, decode_tick, encode_tick
from runtime.messages import Frameset, TickReport


def report() -> TickReport:
    frameset = Frameset(
        7, 1000, ("front", "rear"), np.array([True, False]), np.array([990, 0]), np.array([3, -1]),
        np.zeros((2, 3, 4, 4), np.uint8),
    )  # fmt: skip
    return TickReport(7, 1000, frameset, None, [], None, [], {"infer": 1.5})


def test_bench_receives_which_frames_a_tick_saw() -> None:
    publisher = TelemetryPublisher("tcp://127.0.0.1:*")
    endpoint = publisher._socket.getsockopt_string(zmq.LAST_ENDPOINT)
    with zmq.Context() as context, context.socket(zmq.SUB) as bench:
        bench.setsockopt(zmq.SUBSCRIBE, TOPIC)
        bench.connect(endpoint)
        for _ in range(200):  # a subscription takes a moment to arrive
            publisher.publish(report(), 1004, 1010)
            if bench.poll(20):
                break
        result = decode_tick(bench.recv_multipart())
    publisher.close()
    assert (result.instant, result.time_ns, result.result_ns) == (7, 1000, 1010)
    assert (result.began_ns, result.infer_ns, result.stages_ms) == (1004, 0, {"infer": 1.5})
    assert result.frames == {"front": 990}


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [TOPIC],
        [b"other", encode_tick(report(), 1, 2)],
        [TOPIC, b"\xc1"],
        [TOPIC, b"\x80"],
        [TOPIC, encode_tick(report(), 1, 2).replace(b"\xa1v\x02", b"\xa1v\x03")],
    ],
    ids=["empty", "no body", "other topic", "no msgpack", "no fields", "other version"],
)
def test_malformed_telemetry_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(TelemetryError):
        decode_tick(frames)
