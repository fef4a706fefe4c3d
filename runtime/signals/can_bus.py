"""Signals from a live CAN bus, through any interface that python-can knows. Receives only.

Interfaces stamp frames with wall time or with a time of their own. A stamp that lies within the last second of wall
time is brought onto the monotonic clock; any other is replaced by the time of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import can

from runtime.clock import Clock
from runtime.drives.can_decoding import CanDecoder, CanPlace, build_decoder, load_database
from runtime.formats.documents import DocumentError, Problem
from runtime.formats.signal_names import SignalKind
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.signals.sources import RECEIVE_TIMEOUT_S, SignalSourceError, SourceThread


class CanBusSource(SourceThread):
    """The mapped signals of one bus. A mapping that names another bus than `channel` is another source's."""

    def __init__(
        self,
        interface: str,
        channel: str,
        dbc: Path,
        signals: Mapping[str, CanPlace],
        clock: Clock,
        strict: bool = False,
        declared: Mapping[str, SignalKind] | None = None,
    ) -> None:
        """Raises DocumentError with everything that is wrong with the database and the mappings."""
        super().__init__(f"can:{interface}:{channel}")
        self._interface = interface
        self._channel = channel
        self._decoder = _decoder(dbc, signals, channel, strict, declared)
        self._clock = clock

    def _receive(self) -> None:
        try:
            with can.Bus(interface=self._interface, channel=self._channel) as bus:
                self._status.state = "running"
                while not self._stopping.is_set():
                    message = bus.recv(RECEIVE_TIMEOUT_S)
                    if message is not None and not (message.is_error_frame or message.is_remote_frame):
                        self._decode(message)
        except (can.CanError, OSError, ImportError) as error:
            text = f"CAN {self._interface}:{self._channel} cannot be received: {error}; is the interface up?"
            raise SignalSourceError(text) from error

    def _decode(self, message: can.Message) -> None:
        if not self._decoder.wants(self._channel, message.arbitration_id):
            return
        time_ns = self._capture_time(message.timestamp)
        samples = self._decoder.decode(self._channel, message.arbitration_id, bytes(message.data), time_ns)
        self._status.malformed = self._decoder.undecodable
        for sample in samples:
            self._deliver(sample)

    def _capture_time(self, timestamp_s: float) -> int:
        now_ns = self._clock.now_ns()
        age_ns = self._clock.wall_ns() - round(timestamp_s * NANOSECONDS_PER_SECOND)
        return now_ns - age_ns if 0 <= age_ns <= NANOSECONDS_PER_SECOND else now_ns


def _decoder(
    dbc: Path,
    signals: Mapping[str, CanPlace],
    channel: str,
    strict: bool,
    declared: Mapping[str, SignalKind] | None,
) -> CanDecoder:
    try:
        database = load_database(dbc, strict=strict)
    except (OSError, ValueError) as error:
        fix = "write strict: false if the database is as it comes from the car" if strict else "correct the file"
        raise DocumentError([Problem(str(dbc), 0, 0, str(error), None, fix)]) from error
    decoder, found = build_decoder(database, signals, default_bus=channel, declared=declared)
    if found:
        raise DocumentError(
            Problem(str(dbc), 0, 0, f"signal {problem.signal_name}: {problem.message}", None, problem.fix)
            for problem in found
        )
    return decoder
