"""A decoded picture into memory that a GPU reads, as it is: copied plane by plane, neither scaled nor converted.

The counterpart of `preparation` for preprocessing on the device. Rows keep the decoder's pitch, so that a plane is one
copy; Python's lock is free meanwhile. What the bytes mean is returned as a `PictureFormat`; a picture in a format that
the kernel does not know (10 bits, say) is first brought to 8-bit 4:2:0 of the same size by FFmpeg.

Where chroma lies FFmpeg knows and PyAV does not show. H.264 and H.265 put it on the left luma sample unless the stream
says otherwise, which cameras do not; MJPEG and raw video put it between two. A stream that does say otherwise is a
quarter of a chroma sample off here, and nowhere else.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from runtime.formats.source_image import KNOWN_NAMES, PictureFormat, picture_format_of

_LEFT_SITED_CODECS = frozenset({"h264", "h265"})
_KNOWN_TO_ALL = "yuv420p"


class SourceFrames:
    """Copies the pictures of one camera."""

    def __init__(self, codec: str) -> None:
        self._chroma_site = "left" if codec in _LEFT_SITED_CODECS else "center"
        self._reformatter = VideoReformatter()

    def copy(self, picture: av.VideoFrame, slot: NDArray[np.uint8]) -> PictureFormat:
        """Copy `picture` to the beginning of `slot` (flat), its planes one after another.

        Raises ValueError when the slot is too small: the message says how large it must be.
        """
        if picture.format.name not in KNOWN_NAMES:
            picture = self._reformatter.reformat(picture, format=_KNOWN_TO_ALL, threads=1)
        planes = [np.frombuffer(memoryview(plane), np.uint8) for plane in picture.planes]
        needed = sum(plane.nbytes for plane in planes)
        if needed > slot.nbytes:
            size = f"{picture.width}x{picture.height} {picture.format.name}"
            raise ValueError(f"a picture of {size} takes {needed} bytes and its slot has {slot.nbytes}")
        start = 0
        for plane in planes:
            slot[start : start + plane.nbytes] = plane
            start += plane.nbytes
        return picture_format_of(
            picture.format.name,
            picture.width,
            picture.height,
            tuple(plane.line_size for plane in picture.planes),
            colorspace=int(picture.colorspace),
            color_range=int(picture.color_range),
            chroma_site=self._chroma_site,
        )
