"""A decoded picture into memory that a GPU reads, as it is: copied plane by plane, neither scaled nor converted.

The counterpart of `preparation` for preprocessing on the device. Rows keep the decoder's pitch, so that a plane is one
copy; Python's lock is free meanwhile. What the bytes mean is told as a `PictureFormat`. A picture in a format that the
kernel does not know (10 bits, say) has none: it has to be prepared on the CPU.

Where chroma lies FFmpeg knows and PyAV does not show. H.264 and H.265 put it on the left luma sample unless the stream
says otherwise, which cameras do not; MJPEG and raw video put it between two. A stream that does say otherwise is a
quarter of a chroma sample off here, and nowhere else.
"""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from runtime.formats.source_image import KNOWN_NAMES, PictureFormat, picture_format_of

_LEFT_SITED_CODECS = frozenset({"h264", "h265"})


class SourcePicture:
    """A decoded picture of a stream with this codec."""

    def __init__(self, picture: av.VideoFrame, codec: str) -> None:
        self._picture = picture
        self._chroma_site = "left" if codec in _LEFT_SITED_CODECS else "center"

    @property
    def size_bytes(self) -> int:
        """How much memory its planes take."""
        return sum(plane.buffer_size for plane in self._picture.planes)

    @property
    def format(self) -> PictureFormat:
        """What its bytes mean. Raises ValueError: there is no word for it here."""
        picture = self._picture
        if picture.format.name not in KNOWN_NAMES:
            known = ", ".join(sorted(KNOWN_NAMES))
            raise ValueError(f"pictures of pixel format {picture.format.name} are not known there, only {known}")
        return picture_format_of(
            picture.format.name,
            picture.width,
            picture.height,
            tuple(plane.line_size for plane in picture.planes),
            colorspace=int(picture.colorspace),
            color_range=int(picture.color_range),
            chroma_site=self._chroma_site,
        )

    def copy(self, slot: NDArray[np.uint8]) -> None:
        """Copy its planes to the beginning of `slot` (flat), one after another.

        Raises ValueError when the slot is too small: the message says how large it must be.
        """
        planes = [np.frombuffer(memoryview(plane), np.uint8) for plane in self._picture.planes]
        needed = sum(plane.nbytes for plane in planes)
        if needed > slot.nbytes:
            size = f"{self._picture.width}x{self._picture.height} {self._picture.format.name}"
            raise ValueError(f"a picture of {size} takes {needed} bytes and its slot has {slot.nbytes}")
        start = 0
        for plane in planes:
            slot[start : start + plane.nbytes] = plane
            start += plane.nbytes
