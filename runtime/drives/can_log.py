"""A raw CAN log (any format that python-can reads) as signal samples on the drive's clock.

The log is read as a stream each time; it is never held in memory. A log that breaks off (a torn last line after a
power cut) gives what it holds, and the break is noted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import can

from runtime.drives.can_decoding import CanDecoder, bus_name
from runtime.messages import SignalSample

#: Logs write seconds as decimals; their last digit is a microsecond, and a float cannot hold more of Unix time.
_MICROSECONDS = 1_000_000


class CanLog:
    """The frames of one log file, through a decoder."""

    def __init__(self, path: Path, decoder: CanDecoder, faults: list[str]) -> None:
        self._path = path
        self._decoder = decoder
        self._faults = faults

    def time_range_ns(self) -> tuple[int, int] | None:
        """Times of the first and the last frame; None for an empty log. Reads the log once."""
        first_ns = last_ns = None
        for message in self._messages():
            last_ns = _time_ns(message)
            first_ns = last_ns if first_ns is None else first_ns
        return None if first_ns is None or last_ns is None else (first_ns, last_ns)

    def signal_samples(self) -> Iterator[SignalSample]:
        """Every mapped signal of every frame, in the order of the log."""
        for message in self._messages():
            bus = bus_name(message.channel)
            if self._decoder.wants(bus, message.arbitration_id):
                yield from self._decoder.decode(bus, message.arbitration_id, bytes(message.data), _time_ns(message))

    def _messages(self) -> Iterator[can.Message]:
        count = 0
        try:
            with can.LogReader(str(self._path)) as reader:
                for message in reader:
                    count += 1
                    if not (message.is_error_frame or message.is_remote_frame):
                        yield message
        except (ValueError, OSError, EOFError, IndexError) as error:
            fault = f"{self._path}: cannot be read beyond CAN frame {count}: {error}"
            if fault not in self._faults:
                self._faults.append(fault)


def _time_ns(message: can.Message) -> int:
    return round(message.timestamp * _MICROSECONDS) * 1000
