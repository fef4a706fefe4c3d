"""Tiles for pictures of clips: a frame scaled to fit, its boxes with labels, a caption. RGB `[h, w, 3]` uint8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.formats.foxglove_messages import AnnotatedBox

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

BACKGROUND: Color = (18, 20, 24)
TEXT: Color = (235, 238, 242)
MUTED: Color = (140, 146, 156)
ACCENT: Color = (255, 196, 64)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPTION_SCALE = 0.42
_DEFAULT_ASPECT = 3 / 4
#: Of a tile; a narrower picture is shown small in it.
_MAX_ASPECT = 4.0
_LABEL_SCALE = 0.34
#: Boxes reach this far at most, in pixels of the tile: OpenCV counts in 32 bits, and annotations may say anything.
_FARTHEST_PX = 10_000.0
#: No picture is so wide that more of a text could be seen.
_MAX_TEXT_CHARACTERS = 400


def canvas(width: int, height: int, color: Color = BACKGROUND) -> Image:
    """A plain image."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = color
    return image


def tile(frame: Image, boxes: Sequence[AnnotatedBox], width: int, height: int, boxes_width: int | None = None) -> Image:
    """The frame scaled into `width` x `height` with its aspect kept, boxes drawn at the tile's resolution.

    `boxes_width` is that of the picture which the boxes are in, where it is not the frame itself.
    """
    source_height, source_width = frame.shape[:2]
    scale = min(width / source_width, height / source_height)
    shown_width, shown_height = max(1, round(source_width * scale)), max(1, round(source_height * scale))
    shown = np.ascontiguousarray(cv2.resize(frame, (shown_width, shown_height), interpolation=cv2.INTER_AREA), np.uint8)
    for box in boxes:
        _draw_box(shown, box, shown_width / (boxes_width or source_width))
    image = canvas(width, height, (0, 0, 0))
    left, top = (width - shown_width) // 2, (height - shown_height) // 2
    image[top : top + shown_height, left : left + shown_width] = shown
    return image


def tile_height_px(width: int, aspects: Iterable[float]) -> int:
    """Of all tiles: that of the first picture, as far as a tile can be looked at; `aspects` are height over width."""
    aspect = next(iter(aspects), _DEFAULT_ASPECT)
    return round(width * min(max(aspect, 1 / _MAX_ASPECT), _MAX_ASPECT))


def empty_tile(width: int, height: int, text: str) -> Image:
    """Stands for a camera that has no picture."""
    image = canvas(width, height, (32, 34, 40))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, _CAPTION_SCALE, 1)
    _text(image, text, ((width - text_width) // 2, (height + text_height) // 2), MUTED, _CAPTION_SCALE)
    return image


def caption(image: Image, text: str, color: Color = TEXT) -> None:
    """Write into the lower left corner, on a darkened strip."""
    height = image.shape[0]
    strip = image[height - 18 :, :]
    strip[:] = (strip * 0.35).astype(np.uint8)
    _text(image, text, (6, height - 5), color, _CAPTION_SCALE)


def title_bar(width: int, text: str, detail: str, color: Color = TEXT) -> Image:
    """A strip with a title at the left and a detail at the right; the detail is dropped where both do not fit."""
    bar, text = canvas(width, 30), text[:_MAX_TEXT_CHARACTERS]
    _text(bar, text, (8, 20), color, 0.5)
    (title_width, _), _ = cv2.getTextSize(text, _FONT, 0.5, 1)
    (detail_width, _), _ = cv2.getTextSize(detail, _FONT, _CAPTION_SCALE, 1)
    if title_width + detail_width + 32 < width:
        _text(bar, detail, (width - detail_width - 8, 20), MUTED, _CAPTION_SCALE)
    return bar


def grid(tiles: Sequence[Image], columns: int, gap_px: int = 4) -> Image:
    """Tiles of one size, row by row."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    image = canvas(columns * (width + gap_px) + gap_px, rows * (height + gap_px) + gap_px)
    for index, item in enumerate(tiles):
        top = gap_px + (index // columns) * (height + gap_px)
        left = gap_px + (index % columns) * (width + gap_px)
        image[top : top + height, left : left + width] = item
    return image


def write_png(path: Path, image: Image) -> None:
    """OSError when the picture cannot be written."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise OSError(f"{path}: OpenCV cannot encode a PNG of {image.shape[1]}x{image.shape[0]}")
    path.write_bytes(data.tobytes())


def _draw_box(image: Image, box: AnnotatedBox, scale: float) -> None:
    x0, y0, x1, y1 = (round(min(max(value * scale, -_FARTHEST_PX), _FARTHEST_PX)) for value in box.box_px)
    red, green, blue = (round(min(max(channel, 0.0), 1.0) * 255) for channel in box.color)
    color: Color = (red, green, blue)
    cv2.rectangle(image, (x0, y0), (x1, y1), color, 1, cv2.LINE_AA)
    label = box.label[:_MAX_TEXT_CHARACTERS]
    (width, height), _ = cv2.getTextSize(label, _FONT, _LABEL_SCALE, 1)
    top = y0 - height - 4 if y0 - height - 4 >= 0 else y0
    left = max(0, min(x0, image.shape[1] - width - 4))  # at the right edge a label moves in, else nobody can read it
    cv2.rectangle(image, (left, top), (left + width + 4, top + height + 4), color, cv2.FILLED)
    _text(image, label, (left + 2, top + height + 1), (10, 10, 10), _LABEL_SCALE)


def _text(image: Image, text: str, position: tuple[int, int], color: Color, scale: float) -> None:
    cv2.putText(image, text, position, _FONT, scale, color, 1, cv2.LINE_AA)
