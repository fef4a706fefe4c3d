"""How large a JPEG's picture is, read from its header before anything is decoded (ITU-T T.81, annex B).

A few bytes can claim a picture of four gigapixels, and a decoder would believe them.
"""

from __future__ import annotations

import struct

_START_OF_IMAGE = b"\xff\xd8"
#: Every start of frame, baseline to arithmetic; in between lie the tables DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers that stand alone: TEM and the restarts.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADER = struct.Struct(">BHH")  # precision, height, width


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height; None where it is no JPEG, or ends before it says so."""
    position = 2 if data.startswith(_START_OF_IMAGE) else len(data)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1  # padding
        elif marker in _ALONE:
            position += 2
        elif marker in _START_OF_FRAME:
            return _size_in(data, position + 4)
        else:
            position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
    return None


def _size_in(data: bytes, start: int) -> tuple[int, int] | None:
    if start + _FRAME_HEADER.size > len(data):
        return None
    _, height, width = _FRAME_HEADER.unpack_from(data, start)
    return width, height
