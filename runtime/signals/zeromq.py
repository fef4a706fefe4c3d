"""Signals over ZeroMQ, from a test bench or another process (format: `formats.zeromq_wire`). Receives only (SUB).

The queue is bounded; a message that does not follow the format is counted and dropped whole. `time_ns` of a sample is
the sender's capture time on the same machine's monotonic clock. A sample from the future would wait in the table until
its time; one that is more than `MAX_AHEAD_NS` ahead has a broken clock and is counted as malformed.
"""

from __future__ import annotations

import zmq

from runtime.clock import Clock
from runtime.formats.zeromq_wire import MAX_SIGNALS_BYTES, SIGNALS_TOPIC, WireError, decode_signals
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.signals.sources import RECEIVE_TIMEOUT_S, SignalSourceError, SourceThread

QUEUE_MESSAGES = 1024
MAX_AHEAD_NS = NANOSECONDS_PER_SECOND


class ZeromqSignalSource(SourceThread):
    """The signal messages at one address."""

    def __init__(self, address: str, clock: Clock, *, bind: bool = False) -> None:
        super().__init__(f"zeromq:{address}")
        self._address = address
        self._clock = clock
        self._bind = bind
        #: The address that the socket really has, once it is open.
        self.endpoint = address

    def _receive(self) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_SIGNALS_BYTES)
        socket.setsockopt(zmq.SUBSCRIBE, SIGNALS_TOPIC)
        try:
            if self._bind:
                socket.bind(self._address)
                self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            else:
                socket.connect(self._address)
            self._status.state = "running"
            while not self._stopping.is_set():
                if socket.poll(round(RECEIVE_TIMEOUT_S * 1000)):
                    self._take(socket.recv_multipart())
        except zmq.ZMQError as error:
            raise SignalSourceError(f"signals at {self._address} cannot be received: {error}") from error
        finally:
            socket.close(linger=0)

    def _take(self, frames: list[bytes]) -> None:
        try:
            samples = decode_signals(frames)
        except WireError as error:
            self._status.malformed += 1
            self._status.error = str(error)
            return
        latest_ns = self._clock.now_ns() + MAX_AHEAD_NS
        for sample in samples:
            if sample.time_ns > latest_ns:
                self._status.malformed += 1
            else:
                self._deliver(sample)
