"""A local camera device through Video4Linux2.

Compressed formats (`mjpeg`, `h264`) are passed on as they come; raw ones (`yuyv422`, ...) cost the bus and an encoder.
A device that is unplugged breaks off; the camera thread opens it again when it is back.
"""

from __future__ import annotations

from pathlib import Path

from runtime.capture.container_sources import ContainerSource
from runtime.clock import Clock


class V4l2Source(ContainerSource):
    """The camera at a device such as `/dev/video0`; `input_format` is what it is asked for, else the driver chooses."""

    def __init__(
        self,
        camera: str,
        device: Path | str,
        clock: Clock,
        *,
        input_format: str | None = None,
        size: tuple[int, int] | None = None,
        rate_hz: float | None = None,
    ) -> None:
        options: dict[str, str] = {}
        if input_format is not None:
            options["input_format"] = input_format
        if size is not None:
            options["video_size"] = f"{size[0]}x{size[1]}"
        if rate_hz is not None:
            options["framerate"] = f"{rate_hz:g}"
        super().__init__(camera, str(device), clock, format_name="v4l2", options=options)
