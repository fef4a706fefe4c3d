"""A camera whose packets come over ZeroMQ, from a test bench or another process (format: `formats.zeromq_wire`).

Receives only (SUB). The queue is bounded; a message that does not follow the format is counted and skipped, and
nothing that a sender writes is ever executed or trusted. `timestamps="source"` takes the sender's capture time (same
machine, same monotonic clock); `"arrival"` takes the time of arrival here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import zmq

from runtime.capture.sources import CaptureOpenError, CaptureReadError, CaptureWaiting, StreamInfo
from runtime.clock import Clock
from runtime.formats.zeromq_wire import (
    MAX_PACKET_BYTES,
    CameraMessage,
    WireError,
    camera_topic,
    decode_camera,
)
from runtime.messages import Packet

#: About two seconds of one camera; what does not fit is dropped by ZeroMQ and shows as a gap.
QUEUE_MESSAGES = 64
OPEN_WAIT_S = 0.2

Timestamps = Literal["source", "arrival"]


class ZeromqCameraSource:
    """One camera's messages at one address."""

    def __init__(
        self, camera: str, address: str, clock: Clock, *, bind: bool = False, timestamps: Timestamps = "source"
    ) -> None:
        self._camera = camera
        self._address = address
        self._clock = clock
        self._bind = bind
        self._timestamps = timestamps
        self._socket: zmq.Socket[bytes] | None = None
        self._first: Packet | None = None
        #: Messages that did not follow the wire format.
        self.malformed = 0

    @property
    def endpoint(self) -> str:
        """The address that the socket really has: a bound port `*` is known once it is open."""
        if self._socket is None or not self._bind:
            return self._address
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def open(self) -> StreamInfo:
        """Subscribe and wait for the first message. Raises CaptureWaiting while none has come."""
        if self._socket is None:
            self._socket = self._subscribe()
        message = self._receive(OPEN_WAIT_S)
        if message is None:
            raise CaptureWaiting(f"nothing has come for camera {self._camera} at {self.endpoint} yet")
        self._first = self._stamped(message.packet)
        return replace(message.info, free_running=self._timestamps == "arrival")

    def _subscribe(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_PACKET_BYTES)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, camera_topic(self._camera))
        try:
            if self._bind:
                socket.bind(self._address)
            else:
                socket.connect(self._address)
        except zmq.ZMQError as error:
            socket.close()
            verb = "bound" if self._bind else "connected"
            raise CaptureOpenError(f"{self._address} cannot be {verb} for camera {self._camera}: {error}") from error
        return socket

    def read(self, timeout_s: float) -> Packet | None:
        if self._first is not None:
            packet, self._first = self._first, None
            return packet
        message = self._receive(timeout_s)
        return None if message is None else self._stamped(message.packet)

    def _receive(self, timeout_s: float) -> CameraMessage | None:
        """The next sound message; None when none came in time, or what came is malformed (counted)."""
        if self._socket is None:
            raise CaptureReadError(f"camera {self._camera} at {self._address} is read before it is opened")
        try:
            if not self._socket.poll(round(timeout_s * 1000)):
                return None
            message = decode_camera(self._socket.recv_multipart())
        except WireError:
            self.malformed += 1
            return None
        except zmq.ZMQError as error:
            raise CaptureReadError(f"camera {self._camera} at {self._address}: {error}") from error
        if message.packet.camera != self._camera:
            self.malformed += 1
            return None
        return message

    def _stamped(self, packet: Packet) -> Packet:
        if self._timestamps == "source":
            return packet
        return replace(packet, time_ns=self._clock.now_ns(), wall_ns=self._clock.wall_ns())

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._first = None
