"""How large a JPEG's picture is, read from its header alone: so that one from elsewhere can be refused before a decoder
makes room for it.

Stricter than decoders are: a header with anything between its segments, or without a frame before its first scan, is
no JPEG here. ITU-T T.81, annex B: a marker is FF and a byte that is neither 00 nor FF; most carry two bytes of length.
"""

from __future__ import annotations

_START_OF_IMAGE = b"\xff\xd8\xff"
#: SOF0 to SOF15 but DHT (C4), JPG (C8) and DAC (CC), which share their range (table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: No segment with a length follows these: TEM, RST0 to RST7, SOI, EOI; and SOS begins the picture itself.
_ENDS_HEADER = frozenset({0x00, 0x01, *range(0xD0, 0xDB)})


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None when `data` is no JPEG whose header says them."""
    if not data.startswith(_START_OF_IMAGE):
        return None
    position = 2
    while data[position : position + 1] == b"\xff":
        while data[position : position + 1] == b"\xff":  # any number of them may stand before a marker's second byte
            position += 1
        marker, length = data[position : position + 1], int.from_bytes(data[position + 1 : position + 3], "big")
        if not marker or marker[0] in _ENDS_HEADER or length < 2:
            return None
        if marker[0] in _FRAMES:
            return _frame_size(data[position + 3 : position + 1 + length])
        position += 1 + length
    return None


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """From a frame header: precision (1 byte), height and width (2 bytes each)."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return (width, height) if len(frame) >= 5 and width and height else None
