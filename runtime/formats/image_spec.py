"""How a network wants its images, and the way back from its pixels to the camera's.

`ImageSpec` says to which size, colour order and fit a source image is brought; `Geometry` is the mapping that one
source size got under a spec. Both are pure values: the same spec and the same source size always give the same
geometry, so boxes of a live run and of its replay agree to the last bit.

A point maps as `network_px = source_px * scale + offset`. `stretch` fills the whole image and scales each axis by
itself; `letterbox` keeps the aspect ratio, puts the image top-left (the convention of YOLOX) and leaves `pad_value`
to the right or below.

A spec that cannot be is refused when it is made (`ValueError`), with the field, the value and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLORS = ("rgb", "bgr")
RESIZES = ("stretch", "letterbox")

#: Larger than any network input or camera here; a corrupt size must not become an allocation.
MAX_SIDE_PX = 16_384


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """The images that a network takes: planar uint8 `[3, height, width]` in the order `color`."""

    width: int
    height: int
    color: str = "rgb"
    resize: str = "stretch"
    pad_value: int = 114

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if not 1 <= value <= MAX_SIDE_PX:
                raise ValueError(f"image {name} is {value}; it must be 1 to {MAX_SIDE_PX}")
        if self.color not in COLORS:
            raise ValueError(f"image color is {self.color!r}; it must be one of {', '.join(COLORS)}")
        if self.resize not in RESIZES:
            raise ValueError(f"image resize is {self.resize!r}; it must be one of {', '.join(RESIZES)}")
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"image pad_value is {self.pad_value}; it must be 0 to 255")

    @property
    def plane_shape(self) -> tuple[int, int, int]:
        """Shape of one prepared image: `[3, height, width]`."""
        return (3, self.height, self.width)

    def geometry(self, source_width: int, source_height: int) -> Geometry:
        """The mapping from a source image of this size into this spec."""
        if source_width < 1 or source_height < 1:
            raise ValueError(f"source image is {source_width}x{source_height}; both sides must be at least 1")
        content_width, content_height = self._content_size(source_width, source_height)
        return Geometry(
            scale_x=content_width / source_width,
            scale_y=content_height / source_height,
            offset_x=0.0,
            offset_y=0.0,
            source_width=source_width,
            source_height=source_height,
            content_width=content_width,
            content_height=content_height,
        )

    def _content_size(self, source_width: int, source_height: int) -> tuple[int, int]:
        if self.resize == "stretch":
            return self.width, self.height
        ratio = min(self.width / source_width, self.height / source_height)
        fitted_width = max(1, min(self.width, int(source_width * ratio)))
        fitted_height = max(1, min(self.height, int(source_height * ratio)))
        return fitted_width, fitted_height


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a source image lies within a prepared one: `network_px = source_px * scale + offset`."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    source_width: int
    source_height: int
    content_width: int  # pixels of the prepared image that hold the source; the rest is padding
    content_height: int

    def boxes_to_source(self, boxes: NDArray[np.float32], clip: bool = True) -> NDArray[np.float32]:
        """Boxes `[K, 4]` (x0, y0, x1, y1) from network pixels to source pixels, clipped to the source image."""
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)
        offset = np.array([self.offset_x, self.offset_y, self.offset_x, self.offset_y], np.float32)
        mapped = (np.asarray(boxes, np.float32).reshape(-1, 4) - offset) / scale
        if clip:
            np.clip(mapped[:, 0::2], 0.0, float(self.source_width), out=mapped[:, 0::2])
            np.clip(mapped[:, 1::2], 0.0, float(self.source_height), out=mapped[:, 1::2])
        return mapped

    def boxes_to_network(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes `[K, 4]` from source pixels to network pixels; the inverse of `boxes_to_source` without clipping."""
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)
        offset = np.array([self.offset_x, self.offset_y, self.offset_x, self.offset_y], np.float32)
        return np.asarray(boxes, np.float32).reshape(-1, 4) * scale + offset
