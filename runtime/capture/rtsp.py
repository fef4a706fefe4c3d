"""A network camera over RTSP.

Capture times come from the stream's own timestamps (see `stream_clock`); a camera's delay before its first packet is
not known and not guessed. When the connection breaks, the camera thread opens it again.
"""

from __future__ import annotations

from typing import Literal

from runtime.capture.container_sources import READ_TIMEOUT_S, ContainerSource
from runtime.clock import Clock

_MICROSECONDS = 1_000_000


class RtspSource(ContainerSource):
    """The video at an `rtsp://` address. TCP loses nothing on the way; UDP is quicker on networks that lose nothing."""

    def __init__(self, camera: str, address: str, clock: Clock, *, transport: Literal["tcp", "udp"] = "tcp") -> None:
        options = {
            "rtsp_transport": transport,
            "timeout": str(round(READ_TIMEOUT_S * _MICROSECONDS)),  # of the socket
            "fflags": "nobuffer",
            "max_delay": "0",
            "reorder_queue_size": "0" if transport == "tcp" else "32",
            "analyzeduration": "200000",  # microseconds; the session description says most of it already
            "fpsprobesize": "0",
            "allowed_media_types": "video",
        }
        super().__init__(camera, address, clock, format_name="rtsp", options=options)
