"""The seam between cameras and everything behind them: one protocol, one tree of errors.

A source is opened, read and closed by one thread. `read` waits at most `timeout_s` and returns None when nothing came,
so that its thread can stop; it never waits longer, whatever the network does. After an error a source can be closed
and opened again. Packets carry capture time on the runtime's monotonic clock.

| error | when | what the camera thread does |
|---|---|---|
| `CaptureOpenError` | the device, address or file is not there, or is no video | tries again, with growing pauses |
| `CaptureReadError` | the stream broke off | closes, opens again |
| `CaptureWaiting` | connected, but the sender has sent nothing yet | opens again without closing |
| `CaptureEnded` | a recording is over | stops; the camera's health says `ended` |
| `CaptureDataError` | a recording is damaged and cannot go on | stops; the camera's health says `failed` |
"""

from __future__ import annotations

from typing import Protocol

from runtime.formats.bitstream import StreamInfo
from runtime.messages import Packet


class CaptureError(OSError):
    """Something is wrong with a camera source; the message names the source and what to do."""


class CaptureOpenError(CaptureError):
    """The source cannot be opened: no such device, nobody at the address, not a video."""


class CaptureWaiting(CaptureError):  # noqa: N818 - nothing is wrong yet
    """The source is ready and its sender is silent: `open` may be called again without closing."""


class CaptureReadError(CaptureError):
    """The stream broke off, and may come back."""


class CaptureDataError(CaptureError):
    """A recording is missing or damaged: reading it again would give the same."""


class CaptureEnded(CaptureError):  # noqa: N818 - the regular end of a recording, not a fault
    """A recording is over."""


class CameraSource(Protocol):
    """Where one camera's packets come from."""

    def open(self) -> StreamInfo:
        """Connect, and say what the stream is. Raises CaptureError."""

    def read(self, timeout_s: float) -> Packet | None:
        """The next packet in decoding order, or None when none came in time. Raises CaptureError."""

    def close(self) -> None:
        """Let go of the device or connection; may be called at any time and more than once."""


__all__ = [
    "CameraSource",
    "CaptureDataError",
    "CaptureEnded",
    "CaptureError",
    "CaptureOpenError",
    "CaptureReadError",
    "CaptureWaiting",
    "StreamInfo",
]
